"""Contexts of next rows: used once, and only if the series has not changed."""

import numpy as np
import pytest

from mods_grpc.detection.engine import prefetch
from mods_grpc.detection.engine.prefetch import PrefetchCache
from mods_grpc.errors import ModelOutputError
from tests.support.monitors import LEVELS, ROWS, copy_state, forecast_mean, make_monitor, make_times, observe


class Model:
    """Forecasts the mean of the window and counts its runs."""

    def __init__(self):
        self.runs = 0

    def __call__(self, windows, times):
        self.runs += 1
        return forecast_mean(windows, times)


def prefetched(series=1):
    """Return a model, a monitor that prefetched the next rows of series with full windows, and their slots."""
    model = Model()
    monitor, slots = make_monitor(forecast=model, series=series, prefetch_cache=PrefetchCache())
    for number, slot in enumerate(slots):
        observe(monitor, [slot] * ROWS, make_times(ROWS), LEVELS[number : number + ROWS])
    for slot in slots.tolist():
        monitor.prefetch(slot)
    model.runs = 0
    return model, monitor, slots.tolist()


def score(monitor, slot, number, value):
    return monitor.observe_one(slot, int(make_times(1, number)[0]), LEVELS[value : value + 1], significance=0.01)


def test_a_prefetched_row_needs_no_run_of_the_model_and_the_one_after_it_does():
    model, monitor, slots = prefetched(2)
    for slot in reversed(slots):
        score(monitor, slot, ROWS, 10)
    assert model.runs == 0
    score(monitor, slots[0], ROWS + 1, 11)
    assert model.runs == 1


def test_prefetching_changes_no_series():
    _, monitor, slots = prefetched()
    before = copy_state(monitor)
    monitor.prefetch(slots[0])
    for one, other in zip(before, copy_state(monitor), strict=True):
        np.testing.assert_array_equal(one, other)


def another_window(monitor, slot):
    monitor.table.values[slot, 0, 0] += 1.0
    return ROWS


def another_stored_forecast(monitor, slot):
    monitor.table.pending[slot] = 3.0
    return ROWS


def another_time(monitor, slot):
    monitor.table.last_time[slot] = make_times(1, ROWS)[0]
    return ROWS + 1


def rows_after_it(monitor, slot):
    observe(monitor, [slot] * 2, make_times(2, ROWS), LEVELS[50:52])
    return ROWS + 2


@pytest.mark.parametrize("change", [another_window, another_stored_forecast, another_time, rows_after_it])
def test_a_context_is_not_used_after_its_series_has_changed(change):
    model, monitor, (slot,) = prefetched()
    fresh, (other,) = make_monitor()
    observe(fresh, [other] * ROWS, make_times(ROWS), LEVELS[:ROWS])
    number = change(monitor, slot)
    change(fresh, other)
    model.runs = 0
    actual, expected = score(monitor, slot, number, 60), score(fresh, other, number, 60)
    assert model.runs == 1
    assert actual.p_value == expected.p_value
    np.testing.assert_array_equal(actual.forecast, expected.forecast)


def test_a_series_without_a_full_window_is_not_prefetched():
    model = Model()
    monitor, (slot,) = make_monitor(forecast=model, prefetch_cache=PrefetchCache())
    observe(monitor, [slot] * (ROWS - 1), make_times(ROWS - 1), LEVELS[: ROWS - 1])
    model.runs = 0
    monitor.prefetch(slot)
    assert model.runs == 0


def test_a_forecast_that_is_not_finite_is_not_cached():
    monitor, (slot,) = make_monitor(
        forecast=lambda windows, times: forecast_mean(windows, times) + np.inf, prefetch_cache=PrefetchCache()
    )
    monitor.table.replace(slot, int(make_times(1)[0]), LEVELS[:ROWS], np.zeros((ROWS, 2), np.bool_))
    with pytest.raises(ModelOutputError):
        monitor.prefetch(slot)
    before = copy_state(monitor)
    with pytest.raises(ModelOutputError):
        score(monitor, slot, 1, 10)
    for one, other in zip(before, copy_state(monitor), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_cache_is_bounded_in_bytes(monkeypatch):
    model, monitor, slots = prefetched(1)
    context = monitor._prefetch_cache.take(monitor.table, slots[0], int(make_times(1, ROWS)[0]))
    monkeypatch.setattr(prefetch, "MAX_BYTES", 10 * context.nbytes)
    model, monitor, slots = prefetched(30)
    for slot in slots[20:]:
        score(monitor, slot, ROWS, 10)
    assert model.runs == 0
    score(monitor, slots[19], ROWS, 10)
    assert model.runs == 1
