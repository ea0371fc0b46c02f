"""What is learned of a changed level: how it moved, within bounds, one step a day, and when a series counts as not judged."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mods_grpc.alarm_rules.extent import make_extent_rule
from mods_grpc.client import FeatureVerdict, Verdict, VerdictStatus
from mods_grpc.client.results import FeatureInfo
from mods_grpc.ids.watch.scoring.level_correction import HOURS, MAX_FACTOR, MAX_OFFSET, LevelCorrections, fit_step

START, SLIDE = datetime(2026, 3, 2, tzinfo=UTC), timedelta(minutes=10)
DAY = 144
HOUR = np.arange(HOURS)
QUIET_DAY = np.stack([100 + 50 * np.sin(HOUR / 4), 40 + 10 * np.cos(HOUR / 4)], axis=1)
KINDS = ("count", "mean")
LOGARITHMIC = np.array([True, False])


def make_corrections():
    features = [
        FeatureInfo(name=name, unit="", protocol="conn", column=name, kind=kind, training_minimum=0.0, training_maximum=200.0)
        for name, kind in zip(("conn_in", "gap"), KINDS, strict=True)
    ]
    return LevelCorrections(features, make_extent_rule(3_600, 600, 86_400.0), "v1")


def feed(corrections, first, rows, p_value, values, series="site"):
    """Feed windows with a p-value, and values by row; return the rows after which the correction changed."""
    changes = []
    for row in range(first, first + rows):
        verdict = Verdict(
            series=series,
            observe_time=START + row * SLIDE,
            status=VerdictStatus.SCORED,
            p_value=p_value,
            score=-float(np.log10(p_value)),
            anomalous=p_value <= 0.01,
        )
        if corrections.update(verdict, values(row)):
            changes.append(row)
    return changes


def usual(row):
    return QUIET_DAY[row // 6 % HOURS]


def statuses(corrections):
    return [(each.series, each.step, each.is_judged) for each in corrections.list_changes()]


def test_the_move_that_explains_a_feature_better_is_taken():
    generator = np.random.default_rng(1)
    noise = generator.normal(0, 3, QUIET_DAY.shape)
    offset, factor = fit_step(QUIET_DAY, QUIET_DAY + np.array([300, 0]) + noise, LOGARITHMIC)
    assert offset == pytest.approx([300, 0], abs=3)
    assert factor.tolist() == [1, 1]
    offset, factor = fit_step(QUIET_DAY, QUIET_DAY * np.array([3, 1]) + noise, LOGARITHMIC)
    assert factor == pytest.approx([3, 1], abs=0.1)
    assert offset.tolist() == [0, 0]
    offset, factor = fit_step(QUIET_DAY, QUIET_DAY * np.array([2.5, 1]) + np.array([500, 0]) + noise / 3, LOGARITHMIC)
    assert (offset, factor) == (pytest.approx([500, 0], abs=25), pytest.approx([2.5, 1], abs=0.2))


def test_what_is_not_a_moved_level_is_not_fitted():
    wild = QUIET_DAY * np.random.default_rng(2).lognormal(0, 2, QUIET_DAY.shape)
    assert fit_step(QUIET_DAY, wild, LOGARITHMIC) is None
    assert fit_step(QUIET_DAY, QUIET_DAY, LOGARITHMIC) is None
    barely = np.full_like(QUIET_DAY, np.nan)
    barely[:5] = QUIET_DAY[:5]
    assert fit_step(barely, QUIET_DAY + 300, LOGARITHMIC) is None
    assert fit_step(QUIET_DAY, np.where(np.isnan(barely), np.nan, QUIET_DAY + 300), LOGARITHMIC) is None


def test_a_feature_that_is_mostly_zero_moves_by_an_offset():
    zeros = np.zeros((HOURS, 1))
    offset, factor = fit_step(zeros, zeros + 7, LOGARITHMIC[:1])
    assert (offset.tolist(), factor.tolist()) == ([7], [1])
    offset, factor = fit_step(zeros + 7, zeros, LOGARITHMIC[:1])  # an outage
    assert (offset.tolist(), factor.tolist()) == ([-7], [1])


def test_a_changed_level_is_sent_moved_back_under_another_name():
    corrections = make_corrections()
    assert feed(corrections, 0, DAY, 0.5, usual) == []
    assert corrections.wire_name("site") == "site"
    assert feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) * 4) == [2 * DAY - 1]
    assert corrections.wire_name("site") == "site ~1"
    sent = corrections.correct(["lab", "site"], np.array([[400.0, 160.0], [400.0, 160.0]]))
    assert sent[0].tolist() == [400, 160]
    assert sent[1] == pytest.approx([100, 40])
    assert statuses(corrections) == [("site", 1, True)]
    assert corrections.list_changes()[0].how == "conn_in 4 times what it was, gap 4 times what it was"
    assert corrections.list_changes()[0].since == START + DAY * SLIDE


def test_counts_are_never_sent_below_zero_and_means_may_be():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) + 500)
    sent = corrections.correct(["site"], np.array([[20.0, 20.0]]))[0]
    assert sent[0] == 0
    assert sent[1] == pytest.approx(-480, abs=1)


def test_a_verdict_says_the_values_as_they_were():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) * [4, 1])
    features = tuple(
        FeatureVerdict(feature=name, observed=observed, expected=100.0, lower=80.0, upper=120.0, p_value=1e-5, share=share)
        for name, observed, share in (("conn_in", 500.0, 0.9), ("gap", None, 0.1))
    )
    verdict = Verdict(
        series="site",
        observe_time=START,
        status=VerdictStatus.SCORED,
        p_value=1e-4,
        score=4.0,
        features=features,
        reason="conn_in 500, above expected 100 (80-120), p = 0.0001; 90 % of the score",
    )
    restored = corrections.find("site").restore(verdict, 1e-4, np.array([2_000.0, np.nan]))
    assert restored.reason == "conn_in 2,000, above expected 400 (320-480), p = 0.0001; 90 % of the score"
    named = restored.features[0]
    assert [named.observed, named.expected, named.lower, named.upper] == pytest.approx([2_000, 400, 320, 480])
    assert restored.features[1].observed is None
    assert restored.features[1].expected == 100


def test_an_episode_without_alarm_or_with_few_unusual_windows_teaches_nothing():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    assert feed(corrections, DAY, DAY, 0.04, lambda row: usual(row) * 4) == []
    for row in range(2 * DAY, 4 * DAY):
        assert feed(corrections, row, 1, 1e-4 if row % 6 == 0 else 0.5, lambda row: usual(row) * 4) == []
    assert statuses(corrections) == []


def test_an_attacker_moves_the_level_once_a_day_and_never_beyond_the_bounds():
    corrections, changes = make_corrections(), []
    feed(corrections, 0, DAY, 0.5, usual)
    for day in range(1, 9):
        changes += feed(corrections, day * DAY, DAY, 1e-4, lambda row: usual(row) * 3.0 ** (row // DAY))
    assert changes == [(day + 1) * DAY - 1 for day in range(1, 1 + len(changes))]
    assert 0 < len(changes) < 8
    assert corrections.find("site").factor.max() <= MAX_FACTOR
    assert statuses(corrections)[-1] == ("site", 1, False)

    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    assert feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) + MAX_OFFSET * 200) == []
    assert statuses(corrections) == [("site", 1, False)]


def test_a_day_that_no_move_explains_is_tried_again_from_the_next_day():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    assert feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) * [20.0 ** (-1) ** (row // 6), 1]) == []
    assert statuses(corrections) == [("site", 1, False)]
    assert feed(corrections, 2 * DAY, DAY, 1e-4, lambda row: usual(row) * 5) == [3 * DAY - 1]
    assert statuses(corrections) == [("site", 1, False)]
    assert feed(corrections, 3 * DAY, DAY, 0.5, lambda row: usual(row) * 5) == []
    assert statuses(corrections) == [("site", 1, True)]


def test_a_correction_that_does_not_fit_is_made_anew_after_a_day_also_if_no_episode_lasts_a_day():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) * 5)
    changes = []
    for row in range(2 * DAY, 3 * DAY):
        changes += feed(corrections, row, 1, 1e-4 if row % 20 < 12 else 0.5, lambda row: usual(row) * 8)
    assert changes == [3 * DAY - 1]
    assert corrections.correct(["site"], np.array([[800.0, 320.0]]))[0] == pytest.approx([100, 40], rel=0.01)


def test_steps_add_up_and_a_level_that_comes_back_needs_no_correction():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) * 3)
    assert feed(corrections, 2 * DAY, DAY, 1e-4, lambda row: usual(row) * 3 + 900) == [3 * DAY - 1]
    assert corrections.correct(["site"], np.array([[1_200.0, 1_020.0]]))[0] == pytest.approx([100, 40], rel=0.01)
    assert statuses(corrections) == [("site", 1, False)]  # until a day after a step is ordinary
    feed(corrections, 3 * DAY, DAY, 0.5, lambda row: usual(row) * 3 + 900)
    assert statuses(corrections) == [("site", 2, True)]
    assert feed(corrections, 4 * DAY, DAY, 1e-4, usual) == [5 * DAY - 1]
    assert corrections.find("site").is_identity
    assert corrections.wire_name("site") == "site ~3"
    assert statuses(corrections) == []


def test_a_series_of_which_nothing_is_known_is_not_judged_until_a_day_is_ordinary():
    corrections = make_corrections()
    assert feed(corrections, 0, DAY, 1e-4, usual) == []
    assert statuses(corrections) == [("site", 1, False)]
    feed(corrections, DAY, 2 * DAY, 1e-4, usual)
    assert statuses(corrections) == [("site", 1, False)]
    feed(corrections, 3 * DAY, DAY - 1, 0.5, usual)
    assert statuses(corrections) == [("site", 1, False)]
    feed(corrections, 4 * DAY - 1, 1, 0.5, usual)
    assert statuses(corrections) == []


def test_another_version_of_the_model_begins_without_corrections():
    corrections = make_corrections()
    feed(corrections, 0, DAY, 0.5, usual)
    feed(corrections, DAY, DAY, 1e-4, lambda row: usual(row) * 4)
    assert corrections.follow("v1") == []
    assert corrections.follow("v2") == ["site"]
    assert corrections.wire_name("site") == "site ~2"
    assert corrections.correct(["site"], np.array([[400.0, 160.0]])).tolist() == [[400, 160]]
    assert statuses(corrections) == []
    assert corrections.follow("v2") == []
    feed(corrections, 2 * DAY, DAY, 0.5, lambda row: usual(row) * 4)
    assert feed(corrections, 3 * DAY, DAY, 1e-4, lambda row: usual(row) * 8) == [4 * DAY - 1]
    assert corrections.find("site").factor == pytest.approx([2, 2], rel=0.02)


def test_corrections_do_not_depend_on_restarts():
    generator = np.random.default_rng(4)
    p_values = np.where(np.arange(6 * DAY) // DAY % 2, 1e-4, 10 ** -generator.exponential(0.4, 6 * DAY))
    noise = generator.lognormal(0, 0.05, (6 * DAY, 2))
    whole, resumed = make_corrections(), make_corrections()
    for row in range(6 * DAY):
        values = usual(row) * noise[row] * 3.0 ** (row // DAY // 2 + row // DAY % 2)
        for series in ("site", "lab"):
            state, resumed = json.loads(json.dumps(resumed.state())), make_corrections() if row % 7 == 0 else resumed
            if row % 7 == 0:
                resumed.restore(state)
            changed = [feed(each, row, 1, float(p_values[row]), lambda _: values, series) for each in (whole, resumed)]  # noqa: B023
            assert changed[0] == changed[1]
    assert resumed.state() == whole.state()
    assert whole.find("site").generation == 3
