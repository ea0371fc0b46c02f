"""A row that is scored alone has the same scores as in a batch."""

import numpy as np
import pytest

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection.engine.prefetch import PrefetchCache
from mods_grpc.errors import ModelOutputError
from tests.support.monitors import (
    DETECTOR,
    LEVELS,
    MEANS,
    MIXED,
    QUANTILES,
    RNG,
    ROWS,
    SLIDE,
    START,
    WIDE,
    copy_state,
    forecast_mean,
    make_monitor,
    make_times,
    observe,
    read_columns,
)


@pytest.mark.parametrize("prefetched", [False, True], ids=["on arrival", "prefetched"])
@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize(
    "detector",
    [DETECTOR, WIDE, MEANS, QUANTILES, MIXED],
    ids=["two features", "ten features", "one mean", "quantiles", "quantiles of a mean and a count"],
)
def test_a_single_row_is_scored_as_in_a_batch_also_after_gaps(detector, adapt, prefetched):
    whole, slots = make_monitor(adapt=adapt, detector=detector)
    single, _ = make_monitor(adapt=adapt, detector=detector, prefetch_cache=PrefetchCache() if prefetched else None)
    n = 400
    values = RNG.gamma(50.0, 20.0, (n, detector.features)) if detector is not MEANS else RNG.normal(0.0, 1.0, (n, 1))
    values[::17] *= 20
    values[200] *= 1e300
    gaps = np.where(np.arange(n) % 11 == 7, np.arange(n) // 11 % 4, 0)  # of 0 to 3 rows
    times = START + (np.arange(n) + np.cumsum(gaps)) * SLIDE * NANOS_PER_SECOND
    in_batch = read_columns(observe(whole, np.repeat(slots, n), times, values))
    observe(single, np.repeat(slots, ROWS), times[:ROWS], values[:ROWS])
    for i in range(ROWS, n):
        single.prefetch(int(slots[0]))
        verdict = single.observe_one(int(slots[0]), int(times[i]), values[i : i + 1], significance=0.01, impute_rows=3)
        explanation = verdict.explain()
        actual = verdict.alarm._asdict() | {
            "p_value": verdict.p_value,
            "out_of_distribution": verdict.out_of_distribution,
            "gap_filled": verdict.gap_filled,
            "forecast": verdict.forecast[0],
            "feature_p": explanation.feature_p[0],
            "share": explanation.share[0],
            "direction": explanation.direction[0],
            "scale": explanation.scale[0],
            "usual_peak": explanation.usual_peak[0],
            "quantiles": explanation.quantiles[0],
        }
        for name, value in actual.items():
            np.testing.assert_array_equal(value, in_batch[name][i], err_msg=name)
    for one, other in zip(copy_state(whole), copy_state(single), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_next_row_of_a_full_window_is_scored_alone_unless_gaps_are_filled():
    monitor, slots = make_monitor()
    slot, row = int(slots[0]), LEVELS[:1]
    times = START + np.arange(ROWS + 2) * SLIDE * NANOS_PER_SECOND
    assert monitor.observe_one(slot, int(times[0]), row, significance=0.01) is None
    observe(monitor, np.repeat(slots, ROWS), times[:ROWS], LEVELS[:ROWS])
    before = copy_state(monitor)
    assert monitor.observe_one(slot, int(times[ROWS + 1]), row, significance=0.01) is None
    assert (
        monitor.observe_one(slot, int(times[ROWS + 1]) + 3 * SLIDE * NANOS_PER_SECOND, row, significance=0.01, impute_rows=3)
        is None
    )
    assert monitor.observe_one(slot, int(times[ROWS]) + 1, row, significance=0.01, impute_rows=3) is None
    assert monitor.observe_one(slot, int(times[ROWS - 1]), row, significance=0.01, impute_rows=3) is None
    for one, other in zip(before, copy_state(monitor), strict=True):
        np.testing.assert_array_equal(one, other)
    assert monitor.observe_one(slot, int(times[ROWS]), row, significance=0.01) is not None


@pytest.mark.parametrize("prefetched", [False, True])
def test_a_forecast_that_is_not_finite_behind_a_gap_changes_nothing(prefetched):
    runs = 0

    def forecast(windows, times):
        nonlocal runs
        runs += 1
        return forecast_mean(windows, times) * (np.nan if runs > 2 else 1.0)

    monitor, (slot,) = make_monitor(forecast, prefetch_cache=PrefetchCache())
    monitor.table.replace(slot, int(make_times(1)[0]), LEVELS[:ROWS], np.zeros((ROWS, 2), np.bool_), 0)
    if prefetched:
        monitor.prefetch(slot)
    before = copy_state(monitor)
    with pytest.raises(ModelOutputError):
        monitor.observe_one(slot, int(make_times(1, 4)[0]), LEVELS[5:6], significance=0.01, impute_rows=3)
    assert runs == 3
    for one, other in zip(before, copy_state(monitor), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("detector", [DETECTOR, QUANTILES], ids=["forecast", "quantiles"])
def test_the_explanation_of_a_row_is_the_same_after_later_rows_were_scored(detector):
    monitor, slots = make_monitor(detector=detector)
    observe(monitor, slots.repeat(ROWS), make_times(ROWS), LEVELS[:ROWS])
    verdicts = [
        monitor.observe_one(int(slots[0]), int(make_times(1, i)[0]), LEVELS[i : i + 1], significance=0.1) for i in range(ROWS, 30)
    ]
    again, _ = make_monitor(detector=detector)
    whole = observe(again, slots.repeat(30), make_times(30), LEVELS[:30]).explain(np.arange(ROWS, 30))
    for i, verdict in enumerate(verdicts):
        explanation = verdict.explain()
        np.testing.assert_array_equal(explanation.share[0], whole.share[i])
        np.testing.assert_array_equal(explanation.feature_p[0], whole.feature_p[i])
