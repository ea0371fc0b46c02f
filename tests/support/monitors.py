"""Monitors of a model whose forecasts can be computed by hand, and their verdicts as columns."""

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Detector, Monitor, calibrate
from mods_grpc.detection.engine.chunking import DEFAULT_CHUNKING
from mods_grpc.detection.scores.residuals import ResidualSpace

ROWS, HORIZON, FEATURES, SLIDE = 4, 4, 2, 600
START = 1_556_668_800 * NANOS_PER_SECOND
RNG = np.random.default_rng(7)
LEVELS = RNG.gamma(50.0, 20.0, (400, FEATURES))


def forecast_mean(windows, times):
    """Forecast the mean of the window: easy to compute by hand, and dependent on every value."""
    return np.repeat(windows.mean(axis=1, keepdims=True), HORIZON, axis=1)


def forecast_interval(windows, times):
    """Forecast the mean of the window, with its lowest and highest values as the interval."""
    outputs = np.concatenate([windows.mean(axis=1), windows.min(axis=1), windows.max(axis=1)], axis=1)
    return np.repeat(outputs[:, None], HORIZON, axis=1)


def make_times(n, first=0):
    return START + (first + np.arange(n)) * SLIDE * NANOS_PER_SECOND


def make_detector(kinds=("count", "sum"), levels=LEVELS, quantiles=()):
    calibration = calibrate(
        forecast_interval if quantiles else forecast_mean,
        make_times(400),
        levels,
        training=slice(0, 200),
        calibration=slice(0, 400),
        kinds=kinds,
        rows=ROWS,
        slide_seconds=SLIDE,
        holdoff_rows=6,
        levels=quantiles,
    )
    return Detector(calibration, ResidualSpace(kinds), (levels.min(0), levels.max(0)))


DETECTOR = make_detector()
WIDE = make_detector(["mean", *["count"] * 9], RNG.gamma(50.0, 20.0, (400, 10)))
MEANS = make_detector(["mean"], RNG.normal(0.0, 1.0, (400, 1)))
QUANTILES = make_detector(quantiles=(0.05, 0.5, 0.95))
MIXED = make_detector(["mean", "count"], quantiles=(0.1, 0.5, 0.9))


def make_monitor(forecast=None, series=1, adapt=False, detector=DETECTOR, chunking=DEFAULT_CHUNKING, prefetch_cache=None):
    forecast = forecast or (forecast_interval if detector.calibration.interval else forecast_mean)
    table = detector.table(ROWS)
    slots = np.array([table.allocate() for _ in range(series)])
    own = {"own_scales": adapt, "own_envelope": adapt, "own_intervals": adapt}
    options = {"adapt": adapt, **own, "chunking": chunking, "prefetch_cache": prefetch_cache}
    return Monitor(detector, forecast, table, slide_seconds=SLIDE, holdoff_rows=6, **options), slots


def observe(monitor, slots, times, values, **options):
    options = {"significance": 0.01, "impute_rows": 3, "reported": np.ones(len(slots), bool)} | options
    return monitor.observe(np.asarray(slots), np.asarray(times, np.int64), np.asarray(values, float), **options)


def copy_state(monitor):
    table = monitor.table
    return [array.copy() for array in table._arrays()]


def read_columns(verdicts):
    names = (
        "outcome",
        "p_value",
        "score",
        "anomalous",
        "out_of_distribution",
        "forecast",
        "drift",
        "gap_filled",
        "phase",
        "start",
        "peak_time",
        "peak",
    )
    why = verdicts.explain(np.arange(len(verdicts.outcome)))
    reasons = {"feature_p": why.feature_p, "share": why.share, "direction": why.direction, "scale": why.scale}
    reasons |= {"usual_peak": why.usual_peak, "quantiles": why.quantiles}
    return {name: np.asarray(getattr(verdicts, name)) for name in names} | reasons


def join_columns(parts):
    return {name: np.concatenate([read_columns(part)[name] for part in parts]) for name in read_columns(parts[0])}


def assert_same(one, other):
    for name, expected in one.items():
        np.testing.assert_array_equal(expected, other[name], err_msg=name)
