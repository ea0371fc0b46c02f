"""One model for many series against one model per series: MAE relative to persistence on the last tenth of the training rows.

The series are the labelled sets of a folder that have as many columns, such as machines of a server farm; the eight columns
that change most often in all of them, raw values without a transform. Seven tenths are fitted on, one is validation, one is
left for calibration. "all" is one network on all series, "all, scaled" the same with `--window-scale`, "each" one per series.

Usage: python benchmarks/training/pool.py DIR [--models MLP,Conv1D] [--rows 9000] [--epochs 6] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.detection.labelled_sets import find_sets
from training.data.feature import FeatureColumn
from training.data.pool import join_series
from training.data.series import DataReport, make_series, per_series
from training.data.windows import make_samples
from training.export.raw_function import compile_forecaster
from training.fitting.fit import fit
from training.network.config import FitConfig, ModelConfig

STEPS, COLUMNS = (1, 6, 12), 8
CUTS = (("train", 0.0, 0.7), ("validation", 0.7, 0.8), ("test", 0.9, 1.0))


def read(folder, rows):
    """Return the training rows of each set by name, of the columns that change most often in all of them."""
    sets = {set_.name: set_ for set_ in find_sets([folder])}
    values = {name: set_.train[:rows] for name, set_ in sets.items()}
    changes = np.min([(np.diff(rows_of_set, axis=0) != 0).mean(axis=0) for rows_of_set in values.values()], axis=0)
    columns = np.sort(np.argsort(-changes, kind="stable")[:COLUMNS])
    features = [
        FeatureColumn(name=f"x{i}", unit="1", protocol="", column=f"x{i}", kind="mean", aggregation="") for i in columns.tolist()
    ]
    return {
        name: make_series(
            np.datetime64("2024-01-01T00:00:00") + np.arange(len(rows_of_set)) * np.timedelta64(sets[name].slide_seconds, "s"),
            rows_of_set[:, columns],
            features,
            window_seconds=sets[name].slide_seconds,
            slide_seconds=sets[name].slide_seconds,
            report=DataReport(),
        )
        for name, rows_of_set in values.items()
    }


def forecaster(series, model, options):
    """Fit a network on a series or a pool; return what forecasts, and the processor time it took."""
    rows = (series.members[0] if series.members else slice(0, len(series.times))).stop
    gap = model.rows + model.steps_ahead
    parts = {name: slice(round(start * rows), round(end * rows) - (name == "train") * gap) for name, start, end in CUTS}
    train, validation = (
        make_samples(series, per_series(series, parts[name]), model.rows, model.steps_ahead) for name in ("train", "validation")
    )
    started = time.process_time()
    fitted = fit(model, options, train, validation)
    return compile_forecaster(fitted.network, model, fitted.scaler, len(series.features)), time.process_time() - started


def score(forecast, series, model):
    """Return the MAE relative to persistence at STEPS, the geometric mean over features."""
    test = make_samples(
        series, (slice(round(CUTS[-1][1] * len(series.times)), len(series.times)),), model.rows, model.steps_ahead
    )
    errors = np.abs(forecast(test.windows, test.times) - test.targets).mean(axis=0)
    unchanged = np.abs(test.windows[:, -1:] - test.targets).mean(axis=0)
    return np.exp(np.log(np.maximum(errors, 1e-12) / np.maximum(unchanged, 1e-12)).mean(axis=1))[[k - 1 for k in STEPS]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default="MLP,Conv1D,TSMixer")
    parser.add_argument("--rows", type=int, default=9000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    named = read(arguments.folder, arguments.rows)
    pool, options = join_series(named), FitConfig(epochs=arguments.epochs, patience=arguments.epochs, batch_size=128)
    results = {}
    print(
        f"{'model':10s} {'fitted on':12s} {'seconds':>8s}  "
        + "  ".join(f"{name:>17s}" for name in named)
        + "   mean, k=1 / 6 / 12"
    )
    for model_type in arguments.models.split(","):
        for case in ("all", "all, scaled", "each"):
            model = ModelConfig(model_type=model_type, sequence_len=24, steps_ahead=12, window_scale=case == "all, scaled")
            shared = forecaster(pool, model, options) if case != "each" else None
            fits = {name: shared or forecaster(series, model, options) for name, series in named.items()}
            scores = {name: score(fits[name][0], series, model) for name, series in named.items()}
            seconds = shared[1] if shared else sum(spent for _, spent in fits.values())
            mean = np.exp(np.mean([np.log(one) for one in scores.values()], axis=0))
            cells = [" / ".join(f"{value:.2f}" for value in one) for one in (*scores.values(), mean)]
            print(f"{model_type:10s} {case:12s} {seconds:8.0f}  " + "  ".join(f"{cell:>17s}" for cell in cells), flush=True)
            results[f"{model_type}, {case}"] = {"seconds": seconds, **{name: one.tolist() for name, one in scores.items()}}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
