"""The budget of all series together: how many alarms come, whose they are, and what is kept across a restart."""

import json

import numpy as np
import pytest

from mods_grpc.alarm_rules.adaptation import START_MULTIPLIER
from mods_grpc.alarm_rules.total_budget import BURST_FACTOR, TotalBudget, learning_budget

SLIDE_NS = 600 * 10**9
ROWS_A_DAY = 144
NOISY = 40  # of the series: ten times too many small p-values


def make_rule(total=5.0):
    rule = TotalBudget(total, 600, SLIDE_NS)
    rule.lenient_level = learning_budget(600) / ROWS_A_DAY
    return rule


def names_of(count):
    return [f"host-{index}" for index in range(count)]


def simulate(days, series=400):
    p_value = np.random.default_rng(1).random((days * ROWS_A_DAY, series))
    p_value[:, :NOISY] /= 10
    return np.maximum(p_value, 1e-5)


def run(rule, p_values, first=0):
    names = names_of(p_values.shape[1])
    return np.array([row <= rule.judge(names, (first + index) * SLIDE_NS, row) for index, row in enumerate(p_values)])


@pytest.mark.parametrize("total", [2.0, 10.0, 40.0])
def test_all_series_together_raise_the_total(total):
    days = 20
    raised = run(make_rule(total), simulate(days))[ROWS_A_DAY:].sum() / (days - 1)
    assert 0.75 * total <= raised <= 1.5 * total


def test_series_that_come_often_need_more():
    rule, p_values = make_rule(), simulate(10)
    anomalous = run(rule, p_values)[3 * ROWS_A_DAY :]
    # by one level for all, half of the alarms would be those of the tenth of the series with ten times too many
    assert anomalous[:, :NOISY].sum() < 0.35 * anomalous.sum()
    levels = rule.judge(names_of(400), 10 * ROWS_A_DAY * SLIDE_NS, np.ones(400))
    assert np.median(levels[:NOISY]) < np.median(levels[NOISY:]) / 5


def test_the_order_of_the_series_makes_no_difference():
    one, other, p_values = make_rule(), make_rule(), simulate(2)
    order = np.random.default_rng(2).permutation(400)
    names = names_of(400)
    for index, row in enumerate(p_values):
        levels = one.judge(names, index * SLIDE_NS, row)
        shuffled = other.judge([names[at] for at in order], index * SLIDE_NS, row[order])
        assert (levels[order] == shuffled).all()


def test_a_restart_changes_no_level():
    through, before, p_values = make_rule(), make_rule(), simulate(4)
    expected = run(through, p_values)
    half = 2 * ROWS_A_DAY + 7
    run(before, p_values[:half])
    after = make_rule()
    after.restore(json.loads(json.dumps(before.state())))
    assert (run(after, p_values[half:], half) == expected[half:]).all()
    assert after.common_factor == through.common_factor
    assert after.live == 400


def test_a_damaged_state_is_refused():
    state = make_rule().state()
    with pytest.raises(ValueError, match="another number"):
        make_rule().restore(state | {"series": ["one"]})


def test_an_attack_on_many_makes_no_series_deaf():
    rule, p_values = make_rule(), simulate(6)
    run(rule, p_values)
    before = rule.common_factor
    attack = np.full((1, 400), 1e-5)
    attacked = run(rule, attack, len(p_values))
    assert attacked[:, NOISY:].sum() > 300
    assert rule.common_factor > before / BURST_FACTOR / 2
    run(rule, np.ones((ROWS_A_DAY, 400)), len(p_values) + 1)
    assert rule.common_factor > before


def test_a_series_that_is_gone_leaves_its_share_to_the_others():
    rule = make_rule(10.0)
    rule.judge(names_of(400), 0, np.ones(400))
    assert rule.share == 10 / 400
    for row in range(1, ROWS_A_DAY + 1):
        rule.judge(names_of(100), row * SLIDE_NS, np.ones(100))
    assert rule.live == 100
    assert rule.share == 0.1
    assert rule.level == pytest.approx(0.1 / ROWS_A_DAY)


def test_series_that_are_long_gone_are_forgotten():
    rule, day = make_rule(), ROWS_A_DAY * SLIDE_NS
    for week in range(20):
        names = [f"guest-{week}-{index}" for index in range(100)]
        rule.judge([*names, "host-0"], week * 8 * day, np.ones(101))
    assert len(rule.state()["series"]) < 500  # of 2,001
    assert rule.live == 101


def test_an_outage_is_no_time_without_alarms():
    rule = make_rule()
    run(rule, simulate(2))
    before = rule.common_factor
    rule.judge(names_of(400), 30 * ROWS_A_DAY * SLIDE_NS, np.ones(400))
    assert rule.common_factor < before * 1.02


def test_an_alarm_that_was_right_leaves_all_levels_as_they_would_be_without_it():
    p_values = simulate(4)
    calm, disturbed = make_rule(), make_rule()
    run(calm, p_values)
    run(disturbed, p_values)
    quiet, attack = np.ones(400), np.ones(400)
    attack[NOISY + 7] = 1e-5
    calm.judge(names_of(400), 4 * ROWS_A_DAY * SLIDE_NS, quiet)
    (index,) = np.flatnonzero(attack <= disturbed.judge(names_of(400), 4 * ROWS_A_DAY * SLIDE_NS, attack))
    assert disturbed.common_factor == pytest.approx(calm.common_factor * START_MULTIPLIER)
    disturbed.forgive(f"host-{index}")
    later = (4 * ROWS_A_DAY + 1) * SLIDE_NS
    expected = calm.judge(names_of(400), later, quiet)
    assert disturbed.judge(names_of(400), later, quiet) == pytest.approx(expected, rel=0.01)  # of one quiet row


def test_undoing_each_of_many_alarms_at_once_gives_back_no_more_than_they_took():
    rule, p_values = make_rule(10.0), simulate(6)
    run(rule, p_values)
    before = rule.common_factor
    (alarmed,) = np.nonzero(rule.judge(names_of(400), 6 * ROWS_A_DAY * SLIDE_NS, np.full(400, 1e-5)) >= 1e-5)
    assert len(alarmed) > 300
    assert rule.common_factor < before / 2
    for name in [*(f"host-{index}" for index in alarmed), "unknown"] * 2:
        rule.forgive(name)
    assert rule.common_factor == pytest.approx(before, rel=0.05)  # time went on


def test_what_an_alarm_took_is_there_after_a_restart():
    rule, p_values = make_rule(), simulate(3)
    run(rule, p_values)
    attack = np.ones(400)
    attack[NOISY + 7] = 1e-5
    rule.judge(names_of(400), 3 * ROWS_A_DAY * SLIDE_NS, attack)
    restored = make_rule()
    restored.restore(json.loads(json.dumps(rule.state())))
    strict = rule.common_factor
    for each in (rule, restored):
        each.forgive(f"host-{NOISY + 7}")
    assert restored.state() == rule.state()
    assert restored.common_factor == pytest.approx(strict / START_MULTIPLIER)
