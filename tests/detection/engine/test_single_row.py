"""A row that comes alone is judged as it is among others."""

import numpy as np
import pytest

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection.engine.prefetch import PrefetchCache
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
    columns,
    grid,
    make_monitor,
    observe,
    state,
)


@pytest.mark.parametrize("ahead", [False, True], ids=["when it comes", "looked ahead"])
@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize(
    "detector",
    [DETECTOR, WIDE, MEANS, QUANTILES, MIXED],
    ids=["two features", "ten features", "one mean", "quantiles", "quantiles of a mean and a count"],
)
def test_a_single_row_is_judged_as_it_is_among_others(detector, adapt, ahead):
    whole, slots = make_monitor(adapt=adapt, detector=detector)
    single, _ = make_monitor(adapt=adapt, detector=detector, prefetch_cache=PrefetchCache() if ahead else None)
    n = 400
    values = RNG.gamma(50.0, 20.0, (n, detector.features)) if detector is not MEANS else RNG.normal(0.0, 1.0, (n, 1))
    values[::17] *= 20
    values[200] *= 1e300
    times = START + np.arange(n) * SLIDE * NANOS_PER_SECOND
    at_once = columns(observe(whole, np.repeat(slots, n), times, values))
    observe(single, np.repeat(slots, ROWS), times[:ROWS], values[:ROWS])
    for i in range(ROWS, n):
        single.prefetch(int(slots[0]))
        found = single.observe_one(int(slots[0]), int(times[i]), values[i : i + 1], significance=0.01)
        why = found.explain()
        told = found.alarm._asdict() | {
            "p_value": found.p_value,
            "out_of_distribution": found.out_of_distribution,
            "forecast": found.forecast[0],
            "feature_p": why.feature_p[0],
            "share": why.share[0],
            "direction": why.direction[0],
            "scale": why.scale[0],
        }
        for name, value in told.items():
            np.testing.assert_array_equal(value, at_once[name][i], err_msg=name)
    for one, other in zip(state(whole), state(single), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_row_that_is_not_the_next_of_a_full_window_is_not_taken_alone():
    monitor, slots = make_monitor()
    slot, row = int(slots[0]), LEVELS[:1]
    times = START + np.arange(ROWS + 2) * SLIDE * NANOS_PER_SECOND
    assert monitor.observe_one(slot, int(times[0]), row, significance=0.01) is None
    observe(monitor, np.repeat(slots, ROWS), times[:ROWS], LEVELS[:ROWS])
    before = state(monitor)
    assert monitor.observe_one(slot, int(times[ROWS + 1]), row, significance=0.01) is None
    for one, other in zip(before, state(monitor), strict=True):
        np.testing.assert_array_equal(one, other)
    assert monitor.observe_one(slot, int(times[ROWS]), row, significance=0.01) is not None


@pytest.mark.parametrize("detector", [DETECTOR, QUANTILES], ids=["forecast", "quantiles"])
def test_what_was_said_of_a_row_stays_when_the_next_one_is_judged(detector):
    monitor, slots = make_monitor(detector=detector)
    observe(monitor, slots.repeat(ROWS), grid(ROWS), LEVELS[:ROWS])
    kept = [monitor.observe_one(int(slots[0]), int(grid(1, i)[0]), LEVELS[i : i + 1], significance=0.1) for i in range(ROWS, 30)]
    again, _ = make_monitor(detector=detector)
    whole = observe(again, slots.repeat(30), grid(30), LEVELS[:30]).explain(np.arange(ROWS, 30))
    for i, verdict in enumerate(kept):
        why = verdict.explain()
        np.testing.assert_array_equal(why.share[0], whole.share[i])
        np.testing.assert_array_equal(why.feature_p[0], whole.feature_p[i])
