"""Baselines of `training.evaluation` on mods-2019, LightGBM among them: MAE relative to persistence on May 2019.

Trained on January to April, of which the end is validation (strength of the ridge, number of trees of LightGBM, which is then
fitted again on both). LightGBM has as many trees as it wants: one model per feature and step.

Usage: python benchmarks/training/baselines.py [--data FILE] [--steps 1,6,12] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from training.data.source import SourceConfig
from training.evaluation.baselines import fit_baselines
from training.evaluation.boosted import fit_lightgbm
from training.fitting.prepare import prepare_data
from training.network.config import ModelConfig

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"


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
    anchor = fit_lightgbm(data.series, data.samples["train"], data.samples["validation"], seed=arguments.seed)
    path = anchor.forecast(data.series, test.origins)
    forecasts[str(anchor)] = {step: path[:, step - 1] for step in steps}
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
