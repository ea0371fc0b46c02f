"""Measure what own scales do for a series that is unlike the ones its model was calibrated on.

Each labelled set is scored three times at a budget of one false alarm per day, as in a stream with an adapting level: by its own
calibration; by one with residuals half as large, as if made on a quieter series; and by that one while the series adapts its own
scales. Sets are read as by `compare.py`.

Usage: python benchmarks/detection/cold_start.py DIR... [--model MLP] [--noisier 2] [--json FILE]
"""

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

from benchmarks.detection import ours
from benchmarks.detection.labelled_sets import find_sets
from benchmarks.detection.measures import compute_vus, count_false_episodes
from mods_grpc.detection import Detector

BUDGET = 1.0


def make_quieter(detector, factor, training_range):
    """Return a detector as if calibrated on residuals smaller by a factor."""
    scales = tuple(tuple(scale / factor for scale in row) for row in detector.calibration.scales)
    return Detector(replace(detector.calibration, scales=scales), detector.space, training_range)


def measure_detector(labelled, prepared, detector, own_scales):
    score, alarm = ours.replay(prepared, detector, BUDGET, own_scales=own_scales)
    measures = {"false_episodes": int(count_false_episodes(labelled.label, alarm, ours.HOLDOFF_ROWS))}
    return measures | (compute_vus(labelled.label, score) if labelled.label.any() else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders of labelled sets")
    parser.add_argument("--model", default="MLP", help="architecture (default: %(default)s)")
    parser.add_argument("--noisier", type=float, default=2.0, help="factor between the residuals (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    print("| false episodes, VUS-PR | its own calibration | of a quieter series | and own scales |\n| --- | ---: | ---: | ---: |")
    for labelled in find_sets(arguments.folders):
        prepared = ours.prepare(labelled, arguments.model)
        detector = ours.make_detector(prepared)
        other = make_quieter(detector, arguments.noisier, ours.compute_training_range(prepared))
        cases = {"own calibration": (detector, False), "quieter": (other, False), "own scales": (other, True)}
        results[labelled.name] = {title: measure_detector(labelled, prepared, *case) for title, case in cases.items()}
        cells = [
            f"{measures['false_episodes']}" + (f", {measures['vus_pr']:.3f}" if "vus_pr" in measures else "")
            for measures in results[labelled.name].values()
        ]
        print(f"| {labelled.name} | " + " | ".join(cells) + " |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
