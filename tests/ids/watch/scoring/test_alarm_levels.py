"""The levels of a watch: one step stricter for each episode that alarms, by the server's rule, whatever the restarts."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mods_grpc.alarm_rules.adaptation import START_MULTIPLIER, Adaptation
from mods_grpc.alarm_rules.episode_rule import next_phase
from mods_grpc.alarm_rules.extent import HOLD_P, make_extent_rule
from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.ids.watch.scoring.alarm_levels import AlarmLevels

START, SLIDE = datetime(2026, 3, 2, tzinfo=UTC), timedelta(minutes=10)
RULE = Adaptation(6 / 144)


def make_levels(significance=0.01, longest=86_400.0):
    levels = AlarmLevels(RULE, make_extent_rule(3_600, 600, longest))
    levels.significance = significance
    return levels


def judge(levels, p_values, first=0):
    """Return whether each window is anomalous."""
    flags = []
    for row, p in enumerate(p_values, first):
        verdict = levels.decide(
            Verdict(
                series="site", observe_time=START + row * SLIDE, status=VerdictStatus.SCORED, p_value=p, score=-float(np.log10(p))
            )
        )
        levels.update(verdict)
        flags.append(verdict.anomalous)
    return flags


def factor_of(levels):
    return levels.state()["factors"]["site"]


def test_levels_are_those_of_the_server_where_only_anomalous_windows_hold_episodes_open():
    generator = np.random.default_rng(2)
    p_values = np.where(generator.random(600) < 0.1, 10 ** -generator.uniform(1.2, 4.0, 600), 0.5)
    levels, factor, last, expected = make_levels(), 1.0, None, []
    for row, p in enumerate(p_values.tolist()):
        if HOLD_P >= p > 0.01 * factor:
            p_values[row] = 0.5
        anomalous = bool(p_values[row] <= 0.01 * factor)
        phase = next_phase(None if last is None else row - last, 6, anomalous=anomalous)
        factor = RULE.next_factor(factor, phase)
        last = row if anomalous else last if phase.name in {"ONGOING", "NONE"} else None
        expected.append(anomalous)
    assert judge(levels, p_values.tolist()) == expected
    assert factor_of(levels) == pytest.approx(factor)
    assert 10 < sum(expected) < 60


def test_an_episode_makes_the_level_stricter_once_however_many_windows_alarm():
    levels = make_levels()
    assert judge(levels, [1e-4, 0.03, 1e-4, *[0.04] * 30, 1e-4]) == [True, False, True, *[False] * 30, True]
    assert factor_of(levels) == START_MULTIPLIER


def test_an_episode_in_which_nothing_alarms_counts_as_quiet():
    levels = make_levels()
    judge(levels, [0.03] * 10)
    assert factor_of(levels) == pytest.approx(RULE.quiet_multiplier**10)


def test_the_level_stands_still_from_the_first_alarm_to_the_end_of_the_episode():
    levels = make_levels()
    judge(levels, [0.03, 1e-4, *[0.5] * 6])
    assert factor_of(levels) == pytest.approx(RULE.quiet_multiplier * START_MULTIPLIER)
    judge(levels, [0.5], 8)
    assert factor_of(levels) == pytest.approx(RULE.quiet_multiplier * START_MULTIPLIER)
    judge(levels, [0.5], 9)
    assert factor_of(levels) == pytest.approx(RULE.quiet_multiplier**2 * START_MULTIPLIER)


def test_an_episode_of_the_longest_time_makes_way_for_another():
    levels = make_levels(longest=7_200.0)
    judge(levels, [1e-6] * 25)
    assert factor_of(levels) == pytest.approx(START_MULTIPLIER**3)


def test_no_level_is_above_what_holds_an_episode_open():
    assert judge(make_levels(significance=0.5), [0.101, 0.2, 0.1]) == [False, False, True]


def test_levels_do_not_depend_on_restarts():
    p_values = (10 ** -np.random.default_rng(3).exponential(0.7, 300)).tolist()
    whole, resumed, flags = make_levels(longest=7_200.0), make_levels(longest=7_200.0), []
    for row, p in enumerate(p_values):
        state, resumed = json.loads(json.dumps(resumed.state())), make_levels(longest=7_200.0)
        resumed.restore(state)
        flags += judge(resumed, [p], row)
    assert flags == judge(whole, p_values)
    assert resumed.state() == whole.state()
    assert 5 < sum(flags) < 60
