"""What own scales do for a series that is unlike the ones its model was calibrated on.

Each labelled set is judged three times at a budget of one false alarm a day, as a stream with an adapting level is: by its own
calibration; by one whose residuals were half as large, as if made on a quieter series; and by that one while the series moves
to scales of its own. Sets are read as `detection.py` reads them.

Usage: python benchmarks/detection/cold_start.py DIR... [--model MLP] [--noisier 2] [--json FILE]
"""

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

from benchmarks.detection import ours
from benchmarks.detection.labelled_sets import find_sets
from benchmarks.detection.measures import false_episodes, volumes
from mods_grpc.detection import Detector

BUDGET = 1.0


def quieter(detector, factor, training_range):
    """Return a detector that was calibrated on residuals smaller by a factor."""
    scales = tuple(tuple(scale / factor for scale in row) for row in detector.calibration.scales)
    return Detector(replace(detector.calibration, scales=scales), detector.space, training_range)


def judged(given, prepared, detector, own_scales):
    score, alarm = ours.replay(prepared, detector, BUDGET, own_scales=own_scales)
    measures = {"false_episodes": int(false_episodes(given.label, alarm, ours.HOLDOFF_ROWS))}
    return measures | (volumes(given.label, score) if given.label.any() else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--model", default="MLP")
    parser.add_argument("--noisier", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    print("| false episodes, VUS-PR | its own calibration | of a quieter series | and own scales |\n| --- | ---: | ---: | ---: |")
    for given in find_sets(arguments.folders):
        prepared = ours.prepare(given, arguments.model)
        detector = ours.detector_of(prepared)
        other = quieter(detector, arguments.noisier, ours.training_range(prepared))
        ways = {"own calibration": (detector, False), "quieter": (other, False), "own scales": (other, True)}
        results[given.name] = {title: judged(given, prepared, *way) for title, way in ways.items()}
        cells = [
            f"{measures['false_episodes']}" + (f", {measures['vus_pr']:.3f}" if "vus_pr" in measures else "")
            for measures in results[given.name].values()
        ]
        print(f"| {given.name} | " + " | ".join(cells) + " |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
