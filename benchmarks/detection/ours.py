"""Our detector on a labelled set: fit, export, calibrate and replay with the project's own code."""

from dataclasses import replace

import numpy as np
import pandas as pd

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Detector, Monitor, calibrate, significance_from_budget
from mods_grpc.detection.scores.residuals import ResidualSpace
from training.data.feature import describe_column
from training.data.series import DataReport, Series
from training.data.windows import make_samples
from training.export.onnx_forecaster import open_graph
from training.export.to_onnx import export_graph
from training.fitting.fit import fit
from training.network.architectures import build
from training.network.config import FitConfig, ModelConfig

HOLDOFF_ROWS = 6
HORIZON = 12
MAX_WINDOW_ROWS, MIN_WINDOW_ROWS, ROWS_PER_STEP = 60, 8, 25
MIN_WINDOWS = 30
VALIDATION_SHARE, CALIBRATION_SHARE = 0.1, 0.3
FIT = FitConfig(epochs=20, patience=3, batch_size=128, loss="mae", seed=1)


def choose_model_config(model_type, rows, quantiles):
    """Return the options of the network: equal for every set, but the window is shorter than 60 rows if there are few rows."""
    length = int(np.clip(rows // ROWS_PER_STEP, MIN_WINDOW_ROWS, MAX_WINDOW_ROWS))
    return ModelConfig(
        model_type=model_type,
        sequence_len=length,
        steps_ahead=HORIZON,
        model_delta=True,
        level=True,
        transform="none",
        quantiles=quantiles,
    )


def split_rows(count, gap):
    """Split the training rows into training, validation and calibration, `gap` rows apart."""
    calibration = round(count * (1 - CALIBRATION_SHARE))
    validation = round(count * (1 - CALIBRATION_SHARE - VALIDATION_SHARE))
    return slice(0, validation - gap), slice(validation, calibration - gap), slice(calibration, count)


def _count_whole_windows(values, rows):
    """Count the windows with their HORIZON next rows that hold no missing value."""
    length = rows + HORIZON
    if len(values) < length:
        return 0
    gaps = np.concatenate([[0], np.cumsum(np.isnan(values).any(axis=1))])
    return int((gaps[length:] == gaps[:-length]).sum())


def prepare(labelled, model_type, quantiles=""):
    """Fit on the training part and return what a detector is made of. With `quantiles` it scores by these."""
    times, values, test = labelled.to_grid()
    first_test_row = int(test[0])
    model = choose_model_config(model_type, first_test_row, quantiles)
    train, validation, calibration = split_rows(first_test_row, model.rows + HORIZON)
    # with a few hundred rows a gap would take most of a part: then the parts touch
    if validation.stop - validation.start < 2 * HORIZON or train.stop < 4 * model.rows:
        train, validation, calibration = split_rows(first_test_row, 0)
    if min(_count_whole_windows(values[part], model.rows) for part in (train, validation, calibration)) < MIN_WINDOWS:
        # gaps leave too few windows in a part
        values[:first_test_row] = pd.DataFrame(values[:first_test_row]).interpolate().to_numpy()
    series = Series(
        times=times.astype("datetime64[s]"),
        values=values,
        features=tuple(describe_column(f"x{i}", "", f"x{i}") for i in range(values.shape[1])),
        window_seconds=labelled.slide_seconds,
        slide_seconds=labelled.slide_seconds,
        digest="",
        report=DataReport(),
    )
    samples = [make_samples(series, (part,), model.rows, HORIZON) for part in (train, validation)]
    fitted = fit(model, replace(FIT, loss="pinball") if quantiles else FIT, *samples)
    network = build(model, values.shape[1])  # not compiled, as when a run is exported
    network.set_weights(fitted.network.get_weights())
    forecast = open_graph(export_graph(network, model, fitted.scaler, values.shape[1]), intervals=bool(quantiles))
    return {
        "forecast": forecast,
        "times": times * NANOS_PER_SECOND,
        "values": values,
        "training": train,
        "calibration": calibration,
        "rows": model.rows,
        "test": test,
        "slide_seconds": labelled.slide_seconds,
        "levels": model.levels,
    }


def make_detector(prepared):
    kinds = ["mean"] * prepared["values"].shape[1]
    names = ("forecast", "times", "values", "training", "calibration", "rows", "slide_seconds", "levels")
    calibration = calibrate(**{name: prepared[name] for name in names}, kinds=kinds, holdoff_rows=HOLDOFF_ROWS)
    return Detector(calibration, ResidualSpace(kinds), compute_training_range(prepared))


def compute_training_range(prepared):
    training_values = prepared["values"][prepared["training"]]
    return np.nanmin(training_values, axis=0), np.nanmax(training_values, axis=0)


def replay(prepared, detector, budget, own_scales=False):
    """Return scores and alarms of the test's rows at a budget of false alarms per day."""
    table = detector.table(prepared["rows"])
    monitor = Monitor(
        detector,
        prepared["forecast"],
        table,
        slide_seconds=prepared["slide_seconds"],
        holdoff_rows=HOLDOFF_ROWS,
        adapt=True,
        own_scales=own_scales,
    )
    first = max(int(prepared["test"][0]) - 2 * prepared["rows"] - HORIZON, 0)
    rows = first + np.flatnonzero(~np.isnan(prepared["values"][first:]).any(axis=1))
    verdicts = monitor.observe(
        np.full(len(rows), table.allocate()),
        prepared["times"][rows],
        prepared["values"][rows],
        reported=np.ones(len(rows), np.bool_),
        significance=significance_from_budget(budget, prepared["slide_seconds"], detector.calibration),
        impute_rows=6,
    )
    test_rows = np.searchsorted(rows, prepared["test"])
    return np.nan_to_num(verdicts.score[test_rows], nan=0.0), verdicts.anomalous[test_rows]
