"""Compare our detector with well-known ones on every labelled set of some folders.

Formats: npz with train, test and label; csv or csv.gz with timestamp, value and label in any letter case, where the first half
is for training, without the rows labelled anomalous; csv without label, if a combined_windows.json in the same folder or above
names its anomalous windows. Sets without an anomaly count for false episodes only.

Usage: python benchmarks/detection/compare.py DIR... [--models MLP,Conv1D,GRU] [--quantiles Q,Q] [--json FILE] [--markdown FILE]
           [--budget 1.0]
With quantiles each model is measured a second time, fitted with them and scored by them. Results that the JSON file already
holds are not measured again, so an interrupted run can be continued.

Needs the extra `train`, the dependency group `bench`, and the package vus without its dependencies: some conflict with ours, and
only those in `bench` are used:

    pip install --group bench && pip install --no-deps vus==0.0.6
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

from benchmarks.detection import comparators, ours
from benchmarks.detection.labelled_sets import find_sets
from benchmarks.detection.measures import compute_vus, count_false_episodes, measure_alarms
from benchmarks.detection.tables import format_tables

BUDGETS = {"1 a day": 1.0, "1 a week": 1 / 7, "1 a month": 1 / 30}


def compute_measures(labelled, score, alarm, seconds):
    """Return the measures of scores `(m,)` and alarms `(m,)`; `seconds` is how long the method took."""
    measures = {"seconds": seconds} | measure_alarms(labelled.label, alarm, ours.HOLDOFF_ROWS, labelled.rows_per_day)
    return measures | compute_vus(labelled.label, score) if labelled.label.any() else measures


def measure_ours(labelled, model, quantiles, budget):
    """Fit, calibrate and replay a model. Returns its measures at `budget`, and its false episodes at each of BUDGETS."""
    started = time.perf_counter()
    prepared = ours.prepare(labelled, model, quantiles)
    detector = ours.make_detector(prepared)
    score, alarm = ours.replay(prepared, detector, budget)
    measures = compute_measures(labelled, score, alarm, time.perf_counter() - started)
    measures["budgets"] = {}
    for title, per_day in BUDGETS.items():
        raised = alarm if per_day == budget else ours.replay(prepared, detector, per_day)[1]
        measures["budgets"][title] = count_false_episodes(labelled.label, raised, ours.HOLDOFF_ROWS)
    return measures


def measure_comparator(labelled, name, budget):
    """Measure a comparator."""
    started = time.perf_counter()
    score, alarm = comparators.score_and_alarm(name, labelled, budget / labelled.rows_per_day, ours.CALIBRATION_SHARE)
    return compute_measures(labelled, score, alarm, time.perf_counter() - started)


def measure_missing(labelled, models, budget, cached):
    """Yield the name and measures of each method that is not in `cached`. `models` holds architecture and quantiles by name."""
    for title, (model, quantiles) in models.items():
        if title not in cached:
            yield title, measure_ours(labelled, model, quantiles, budget)
    for name in comparators.COMPARATORS:
        if name not in cached:
            yield name, measure_comparator(labelled, name, budget)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders of labelled sets")
    parser.add_argument("--models", default="MLP,Conv1D,GRU", help="architectures, by commas (default: %(default)s)")
    parser.add_argument("--quantiles", default="", metavar="Q,Q", help="also measure each model with these quantiles")
    parser.add_argument("--budget", type=float, default=1.0, help="false alarms per series and day (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to, and to continue from")
    parser.add_argument("--markdown", type=Path, help="file to write the tables to")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    models = {f"ours, {model}": (model, "") for model in arguments.models.split(",")}
    if arguments.quantiles:
        models |= {f"{title}, quantiles": (model, arguments.quantiles) for title, (model, _) in models.items()}
    results = {}
    if arguments.json and arguments.json.exists():
        cached = json.loads(arguments.json.read_text())
        if cached["budget"] != arguments.budget:
            parser.error(f"{arguments.json} was measured at a budget of {cached['budget']:g}")
        results = cached["sets"]
    for labelled in find_sets(arguments.folders):
        print(f"{labelled.name}: {labelled.train.shape} to train on, {labelled.test.shape} to score", file=sys.stderr)
        set_results = results.setdefault(labelled.name, {})
        for method, measures in measure_missing(labelled, models, arguments.budget, set_results):
            set_results[method] = measures
            shown = ", ".join(f"{k} {v:.3g}" for k, v in measures.items() if isinstance(v, int | float))
            print(f"  {method}: {shown}", file=sys.stderr)
            if arguments.json:
                arguments.json.write_text(json.dumps({"budget": arguments.budget, "sets": results}, indent=1) + "\n")
    tables = format_tables(results, arguments.budget, BUDGETS)
    print(tables)
    if arguments.markdown:
        arguments.markdown.write_text(tables)


if __name__ == "__main__":
    main()
