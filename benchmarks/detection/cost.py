"""Measure what scoring costs in addition to the model: microseconds and bytes per series, and a million series in memory.

The detector is that of a shipped model. Forecasts are ready-made, so the time is all that surrounds the model: windows, delay
lines, evidence, p-values, alarms, and storing the rows. For comparison, the time of ONNX Runtime for an untrained LSTM of 32
units on the same windows, measured alternately. Times are the shortest of many rounds. A single observation takes the same path
as in the server.

Usage: python benchmarks/detection/cost.py [--repository exported] [--model mods-2019] [--series 1000000] [--json FILE]
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector, Monitor
from training.export.onnx_forecaster import open_session
from training.export.to_onnx import export_graph
from training.network.architectures import build
from training.network.config import ModelConfig
from training.network.scaler import Scaler

SIZES = (1, 256, 4096)
ROUNDS = {1: 400, 256: 100, 4096: 80}
START = 1_556_668_800


def open_lstm_session(rows, horizon, features):
    config = ModelConfig(model_type="LSTM", sequence_len=rows - 1, steps_ahead=horizon)
    values = np.random.default_rng(1).gamma(50, 20, (64, rows + horizon, features))
    scaler = Scaler.fit(values[:, :rows], values[:, rows:], transform="none", differencing=True)
    return open_session(export_graph(build(config, features), config, scaler, features))


def make_full_monitor(manifest, detector, series, own_envelope=False):
    """Return a monitor whose series have full windows and whose forecasts are ready-made, the slots, and typical values."""
    low = np.array([feature.training_minimum for feature in manifest.features])
    high = np.array([feature.training_maximum for feature in manifest.features])
    middle = np.sqrt((low + 1) * (high + 1))
    forecasts = np.concatenate([middle, 0.97 * middle, 1.04 * middle][: detector.expectation.outputs_per_feature])
    path = np.tile(forecasts, (4096, manifest.horizon, 1))
    table = detector.table(manifest.rows)
    slots = np.array([table.allocate() for _ in range(series)])
    table.values[slots] = middle * np.random.default_rng(2).normal(1, 0.02, (1, manifest.rows, len(middle)))
    table.filled[slots], table.last_time[slots] = manifest.rows, START * NANOS_PER_SECOND
    monitor = Monitor(
        detector,
        lambda windows, _: path[: len(windows)],
        table,
        slide_seconds=manifest.slide_seconds,
        holdoff_rows=6,
        adapt=True,
        own_envelope=own_envelope,
    )
    return monitor, slots, middle


def time_scoring(monitor, slots, middle, manifest, size, rounds):
    """Return the shortest seconds of a call with `size` observations, one per series."""
    rng, best = np.random.default_rng(3), np.inf
    reported = np.ones(size, np.bool_)
    chosen = slots[:size] if len(slots) <= 4096 else rng.choice(slots, size, replace=False)
    for _ in range(rounds):
        values = middle * rng.normal(1, 0.02, (size, len(middle)))
        times = monitor.table.last_time[chosen] + manifest.slide_seconds * NANOS_PER_SECOND
        began = time.perf_counter()
        if size == 1:
            assert monitor.observe_one(int(chosen[0]), int(times[0]), values, significance=1e-4) is not None
        else:
            monitor.observe(chosen, times, values, reported=reported, significance=1e-4, impute_rows=3)
        best = min(best, time.perf_counter() - began)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model (default: %(default)s)")
    parser.add_argument(
        "--series", type=int, default=1_000_000, help="series to hold in memory, at least 4096 (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    artifact = read_artifact(arguments.repository, arguments.model, 1)
    manifest, detector = artifact.manifest, Detector.from_manifest(artifact.manifest)
    session = open_lstm_session(manifest.rows, manifest.horizon, len(manifest.features))
    results = {"model": arguments.model, "rows": manifest.rows, "features": len(manifest.features), "sizes": {}}
    print("| observations per call | scoring, us | us each | with own envelopes | LSTM, us | scoring / LSTM |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in SIZES:
        monitor, slots, middle = make_full_monitor(manifest, detector, 4096)
        other, other_slots, _ = make_full_monitor(manifest, detector, 4096, own_envelope=True)
        scoring = own = ort = np.inf
        for _ in range(ROUNDS[size] // 4):
            scoring = min(scoring, time_scoring(monitor, slots, middle, manifest, size, 4))
            own = min(own, time_scoring(other, other_slots, middle, manifest, size, 4))
            windows = monitor.table.windows(slots[:size])
            began = time.perf_counter()
            session.run(["forecast"], {"window": windows})
            ort = min(ort, time.perf_counter() - began)
        results["sizes"][size] = {"judging_us": scoring * 1e6, "own_envelopes_us": own * 1e6, "lstm_us": ort * 1e6}
        each = scoring * 1e6 / size
        print(
            f"| {size} | {scoring * 1e6:.0f} | {each:.2f} | {own / scoring:.2f} times | {ort * 1e6:.0f} | {scoring / ort:.0%} |",
            flush=True,
        )
    results["bytes_a_series"] = monitor.table.series_bytes
    del monitor
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monitor, slots, middle = make_full_monitor(manifest, detector, arguments.series)
    many = time_scoring(monitor, slots, middle, manifest, 4096, 10)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) / 1024
    held = monitor.table.series_bytes * len(monitor.table.head) / 2**20
    results["many"] = {"series": arguments.series, "judging_us_4096": many * 1e6, "grown_mib": grown, "held_mib": held}
    print(f"\n{results['bytes_a_series']} bytes per series.")
    print(f"{arguments.series:,} series take {held:.0f} MiB, since arrays grow by powers of two.")
    print(f"Peak memory grew by {grown:.0f} MiB. 4,096 observations of these series take {many * 1e6:.0f} us.")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
