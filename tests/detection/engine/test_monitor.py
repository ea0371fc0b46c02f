"""The detector over time: verdicts depend on the sequence of observations only."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Outcome, SeriesTable
from mods_grpc.errors import ModelOutputError
from tests.support.monitors import (
    DETECTOR,
    FEATURES,
    LEVELS,
    QUANTILES,
    RNG,
    ROWS,
    SLIDE,
    START,
    assert_same,
    copy_state,
    forecast_interval,
    forecast_mean,
    join_columns,
    make_monitor,
    make_times,
    observe,
    read_columns,
)

detectors = st.sampled_from([DETECTOR, QUANTILES])
either = pytest.mark.parametrize("detector", [DETECTOR, QUANTILES], ids=["forecast", "quantiles"])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), adapt=st.booleans(), detector=detectors)
def test_verdicts_do_not_depend_on_how_rows_are_split_into_calls(data, adapt, detector):
    n = data.draw(st.integers(1, 60))
    series = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 4, 9, 0, -1]), min_size=n, max_size=n))
    values = RNG.gamma(50.0, 20.0, (n, FEATURES))
    values[data.draw(st.lists(st.integers(0, n - 1), max_size=5)), 0] = np.nan
    values[data.draw(st.lists(st.integers(0, n - 1), max_size=5))] *= 30
    position = [0, 0, 0]
    times = np.zeros(n, np.int64)
    for i, which in enumerate(series):
        position[which] += steps[i]
        times[i] = START + position[which] * SLIDE * NANOS_PER_SECOND
    whole, slots = make_monitor(series=3, adapt=adapt, detector=detector)
    at_once = read_columns(observe(whole, slots[series], times, values))
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=8))})
    broken, _ = make_monitor(series=3, adapt=adapt, detector=detector)
    parts = [observe(broken, slots[series[a:b]], times[a:b], values[a:b]) for a, b in itertools.pairwise(cuts)]
    assert_same(at_once, join_columns(parts))
    np.testing.assert_array_equal(whole.table.last_time, broken.table.last_time)
    for name in ("pending", "factor", "wealth", "log_scale", "scale_rows"):
        np.testing.assert_array_equal(getattr(whole.table, name), getattr(broken.table, name))
    for slot in slots:
        for mine, other in zip(whole.table.history(slot), broken.table.history(slot), strict=True):
            np.testing.assert_array_equal(mine, other)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), adapt=st.booleans(), detector=detectors)
def test_verdicts_do_not_depend_on_the_order_of_series_in_a_call(data, adapt, detector):
    series = 4
    given_order, slots = make_monitor(series=series, adapt=adapt, detector=detector)
    other_order, _ = make_monitor(series=series, adapt=adapt, detector=detector)
    for row in range(data.draw(st.integers(1, 30))):
        values = RNG.gamma(50.0, 20.0, (series, FEATURES)) * data.draw(st.sampled_from([1, 1, 1, 30]))
        values[data.draw(st.integers(0, series - 1)), 0] = data.draw(st.sampled_from([1.0, 1e6, np.nan]))
        order, times = data.draw(st.permutations(range(series))), make_times(1, row).repeat(series)
        one = read_columns(observe(given_order, slots, times, values))
        other = read_columns(observe(other_order, slots[order], times, values[order]))
        assert_same({name: column[order] for name, column in one.items()}, other)
    for mine, theirs in zip(copy_state(given_order), copy_state(other_order), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_forecast_of_a_row_is_made_before_the_row_is_seen():
    monitor, slots = make_monitor()
    verdicts = observe(monitor, slots.repeat(6), make_times(6), LEVELS[:6])
    assert verdicts.outcome.tolist() == [Outcome.WARMING_UP] * 4 + [Outcome.SCORED] * 2
    np.testing.assert_allclose(verdicts.expected[4], LEVELS[:4].mean(0))
    np.testing.assert_allclose(verdicts.expected[5], LEVELS[1:5].mean(0))


@either
def test_a_gap_is_filled_with_forecasts_of_forecasts_and_counted(detector):
    monitor, slots = make_monitor(detector=detector)
    observe(monitor, slots.repeat(4), make_times(4), LEVELS[:4])
    verdicts = observe(monitor, slots, [make_times(1, 6)[0]], LEVELS[6:7])
    first = LEVELS[:4].mean(0)
    second = np.vstack([LEVELS[1:4], first]).mean(0)
    expected = np.vstack([LEVELS[2:4], first, second]).mean(0)
    assert verdicts.gap_filled.tolist() == [2]
    np.testing.assert_allclose(verdicts.expected[0], expected)


def test_a_gap_above_the_limit_starts_the_window_again():
    monitor, slots = make_monitor()
    observe(monitor, slots.repeat(5), make_times(5), LEVELS[:5])
    verdicts = observe(monitor, slots.repeat(5), make_times(5, 9), LEVELS[9:14])
    assert verdicts.outcome.tolist() == [Outcome.WARMING_UP] * 4 + [Outcome.SCORED]


def test_a_missing_value_is_not_scored_and_is_replaced_by_its_forecast():
    monitor, slots = make_monitor()
    observe(monitor, slots.repeat(4), make_times(4), LEVELS[:4])
    row = np.array([[np.nan, 1e9]])
    verdicts = observe(monitor, slots, make_times(1, 4), row)
    (feature_p,) = verdicts.explain(np.zeros(1, np.intp)).feature_p
    assert np.isnan(feature_p[0])
    assert feature_p[1] < 1e-3
    history, missing = monitor.table.history(int(slots[0]))
    assert missing[-1].tolist() == [True, False]
    np.testing.assert_allclose(history[-1], [LEVELS[:4, 0].mean(), 1e9])


@pytest.mark.parametrize(
    ("time", "row", "outcome"),
    [
        (make_times(1, 5)[0], LEVELS[5], Outcome.DUPLICATE),
        (make_times(1, 3)[0], LEVELS[3], Outcome.DUPLICATE),
        (make_times(1, 5)[0], LEVELS[0], Outcome.CONFLICT),
        (make_times(1, 0)[0], LEVELS[0], Outcome.LATE),
        (make_times(1, 6)[0] + 1, LEVELS[6], Outcome.OFF_GRID),
        (make_times(1, 6)[0], [np.nan, np.nan], Outcome.INCOMPLETE),
    ],
)
@either
def test_a_rejected_observation_changes_no_array(time, row, outcome, detector):
    monitor, slots = make_monitor(adapt=True, detector=detector)
    observe(monitor, slots.repeat(6), make_times(6), LEVELS[:6])
    before = copy_state(monitor)
    verdicts = observe(monitor, slots, [time], [row])
    assert verdicts.outcome.tolist() == [outcome]
    for old, new in zip(before, copy_state(monitor), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("detector", "forecast", "bad"),
    [(DETECTOR, forecast_mean, 0), (QUANTILES, forecast_interval, 0), (QUANTILES, forecast_interval, 2 * FEATURES)],
)
def test_a_forecast_that_is_not_finite_changes_no_series(detector, forecast, bad):
    broken = False

    def sometimes_broken(windows, times):
        path = forecast(windows, times)
        path[-1, -1, bad] *= np.nan if broken else 1.0
        return path

    good, slots = make_monitor(sometimes_broken, series=2, detector=detector)
    observe(good, slots.repeat(4), np.tile(make_times(4), 2), LEVELS[:8])
    before = copy_state(good)
    broken = True
    with pytest.raises(ModelOutputError):
        observe(good, slots, make_times(1, 4).repeat(2), LEVELS[8:10])
    with pytest.raises(ModelOutputError):
        good.observe_one(int(slots[0]), int(make_times(1, 4)[0]), LEVELS[8:9], significance=0.01)
    for old, new in zip(before, copy_state(good), strict=True):
        np.testing.assert_array_equal(old, new)


def test_consecutive_anomalous_rows_are_one_episode_with_start_peak_and_end():
    monitor, slots = make_monitor()
    values = np.tile(LEVELS.mean(0), (36, 1))
    values[10] *= 4
    values[11] *= 40
    verdicts = observe(monitor, slots.repeat(36), make_times(36), values)
    phases = verdicts.phase.tolist()
    assert phases[10] == 1
    assert phases.count(1) == 1
    assert phases.count(3) == 1
    ended = phases.index(3)
    anomalous = np.flatnonzero(verdicts.anomalous)
    assert ended == anomalous[-1] + 7
    assert verdicts.start[ended] == make_times(36)[10]
    assert verdicts.peak[ended] == verdicts.score[anomalous].max()
    assert phases[ended + 1 :] == [0] * (35 - ended)


def test_a_series_takes_the_documented_number_of_bytes():
    assert SeriesTable(37, 4, 16, 3).series_bytes == 37 * 4 * 9 + (16 + 3 * 12 + 3) * 4 * 4 + 96
    assert SeriesTable(37, 4, 16, 3, 2).series_bytes == 37 * 4 * 9 + (16 * 2 + 3 * 12 + 3) * 4 * 4 + 96


def test_a_forecast_of_several_steps_is_compared_with_its_row():
    seen, watched = [], copy.copy(DETECTOR)
    watched.score = lambda given, own: seen.append(given) or DETECTOR.score(given, own)
    monitor, slots = make_monitor(detector=watched)
    for row in range(12):
        observe(monitor, slots, make_times(1, row), LEVELS[row : row + 1])
    forecasts = DETECTOR.space.forward(forecast_mean(np.stack([LEVELS[i : i + ROWS] for i in range(8)]), make_times(8)))[:, 3]
    pending = np.array([batch.pending[0, -1] for batch in seen])
    assert np.isnan(pending[:3]).all()
    np.testing.assert_array_equal(pending[3:], forecasts[:5].astype(np.float32))
    np.testing.assert_array_equal(seen[-1].patterns[0], LEVELS[12 - DETECTOR.pattern_rows : 12].astype(np.float32))
