"""Prediction intervals of a published model: those of its calibration beside those of the series' own, on the model's test range.

The own intervals start as the calibration's at the start of the range and move from row to row, as on a server. Measured are the
share of values inside and the CRPS (99 levels) over the MAE of no change. With anomalies: at 20 random places the residuals of an
hour are moved up or down by 20 times their scale, in what the intervals learn from, not in what they are measured on.

Usage: python benchmarks/training/forecast_intervals.py [--model exported/mods-2019/1] [--data FILE]
"""

import argparse
import os
from pathlib import Path

import numpy as np

from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector
from training.data.source import SourceConfig, load_series
from training.data.time_range import Interval
from training.data.windows import make_samples
from training.evaluation.intervals import REPORTED_COVERAGES, measure_coverage, measure_crps, track_quantiles
from training.export.onnx_forecaster import open_model

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MODS_DATA", ROOT.parent / "shared" / "data"))
MODS_2019 = DATA / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"
BURSTS, BURST_ROWS, BURST_SCALES = 20, 6, 20.0
BARS = {0.8: 2.5, 0.95: 1.0}  # points that a realised coverage may differ


def read(model, data):
    """Return the detector, the forecasts and samples of the model's test range, and the names of its features."""
    folder = ROOT / model
    artifact = read_artifact(folder.parents[1], folder.parent.name, int(folder.name))
    manifest = artifact.manifest
    source = SourceConfig.from_manifest(manifest, {"csv": str(data)})
    interval = source.ranges().test
    lead = np.timedelta64(manifest.rows * manifest.slide_seconds, "s")
    series = load_series(source, Interval(start=interval.start - lead, end=interval.end))
    samples = make_samples(series, (series.slice(interval),), manifest.rows, manifest.horizon)
    forecasts = open_model(artifact)(samples.windows, samples.times)
    return Detector.from_manifest(manifest), forecasts, samples, series.names


def disturb(detector, samples):
    """Return the observed values with anomalies, `(n, horizon, features)`."""
    generator = np.random.default_rng(1)
    horizon = samples.targets.shape[1]
    moved = np.zeros(samples.origins[-1] + horizon + 1)
    for start in generator.choice(samples.origins, BURSTS, replace=False):
        moved[start : start + BURST_ROWS] = generator.choice([-1.0, 1.0]) * BURST_SCALES
    shift = moved[samples.origins[:, None] + np.arange(horizon)][..., None] * np.array(detector.calibration.scales)
    return np.where(shift == 0, samples.targets, detector.space.inverse(detector.space.forward(samples.targets) + shift))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="exported/mods-2019/1")
    parser.add_argument("--data", default=str(MODS_2019))
    arguments = parser.parse_args()
    detector, forecasts, samples, names = read(arguments.model, arguments.data)
    targets, last, steps = samples.targets, samples.last, detector.calibration.horizons
    tracked = {
        "own": track_quantiles(detector, samples.origins, targets, forecasts),
        "own, with anomalies": track_quantiles(detector, samples.origins, disturb(detector, samples), forecasts),
    }
    coverage = {
        kind: {
            (entry.feature, entry.step, entry.nominal): 100 * entry.realised
            for entry in measure_coverage(detector, targets, forecasts, names, quantiles=quantiles)
        }
        for kind, quantiles in {"calibration": None, **tracked}.items()
    }
    measured = {kind: measure_crps(detector, targets, forecasts, last, names, quantiles) for kind, quantiles in tracked.items()}
    crps = {kind: {(entry.feature, entry.step): entry.own for entry in entries} for kind, entries in measured.items()}
    crps["calibration"] = {(entry.feature, entry.step): entry.calibration for entry in measured["own"]}
    print(f"{arguments.model}, {len(samples):,} windows; {tracked['own'][0].nbytes} bytes of state per series.\n")
    print("Mean distance of realised from promised coverage over features, in points, 80 / 95 / 99 %; CRPS, geometric mean:\n")
    print("| intervals | " + " | ".join(f"k={step}" for step in steps) + " |\n|---|" + "---|" * len(steps))
    for kind in coverage:
        cells = []
        for step in steps:
            away = [
                np.mean([abs(coverage[kind][name, step, nominal] - 100 * nominal) for name in names])
                for nominal in REPORTED_COVERAGES
            ]
            mean = np.exp(np.mean([np.log(crps[kind][name, step]) for name in names]))
            cells.append(" / ".join(f"{points:.1f}" for points in away) + f"; {mean:.3f}")
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print("\nShare of values inside, %, 80 / 95 / 99 %; CRPS, calibration → own:\n")
    print("| feature | " + " | ".join(f"k={step}" for step in steps) + " |\n|---|" + "---|" * len(steps))
    for name in names:
        cells = []
        for step in steps:
            kinds = ("calibration", "own")
            inside = [" / ".join(f"{coverage[kind][name, step, c]:.1f}" for c in REPORTED_COVERAGES) for kind in kinds]
            cells.append(" → ".join(inside) + "; " + " → ".join(f"{crps[kind][name, step]:.3f}" for kind in kinds))
        print(f"| {name} | " + " | ".join(cells) + " |")
    missed = [
        f"{name} k={step} {nominal:.0%} {coverage['own'][name, step, nominal]:.1f} %"
        for name in names
        for step in steps
        for nominal, bar in BARS.items()
        if abs(coverage["own"][name, step, nominal] - 100 * nominal) > bar
    ]
    bars = " and ".join(f"{bar:g} at {nominal:.0%}" for nominal, bar in BARS.items())
    print(f"\nOwn intervals further from what they promise than {bars}: {', '.join(missed) or 'none'}.")


if __name__ == "__main__":
    main()
