"""Forecasts of the product beside references on several data sets: MAE over that of no change, chosen on validation, tested once.

For each set every recipe is fitted on its training range and scored on its validation range; the best in the geometric mean over
steps and features is fitted again on all data before the test range, exported, and its graph is scored on the test range. The
references are ridge on lags and the slot of the day, and LightGBM (L1) with one model a feature and step and as many trees as its
validation range asks for, refitted the same way, with the panes of sliding windows among its inputs and without.

Usage: python -m benchmarks.training.forecasts [--data DIR] [--sets mods-2019,mods-2018,...] [--recipes boosted,...]
"""

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd

from benchmarks.detection.labelled_sets import find_sets
from training.data.gaps import forward_fill
from training.data.source import SourceConfig
from training.evaluation.baselines import fit_ridge
from training.evaluation.boosted import MAX_ROUNDS, PARAMETERS, PATIENCE_ROUNDS
from training.experiments.candidates import measure_latency_microseconds
from training.experiments.hyperparameter_search import validation_score
from training.export.onnx_forecaster import open_graph
from training.export.raw_function import compile_forecaster
from training.export.to_onnx import export_graph
from training.fitting.fit import fit
from training.fitting.prepare import prepare_data
from training.network.config import FitConfig, ModelConfig
from training.network.scaler import Overlap

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MODS_DATA", ROOT.parent / "shared" / "data"))
DAY = 86_400
LAGS = 36
STEPS = (1, 6, 12)
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Options of a model that may win."""

    name: str
    model: dict
    fit: dict = field(default_factory=dict)


RECIPES = (
    Recipe(name="ridge", model={"model_type": "ridge", "level": True, "calendar": True, "sequence_len": 72}),
    Recipe(
        name="TSMixer and Conv1D",
        model={
            "model_type": "ensemble", "level": True, "linear": True, "sequence_len": 36, "stacked_blocks": 3, "dropout_rate": 0.3,
        },
        fit={"epochs": 40, "patience": 10, "batch_size": 256, "learning_rate": 0.005, "averaging": 0.995},
    ),
    Recipe(
        name="boosted",
        model={
            "model_type": "boosted", "transform": "level", "level": True, "calendar": True, "sequence_len": 145, "blocks": 48,
            "stacked_blocks": 1, "seeds": 3, "dropout_rate": 0.2, "trees": 420, "leaves": 24,
        },
        fit={"epochs": 10, "batch_size": 64, "learning_rate": 0.002, "averaging": 0.995},
    ),
)  # fmt: skip


def to_table(values, times, folder, names):
    """Write a table as training reads it, and return its path."""
    frame = pd.DataFrame(values, columns=names)
    frame.insert(0, "window_start", pd.to_datetime(times, unit="s").strftime("%Y-%m-%dT%H:%M:%S"))
    path = folder / "table.csv"
    frame.to_csv(path, index=False)
    return path


def labelled(path, folder, *, features=None):
    """Make the source of a labelled set: its last third, at most, is the test range."""
    (labelled_set,) = find_sets([path])
    times, values, _ = labelled_set.to_grid()
    varying = np.flatnonzero(np.nanstd(values, axis=0) > 0)[:features]
    names = [f"x{index}" for index in varying]
    table = to_table(values[:, varying], times, folder, names)
    bounds = [str(np.datetime64(int(times[0] + share * (times[-1] - times[0])), "s")) for share in (0.5, 0.6, 0.7, 1.0)]
    start = str(np.datetime64(int(times[0]), "s"))
    return SourceConfig(
        csv=str(table),
        features=",".join(names),
        train_time_range=f"<{start},{bounds[0]})",
        validation_time_range=f"<{bounds[0]},{bounds[1]})",
        calibration_time_range=f"<{bounds[1]},{bounds[2]})",
        test_time_range=f"<{bounds[2]},{bounds[3]})",
    )


def make_sources(data, folder):
    """Return the sources of all sets by name, as functions."""

    def mods_2018():
        for name in ("w01h-s10m", "w10m-s10m"):
            pd.read_csv(data / "mods-2018" / f"{name}.tsv.gz", sep="\t").to_csv(folder / f"{name}.tsv", sep="\t", index=False)
        return SourceConfig(
            csv=str(folder / "w01h-s10m.tsv"),
            panes_csv=str(folder / "w10m-s10m.tsv"),
            features="number_of_conn:count",
            window_slide="w01h-s10m",
            panes="auto",
            train_time_range="<2018-04-14,2018-07-15)",
            validation_time_range="<2018-07-15,2018-08-05)",
            calibration_time_range="<2018-08-05,2018-09-01)",
            test_time_range="<2018-09-01,2018-10-14)",
        )

    return {
        "mods-2019": lambda: SourceConfig(
            csv=str(data / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"),
            window_slide="w01h-s10m",
            panes="auto",
            train_time_range="<2019-01-01,2019-04-05)",
            validation_time_range="<2019-04-05,2019-04-14)",
            calibration_time_range="<2019-04-14,2019-05-01)",
            test_time_range="2019-05",
            train_time_ranges_excluded="<2019-02-18T16:40,2019-02-19T00:40),<2019-03-31T00:40,2019-03-31T03:10)",
        ),
        "mods-2018": mods_2018,
        "api-01": lambda: labelled(data / "labelled/cloud/api-01.csv.gz", folder),
        "eth1": lambda: labelled(data / "labelled/donut/server_res_eth1out_curve_6.csv.gz", folder),
        "datapool": lambda: SourceConfig(
            datapool=str(data / "mods-datapool/features"),
            panes="auto",
            train_time_range="<2019-06-01,2019-06-02T06:00)",
            validation_time_range="<2019-06-02T06:00,2019-06-02T16:00)",
            calibration_time_range="<2019-06-02T16:00,2019-06-03T04:00)",
            test_time_range="<2019-06-03T04:00,2019-06-04)",
        ),
        "machine-1-2": lambda: labelled(data / "labelled/smd/machine-1-2.npz", folder, features=8),
        "machine-2-1": lambda: labelled(data / "labelled/smd/machine-2-1.npz", folder, features=8),
    }


def lagged(series, origins, step, *, with_panes):
    """Return the inputs of the reference `(n, inputs)`, of log1p of the features that are never below 0."""
    logarithmic = np.nanmin(series.values, axis=0) >= 0

    def forward(values):
        return np.where(logarithmic, np.log1p(np.maximum(values, 0.0)), values)

    z, day = forward(forward_fill(series.values)), DAY // series.slide_seconds
    last = z[origins - 1]
    back = np.maximum(origins[:, None] + np.arange(-LAGS - 1, 0), 0)
    columns = [np.diff(z[back], axis=1).reshape(len(origins), -1), last]
    columns += [z[np.maximum(origins + step - 1 - season * -(-step // season), 0)] - last for season in (day, 7 * day) if season]
    totals = np.cumsum(np.concatenate([np.zeros((1, z.shape[1])), z]), axis=0)
    columns += [(totals[origins] - totals[np.maximum(origins - rows, 0)]) / rows - last for rows in (6, 12, 36, 144)]
    if with_panes and series.panes:
        u = forward(forward_fill(series.rows))
        columns.append((u[back[:, 1:]] - u[back[:, 1:]].mean(axis=1, keepdims=True)).reshape(len(origins), -1))
        columns.append(u[np.maximum(origins[:, None] - day + np.arange(13), 0)].reshape(len(origins), -1))
    seconds = series.times[origins].astype("datetime64[s]").astype(np.int64)
    columns.append(np.stack([seconds % DAY, seconds // DAY % 7, seconds % 3600], axis=1))
    return np.concatenate(columns, axis=1)


def fit_reference(data, step, *, with_panes):
    """Fit LightGBM for one step, refitted on all before the test range, and forecast the test range, `(n, features)`."""
    series, samples = data.series, data.samples
    inputs = {name: lagged(series, part.origins, step, with_panes=with_panes) for name, part in samples.items()}
    overlap = None
    if with_panes and series.panes:
        overlap = Overlap(series.panes, np.array([feature.pane for feature in series.features]))
    result = np.empty(samples["test"].targets[:, 0].shape)
    shared_by_part, base = {}, {}
    for name, part in samples.items():
        shared = overlap.shared(part.windows, step)[:, step - 1] if overlap else np.zeros_like(part.last)
        share = overlap.shares(step)[step - 1] if overlap else 1.0
        shared_by_part[name], base[name] = shared, part.last * share
    for feature in range(result.shape[1]):
        unit = {name: np.maximum(np.abs(samples[name].last[:, feature]), 1e-9) for name in samples}
        target = {
            name: (part.targets[:, step - 1, feature] - shared_by_part[name][:, feature] - base[name][:, feature]) / unit[name]
            for name, part in samples.items()
        }
        parameters = {**PARAMETERS, "seed": 1 + feature}
        train, validation = (_dataset(inputs, target, unit, [name]) for name in ("train", "validation"))
        validation.reference = train
        chosen = lightgbm.train(
            parameters, train, MAX_ROUNDS, [validation], callbacks=[lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)]
        )
        everything = _dataset(inputs, target, unit, ["train", "validation", "calibration"])
        model = lightgbm.train(parameters, everything, max(1, chosen.best_iteration))
        change = np.asarray(model.predict(inputs["test"], num_threads=1)) * unit["test"]
        result[:, feature] = shared_by_part["test"][:, feature] + base["test"][:, feature] + change
    return result


def _dataset(inputs, targets, weights, names):
    """Join parts by name into a set to fit on."""
    x, y, weight = (np.concatenate([each[name] for name in names]) for each in (inputs, targets, weights))
    return lightgbm.Dataset(x, y, weight=weight)


def ratios(forecast, samples, step):
    """Return the MAE over that of no change, `(features,)`."""
    truth = samples.targets[:, step - 1]
    return np.abs(forecast - truth).mean(axis=0) / np.maximum(np.abs(samples.last - truth).mean(axis=0), 1e-300)


def mean(values):
    """Return the geometric mean."""
    return float(np.exp(np.log(np.maximum(values, 1e-12)).mean()))


def forecast_all(forecaster, samples):
    """Forecast samples in chunks."""
    cuts = [slice(start, start + 1024) for start in range(0, len(samples), 1024)]
    return np.concatenate([forecaster(samples.windows[cut], samples.times[cut]) for cut in cuts])


def configure(recipe, source):
    """Return the options of a recipe: counts of sliding windows in logarithms, anything else as it is."""
    options = dict(recipe.model)
    if "transform" not in options:
        options["transform"] = "log1p" if source.panes else "none"
    return ModelConfig(steps_ahead=max(STEPS), **options), FitConfig(**recipe.fit)


def fit_product(source, recipes):
    """Fit the recipes, choose one on the validation range, refit and export it; return its name, graph, data and figures."""
    scored = []
    for recipe in recipes:
        model, options = configure(recipe, source)
        data = prepare_data(source, model)
        began = time.process_time()
        fitted = fit(model, options, data.samples["train"], data.samples["validation"])
        forecaster = compile_forecaster(fitted.network, model, fitted.scaler, len(data.series.names))
        validation = data.samples["validation"]
        score = validation_score(validation.targets, forecast_all(forecaster, validation), validation.last)
        print(f"- {recipe.name}: {score:.4f} on validation, {time.process_time() - began:.0f} s", flush=True)
        scored.append((score, recipe))
    _, recipe = min(scored, key=lambda pair: pair[0])
    model, options = configure(recipe, source)
    data = prepare_data(source, model)
    began = time.process_time()
    refitted = fit(
        model, replace(options, refit="all"), data.samples["train"], data.samples["validation"],
        calibration=data.samples["calibration"],
    )  # fmt: skip
    seconds = time.process_time() - began
    graph = export_graph(refitted.network, model, refitted.scaler, len(data.series.names))
    return recipe.name, graph, data, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", default="mods-2019,mods-2018,api-01,eth1,datapool,machine-1-2,machine-2-1")
    parser.add_argument("--recipes", default=",".join(recipe.name for recipe in RECIPES))
    arguments = parser.parse_args()
    recipes = [recipe for recipe in RECIPES if recipe.name in arguments.recipes.split(",")]
    for name in arguments.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            source = make_sources(arguments.data, Path(folder))[name]()
            print(f"\n### {name}\n", flush=True)
            winner, graph, data, seconds = fit_product(source, recipes)
            test = data.samples["test"]
            forecast = forecast_all(open_graph(graph), test)
            times = sorted(measure_latency_microseconds(graph, test.windows[:1]) for _ in range(REPEATS))
            baseline = fit_ridge(data.series, data.samples["train"], data.samples["validation"])
            path = baseline.forecast(data.series, test.origins)
            rows = {
                f"**{winner}, exported**": {step: ratios(forecast[:, step - 1], test, step) for step in STEPS},
                str(baseline): {step: ratios(path[:, step - 1], test, step) for step in STEPS},
            }
            for with_panes in (True, False) if data.series.panes else (False,):
                label = "LightGBM, exact panes" if with_panes else "LightGBM"
                rows[label] = {step: ratios(fit_reference(data, step, with_panes=with_panes), test, step) for step in STEPS}
            names = data.series.names
            shown = names if len(names) <= 4 else []
            print(
                f"\n{len(test):,} windows; refit {seconds:.0f} s, one row {times[0]:.0f} us at least, {len(graph) / 1e6:.1f} MB\n"
            )
            print(
                "| model | "
                + " | ".join(f"k = {step}" for step in STEPS)
                + " | "
                + " | ".join(f"{n} k = 1" for n in shown)
                + " |"
            )
            print("| --- |" + " --- |" * (len(STEPS) + max(1, len(shown))))
            for label, by_step in rows.items():
                cells = [f"{mean(by_step[step]):.3f}" for step in STEPS] + [f"{value:.3f}" for value in by_step[1][: len(shown)]]
                print(f"| {label} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nPeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB.")


if __name__ == "__main__":
    main()
