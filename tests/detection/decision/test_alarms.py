"""Alarms: the level adapts to a series within bounds, drift is distinguished from anomalies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.alarm_rules.adaptation import MAX_FACTOR, MIN_FACTOR, START_MULTIPLIER, Adaptation
from mods_grpc.detection import Phase, SeriesTable
from mods_grpc.detection.decision.alarms import AlarmRule, ScoredRows, raise_alarm, raise_alarms

SLIDE = 600 * 10**9
WEEK = 7 * 144
RNG = np.random.default_rng(3)


def make_table(series=1):
    table = SeriesTable(1, 1)
    return table, np.array([table.allocate() for _ in range(series)])


def alarms(table, slots, p_value, significance=0.01, adapt=True, extremal_index=1.0, first=1):
    n, rule = len(p_value), Adaptation(significance * extremal_index) if adapt else None
    return raise_alarms(
        table,
        ScoredRows(slots=slots, times=(first + np.arange(n)) * SLIDE, p_value=np.asarray(p_value, float)),
        AlarmRule(significance=significance, extremal_index=extremal_index, holdoff=2 * SLIDE, adaptation=rule),
    )


def over_time(table, slot, p_value, **options):
    return alarms(table, np.full(len(p_value), slot), p_value, **options)


@pytest.mark.parametrize("excess", [0.5, 1.0, 4.0])
def test_the_rate_of_episodes_converges_to_the_budget_though_p_values_are_not_uniform(excess):
    table, (slot,) = make_table()
    p_value = np.minimum(RNG.uniform(size=200_000) / excess, 1.0)
    alarms_raised = over_time(table, slot, p_value)
    rate = (alarms_raised.phase[100_000:] == Phase.STARTED).mean()
    assert rate == pytest.approx(0.01, rel=0.15)
    fixed = over_time(*[make_table()[0], 0], p_value, adapt=False)
    assert (fixed.phase == Phase.STARTED).mean() == pytest.approx(0.01 * excess, rel=0.25)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-12, 0), min_size=1, max_size=20), st.floats(1e-6, 0.1))
def test_a_ramp_of_a_week_does_not_move_the_level_beyond_its_bound(knots, significance):
    """Whatever course the evidence takes, a row a hundred times stranger than the level asks for is an alarm."""
    table, (slot,) = make_table()
    p_value = 10.0 ** np.interp(np.linspace(0, 1, WEEK), np.linspace(0, 1, len(knots)), knots)
    alarms_raised = over_time(table, slot, p_value, significance=significance)
    assert MIN_FACTOR <= table.factor[slot] <= MAX_FACTOR
    assert alarms_raised.anomalous[p_value < significance * MIN_FACTOR * (1 - 1e-9)].all()
    starts = int((alarms_raised.phase == Phase.STARTED).sum())
    assert table.factor[slot] >= START_MULTIPLIER**starts * (1 - 1e-9)


def test_the_level_does_not_move_while_an_episode_is_open():
    table, (slot,) = make_table()
    over_time(table, slot, [0.001])
    before = table.factor[slot]
    over_time(table, slot, [0.001] * WEEK, first=2)
    assert table.factor[slot] == before


def test_p_values_that_are_a_little_too_small_are_drift_and_a_few_tiny_ones_are_not():
    table, (slot,) = make_table()
    ordinary = RNG.uniform(size=20_000)
    ordinary[::2000] = 1e-12
    assert not over_time(table, slot, ordinary).drift.any()
    alarms_raised = over_time(table, slot, RNG.uniform(size=2000) ** 2, first=30_000)
    assert alarms_raised.drift[200:].all()
    assert not alarms_raised.anomalous[200:].all()
    assert not over_time(table, slot, RNG.uniform(size=2000), first=40_000).drift[-500:].any()


@pytest.mark.parametrize("adapt", [False, True], ids=["fixed", "adapting"])
def test_rows_raise_the_same_alarms_one_by_one_vectorised_and_series_by_series(adapt):
    """Three ways to take the same rows into account; of logarithms the last bit may differ."""
    series, steps = 7, 400
    p_value = 10.0 ** -RNG.gamma(1.0, np.where(np.arange(steps) % 90 < 12, 2.5, 0.3)[:, None], (steps, series))
    p_value[300:360, 2] = 0.03  # drift
    rule = AlarmRule(significance=0.02, extremal_index=0.7, holdoff=2 * SLIDE, adaptation=Adaptation(0.014) if adapt else None)
    times = np.arange(1, steps + 1) * SLIDE

    def in_columns(table, slots):
        rows = (
            ScoredRows(slots=slots, times=np.repeat(time, series), p_value=row) for time, row in zip(times, p_value, strict=True)
        )
        return [raise_alarms(table, step, rule) for step in rows]

    def one_by_one(table, slots):
        return [
            [raise_alarm(table, int(slot), int(time), float(p), rule) for slot, p in zip(slots, row, strict=True)]
            for time, row in zip(times, p_value, strict=True)
        ]

    def mixed(table, slots):
        rows = ScoredRows(slots=np.tile(slots, steps), times=times.repeat(series), p_value=p_value.ravel())
        return raise_alarms(table, rows, rule)

    tables = [make_table(series) for _ in range(3)]
    columns, single, whole = (
        way(*table_and_slots) for way, table_and_slots in zip((in_columns, one_by_one, mixed), tables, strict=True)
    )
    for name in ("score", "anomalous", "drift", "phase", "start", "peak_time", "peak"):
        expected = getattr(whole, name)
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(np.concatenate([getattr(step, name) for step in columns]), expected, err_msg=name)
        actual = np.array([getattr(one, name) for step in single for one in step])
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=0, err_msg=name)
    for one, other, another in zip(*(table._arrays() for table, _ in tables), strict=True):
        np.testing.assert_array_equal(one, another)
        np.testing.assert_allclose(other, another, rtol=1e-12)
