"""Baselines of `training.evaluation.baselines` and LightGBM on mods-2019: MAE relative to persistence on May 2019.

Trained on January to April, of which the end is validation (early stopping of LightGBM, strength of the ridge). LightGBM
(L1 loss) sees 36 lags and lag 144 of differences of log1p, the level and the time of day; one model per feature and step.

Usage: python benchmarks/training/baselines.py [--data FILE] [--steps 1,6,12] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path

import lightgbm
import numpy as np

from training.data.gaps import forward_fill
from training.data.source import SourceConfig
from training.evaluation.baselines import fit_baselines
from training.fitting.prepare import prepare_data
from training.network.config import ModelConfig

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"
LAGS, SEASON = 36, 144


def lagged(series, origins):
    """Lags `(n, inputs)` of all features, and the last row `(n, features)` in log1p."""
    z = np.log1p(forward_fill(series.values))
    differences = np.diff(z, axis=0, prepend=z[:1])
    recent = differences[np.maximum(origins[:, None] - np.arange(1, LAGS + 1), 0)].reshape(len(origins), -1)
    clock = series.times[origins].astype(np.int64) % 86_400
    phase = 2 * np.pi * clock / 86_400
    return recent, z[origins - 1], np.stack([np.sin(phase), np.cos(phase), clock], axis=1), z


def fit_lightgbm(data, steps, seed):
    """Forecast the test range, `{step: (n, features)}`."""
    series, parts = data.series, data.samples
    x, last, levels = {}, {}, None
    for name in ("train", "validation", "test"):
        recent, last[name], clock, levels = lagged(series, parts[name].origins)
        x[name] = (recent, clock)
    forecasts = {}
    for step in steps:
        forecast = np.empty((len(parts["test"]), len(series.names)))
        for j in range(len(series.names)):
            inputs, targets = {}, {}
            for name, part in parts.items():
                if name not in x:
                    continue
                origins = part.origins
                seasonal = levels[np.maximum(origins + step - 1 - SEASON, 0)] - last[name]  # a day before what is forecast
                inputs[name] = np.concatenate([*x[name], last[name], seasonal], axis=1)
                targets[name] = np.log1p(part.targets[:, step - 1, j]) - last[name][:, j]
            model = lightgbm.LGBMRegressor(
                objective="l1", n_estimators=300, learning_rate=0.06, num_leaves=31, min_child_samples=40,
                subsample=0.8, subsample_freq=1, colsample_bytree=0.5, random_state=seed, n_jobs=1, verbose=-1,
            )  # fmt: skip
            model.fit(
                inputs["train"], targets["train"], eval_set=[(inputs["validation"], targets["validation"])],
                callbacks=[lightgbm.early_stopping(30, verbose=False)],
            )  # fmt: skip
            forecast[:, j] = np.expm1(last["test"][:, j] + model.predict(inputs["test"])).clip(0)
        forecasts[step] = forecast
    return forecasts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(DATA))
    parser.add_argument("--steps", default="1,6,12")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", default="")
    arguments = parser.parse_args()
    steps = [int(step) for step in arguments.steps.split(",")]
    source = SourceConfig(
        csv=arguments.data,
        window_slide="w01h-s10m",
        train_time_range="<2019-01-01,2019-05-01)",
        validation_share=0.12,
        calibration_share=0.01,  # none of these needs one
        test_time_range="<2019-05-01,2019-06-01)",
    )
    data = prepare_data(source, ModelConfig(sequence_len=36, steps_ahead=max(steps)))
    test = data.samples["test"]
    began = time.perf_counter()
    forecasts = {}
    for baseline in fit_baselines(data.series, data.samples["train"], data.samples["validation"]):
        path = baseline.forecast(data.series, test.origins)
        forecasts[str(baseline)] = {step: path[:, step - 1] for step in steps}
    print(f"{len(test)} windows of May; baselines in {time.perf_counter() - began:.1f} s", flush=True)
    began = time.perf_counter()
    forecasts["LightGBM (L1)"] = fit_lightgbm(data, steps, arguments.seed)
    print(f"LightGBM in {time.perf_counter() - began:.1f} s")
    table = {}
    print(f"{'MAE relative to persistence':32s} {'k':>3s} " + " ".join(f"{name:>16s}" for name in data.series.names) + "   mean")
    for name, by_step in forecasts.items():
        for step, forecast in by_step.items():
            truth = test.targets[:, step - 1]
            ratio = np.abs(forecast - truth).mean(0) / np.abs(test.windows[:, -1] - truth).mean(0)
            mean = float(np.exp(np.log(ratio).mean()))
            table[f"{name} k={step}"] = {**dict(zip(data.series.names, ratio.tolist(), strict=True)), "mean": mean}
            print(f"{name:32s} {step:3d} " + " ".join(f"{value:16.3f}" for value in ratio) + f" {mean:6.3f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
