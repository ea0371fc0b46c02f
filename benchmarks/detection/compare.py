"""Our detector beside well-known ones on every labelled set of some folders.

Understood: npz with train, test and label; csv or csv.gz with timestamp, value and label in any letter case, of which the
first half is for training, rows labelled anomalous there dropped; csv without label of which a combined_windows.json
beside it or above it knows the windows. Sets without an anomaly count for false episodes only.

Usage: python benchmarks/detection/compare.py DIR... [--models MLP,Conv1D,GRU] [--quantiles Q,Q] [--json FILE] [--markdown FILE]
           [--budget 1.0]
With quantiles each model is measured a second time, fitted with them and judged by them.
What FILE holds already is not measured again, so a run that was broken off can be gone on with.

Needs the extra `train` and the dependency group `bench`, and the package vus without its dependencies, of which some can't
be installed beside ours and none but those in `bench` is used:

    pip install --group bench && pip install --no-deps vus==0.0.6
"""

import argparse
import json
import time
import warnings
from pathlib import Path

from benchmarks.detection import comparators, ours
from benchmarks.detection.labelled_sets import find_sets
from benchmarks.detection.measures import alarm_measures, false_episodes, volumes
from benchmarks.detection.tables import markdown

BUDGETS = {"1 a day": 1.0, "1 a week": 1 / 7, "1 a month": 1 / 30}


def measured(given, score, alarm, seconds):
    """Measure scores `(m,)` and alarms `(m,)`."""
    measures = {"seconds": seconds} | alarm_measures(given.label, alarm, ours.HOLDOFF_ROWS, given.rows_a_day)
    return measures | volumes(given.label, score) if given.label.any() else measures


def judge_ours(given, model, quantiles, budget):
    """Fit, calibrate and replay a model; measure it at the budget, and count its false episodes at all of BUDGETS."""
    started = time.perf_counter()
    prepared = ours.prepare(given, model, quantiles)
    detector = ours.detector_of(prepared)
    score, alarm = ours.replay(prepared, detector, budget)
    measures = measured(given, score, alarm, time.perf_counter() - started)
    measures["budgets"] = {}
    for title, per_day in BUDGETS.items():
        raised = alarm if per_day == budget else ours.replay(prepared, detector, per_day)[1]
        measures["budgets"][title] = false_episodes(given.label, raised, ours.HOLDOFF_ROWS)
    return measures


def judge_other(given, name, budget):
    """Measure a comparator."""
    started = time.perf_counter()
    score, alarm = comparators.run(name, given, budget / given.rows_a_day, ours.CALIBRATION_SHARE)
    return measured(given, score, alarm, time.perf_counter() - started)


def judge(given, models, budget, cached):
    """Yield the name of each method that is not known yet with its measures; `models` are architecture and quantiles by name."""
    for title, (model, quantiles) in models.items():
        if title not in cached:
            yield title, judge_ours(given, model, quantiles, budget)
    for name in comparators.COMPARATORS:
        if name not in cached:
            yield name, judge_other(given, name, budget)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--models", default="MLP,Conv1D,GRU")
    parser.add_argument("--quantiles", default="", metavar="Q,Q")
    parser.add_argument("--budget", type=float, default=1.0, help="false alarms per series and day")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    models = {f"ours, {model}": (model, "") for model in arguments.models.split(",")}
    if arguments.quantiles:
        models |= {f"{title}, quantiles": (model, arguments.quantiles) for title, (model, _) in models.items()}
    results = {}
    if arguments.json and arguments.json.exists():
        held = json.loads(arguments.json.read_text())
        if held["budget"] != arguments.budget:
            parser.error(f"{arguments.json} was measured at a budget of {held['budget']:g}")
        results = held["sets"]
    for given in find_sets(arguments.folders):
        print(f"{given.name}: {given.train.shape} to learn from, {given.test.shape} to judge", flush=True)
        mine = results.setdefault(given.name, {})
        for method, measures in judge(given, models, arguments.budget, mine):
            mine[method] = measures
            shown = ", ".join(f"{k} {v:.3g}" for k, v in measures.items() if isinstance(v, int | float))
            print(f"  {method}: {shown}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"budget": arguments.budget, "sets": results}, indent=1) + "\n")
    text = markdown(results, arguments.budget, BUDGETS)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)


if __name__ == "__main__":
    main()
