"""Rows that hold panes: windows are judged, the same whichever way their rows come."""

from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.detection import Detector, Monitor, Outcome, PaneSums
from mods_grpc.detection.engine.chunking import Chunking
from mods_grpc.detection.engine.prefetch import PrefetchCache
from mods_grpc.detection.scores.residuals import ResidualSpace
from tests.support.models.panes import HAS_PANES, PANE_CALIBRATION, PANES, forecast_panes, make_pane_manifest
from tests.support.models.tiny import LEVELS, ROWS, SLIDE
from tests.support.monitors import assert_same, copy_state, join_columns, make_times, observe, read_columns

DETECTOR = Detector.from_manifest(make_pane_manifest())
SPACE = ResidualSpace(["count", "sum"])
SIGNIFICANCE, IMPUTE_ROWS = 0.01, 3


def make_monitor(series=1, adapt=False, detector=DETECTOR, forecast=forecast_panes, rows=ROWS, cache=None, chunking=None):
    table = detector.table(rows)
    slots = np.array([table.allocate() for _ in range(series)])
    options = {"chunking": chunking} if chunking else {}
    options |= {"adapt": adapt, "own_scales": adapt, "own_envelope": adapt, "prefetch_cache": cache}
    return Monitor(detector, forecast, table, slide_seconds=SLIDE, holdoff_rows=6, **options), slots


def draw_rows(rng, n):
    """Return times and rows, with gaps, missing values, zeros and a burst."""
    times, values = make_times(n), rng.gamma(50.0, 20.0, (n, 2))
    values[rng.integers(ROWS, n)] *= 50.0
    values[rng.random(n) < 0.2, 0] = 0.0
    values[(rng.random((n, 2)) < 0.08) & (np.arange(n) > 0)[:, None]] = np.nan
    there = (rng.random(n) > 0.12) & ~np.isnan(values).all(axis=1)
    there[:1] = True
    if rng.random() < 0.5:
        there[n // 2 : n // 2 + 5] = False
    return times[there], values[there]


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_verdicts_are_the_same_to_the_bit_however_rows_are_split_into_calls(seed, adapt):
    rng = np.random.default_rng(seed)
    series = [draw_rows(rng, 60) for _ in range(3)]
    index = np.concatenate([np.full(len(times), i) for i, (times, _) in enumerate(series)])
    times, values = (np.concatenate(parts) for parts in zip(*series, strict=True))
    order = np.argsort(times, kind="stable")
    index, times, values = index[order], times[order], values[order]
    monitor, slots = make_monitor(3, adapt)
    together = read_columns(observe(monitor, slots[index], times, values))
    assert (together["outcome"] == Outcome.SCORED).sum() > 60
    assert not np.isnan(monitor.table.values[slots]).any()
    for size in (1, 7):
        split, other_slots = make_monitor(3, adapt, chunking=Chunking(size=2))
        parts = [
            observe(split, other_slots[index[i : i + size]], times[i : i + size], values[i : i + size])
            for i in range(0, len(times), size)
        ]
        assert_same(join_columns(parts), together)
        assert_same(dict(enumerate(copy_state(split))), dict(enumerate(copy_state(monitor))))


@pytest.mark.parametrize("prefetched", [False, True])
@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_one_row_at_a_time_has_the_verdicts_of_a_batch_to_the_bit(seed, adapt, prefetched):
    times, values = draw_rows(np.random.default_rng(100 + seed), 80)
    batch, (slot,) = make_monitor(1, adapt)
    single, _ = make_monitor(1, adapt, cache=PrefetchCache() if prefetched else None)
    scored = 0
    for time, row in zip(times.tolist(), values, strict=True):
        expected = observe(batch, [slot], [time], row[None])
        verdict = None
        if not np.isnan(row).any():
            if prefetched:
                single.prefetch(slot)
            verdict = single.observe_one(slot, time, row[None], significance=SIGNIFICANCE, impute_rows=IMPUTE_ROWS)
        if verdict is None:
            observe(single, [slot], [time], row[None])
        else:
            scored += 1
            np.testing.assert_array_equal(verdict.observed, expected.observed)
            np.testing.assert_array_equal(verdict.forecast, expected.forecast)
            assert (verdict.p_value, verdict.gap_filled) == (expected.p_value[0], expected.gap_filled[0])
            assert verdict.out_of_distribution == expected.out_of_distribution[0]
            why, expected_why = verdict.explain(), expected.explain(np.arange(1))
            np.testing.assert_array_equal(why.feature_p, expected_why.feature_p)
            np.testing.assert_array_equal(why.share, expected_why.share)
        assert_same(dict(enumerate(copy_state(single))), dict(enumerate(copy_state(batch))))
    assert scored > 20


def without_patterns(panes):
    """Return a detector that does not look at rows themselves, which hold other things in the two models compared below."""
    calibration = replace(PANE_CALIBRATION, pattern=None, pattern_curves=(), nearest=None, nearest_curves=())
    return Detector(calibration, SPACE, (LEVELS.min(axis=0), LEVELS.max(axis=0) * PANES), panes)


@pytest.mark.parametrize("seed", range(3))
def test_verdicts_are_those_of_a_model_of_whole_windows_that_forecasts_the_same(seed):
    """The reference is given windows summed outside of the monitor, and the forecasts that panes have."""
    rng = np.random.default_rng(200 + seed)
    n = 80
    rows = np.floor(rng.gamma(50.0, 20.0, (n, 2)))
    rows[50] *= 40.0
    windows = rows.copy()
    windows[:, 0] = [rows[max(0, i + 1 - PANES) : i + 1, 0].sum() for i in range(n)]
    times = make_times(n)

    def look_up(_, last_times):
        at = ((last_times - times[0]) // (SLIDE * 10**9))[:, None] + np.arange(1 - ROWS, 1)
        return forecast_panes(rows[at])

    monitor, slots = make_monitor(adapt=True, detector=without_patterns(PaneSums(HAS_PANES, PANES)))
    reference, _ = make_monitor(adapt=True, detector=without_patterns(None), forecast=look_up)
    verdicts = observe(monitor, slots.repeat(n), times, rows)
    assert_same(read_columns(verdicts), read_columns(observe(reference, slots.repeat(n), times, windows)))
    np.testing.assert_array_equal(verdicts.observed[ROWS:], windows[ROWS:])
    assert np.isnan(verdicts.observed[:ROWS]).all()
    assert verdicts.anomalous[50]


def test_a_missing_row_is_the_forecast_less_what_is_known_and_not_below_zero():
    rows = np.array([[6.0, 1.0], [9.0, 2.0], [0.0, 3.0], [30.0, 4.0]])
    monitor, slots = make_monitor()
    times = make_times(6)
    observe(monitor, slots.repeat(4), times[:4], rows)
    verdicts = observe(monitor, slots, times[5:], [[5.0, 5.0]])
    assert (verdicts.outcome[0], verdicts.gap_filled[0]) == (Outcome.SCORED, 1)
    last = 9.0 + 0.0 + 30.0
    filled = last / PANES  # the forecast of the window is what is known, 0 + 30, and a third of the last one
    np.testing.assert_allclose(monitor.table.window(slots[0])[0, 2:, 0], [filled, 5.0])
    np.testing.assert_allclose(verdicts.observed[0, 0], 30.0 + filled + 5.0)
    assert monitor.table.window(slots[0])[0, 2, 1] == 2.5

    low, slots = make_monitor(forecast=lambda windows, times: 0.5 * forecast_panes(windows))
    observe(low, slots.repeat(4), times[:4], rows)
    verdicts = observe(low, slots, times[4:5], [[np.nan, 5.0]])
    assert low.table.window(slots[0])[0, 3, 0] == 0.0
    assert np.isnan(verdicts.observed[0, 0])
    assert verdicts.observed[0, 1] == 5.0


def test_windows_are_judged_by_the_range_of_windows_not_of_panes():
    manifest = make_pane_manifest()
    low, high = manifest.features[0].training_minimum, manifest.features[0].training_maximum
    rows = np.tile(LEVELS.mean(axis=0), (ROWS + 1, 1))
    for pane, is_outside in ((LEVELS[:, 0].max(), False), (high + 2 * (high - low), True)):
        monitor, slots = make_monitor()
        rows[-1, 0] = pane
        verdicts = observe(monitor, slots.repeat(ROWS + 1), make_times(ROWS + 1), rows)
        assert verdicts.out_of_distribution[-1] == is_outside
    assert rows[0, 0] < low  # a pane of an ordinary window, which is not below the range


def test_sums_beyond_the_largest_number_are_the_largest_number():
    largest = float(np.finfo(np.float64).max)
    monitor, slots = make_monitor(forecast=lambda windows, times: np.full((len(windows), 3, 2), 1e3))
    times = make_times(ROWS + 2)
    verdicts = observe(monitor, slots.repeat(ROWS + 2), times, np.full((ROWS + 2, 2), largest))
    assert verdicts.observed[ROWS, 0] == largest
    assert (verdicts.outcome[ROWS:] == Outcome.SCORED).all()
    assert (verdicts.p_value[ROWS:] < 0.01).all()


def test_windows_are_known_from_the_row_on_with_which_all_panes_are():
    rows = np.array([[1.0, 9.0], [2.0, 8.0], [4.0, 7.0], [np.nan, 6.0], [8.0, 5.0], [16.0, 4.0], [32.0, 3.0]])
    windows = PaneSums(HAS_PANES, PANES).add_all(rows)
    np.testing.assert_array_equal(windows[:, 0], [np.nan, np.nan, 7.0, np.nan, np.nan, np.nan, 56.0])
    np.testing.assert_array_equal(windows[:, 1], rows[:, 1])
