"""Our detector beside well-known ones on every labelled set of some folders.

Understood: npz with train, test and label; csv or csv.gz with timestamp, value and label in any letter case, of which the
first half is for training, rows labelled anomalous there dropped; csv without label of which a combined_windows.json
beside it or above it knows the windows. Sets without an anomaly count for false episodes only.

Usage: python benchmarks/detection.py DIR... [--models MLP,GRU,Conv1D] [--json FILE] [--markdown FILE] [--budget 1.0]
Needs the dependency groups `train` and `bench`.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import detection_comparators as comparators
import detection_ours as ours
import numpy as np
from detection_measures import alarm_measures, volumes
from detection_sets import find_sets

MEASURES = ("vus_pr", "vus_roc", "range_f1")


def measured(given, score, alarm, seconds):
    """Measure scores `(m,)` and alarms `(m,)`."""
    found = {"seconds": seconds} | alarm_measures(given.label, alarm, ours.HOLDOFF_ROWS, given.rows_a_day)
    return found | volumes(given.label, score) if given.label.any() else found


def judge(given, models, budget):
    """Yield the name of each method with its measures."""
    for model in models:
        started = time.perf_counter()
        prepared = ours.prepare(given, model)
        detector = ours.detector_of(prepared)
        score, alarm = ours.replay(prepared, detector, budget)
        yield f"ours, {model}", measured(given, score, alarm, time.perf_counter() - started)
    for name in comparators.COMPARATORS:
        started = time.perf_counter()
        score, alarm = comparators.run(name, given, budget / given.rows_a_day, ours.CALIBRATION_SHARE)
        yield name, measured(given, score, alarm, time.perf_counter() - started)


def ranks(results, methods):
    """Return the mean rank by VUS-PR of each method over the sets that have anomalies."""
    table = np.array([[-methods_of[name]["vus_pr"] for name in methods] for methods_of in results.values()])
    order = (table[:, :, None] > table[:, None, :]).sum(axis=2) + ((table[:, :, None] == table[:, None, :]).sum(axis=2) + 1) / 2
    return dict(zip(methods, order.mean(axis=0).tolist(), strict=True))


def markdown(results, budget):
    """Write the tables."""
    methods = list(next(iter(results.values())))
    labelled = {name: found for name, found in results.items() if all("vus_pr" in of for of in found.values())}
    if not labelled:
        return "No set holds an anomaly.\n"
    placed = ranks(labelled, methods)
    lines = ["| VUS-PR | " + " | ".join(methods) + " |", "| --- |" + " ---: |" * len(methods)]
    for name, found in labelled.items():
        best = max(found[method]["vus_pr"] for method in methods)
        cells = [f"**{found[m]['vus_pr']:.3f}**" if found[m]["vus_pr"] == best else f"{found[m]['vus_pr']:.3f}" for m in methods]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for title, values in (
        *((f"mean {m}", {k: np.mean([found[k][m] for found in labelled.values()]) for k in methods}) for m in MEASURES),
        ("mean rank by VUS-PR", placed),
        (
            "episodes found, of " + str(sum(f[methods[0]]["events"] for f in labelled.values())),
            {k: sum(found[k]["found"] for found in labelled.values()) for k in methods},
        ),
        (
            "median delay, rows",
            {
                k: np.median(
                    [found[k]["delay_rows"] for found in labelled.values() if found[k]["delay_rows"] is not None] or [np.nan]
                )
                for k in methods
            },
        ),
        (
            f"false episodes a day at a budget of {budget:g}",
            {
                k: sum(f[k]["false_episodes"] for f in results.values()) / sum(f[k]["quiet_days"] for f in results.values())
                for k in methods
            },
        ),
    ):
        lines.append(f"| *{title}* | " + " | ".join(f"{values[m]:.3g}" for m in methods) + " |")
    first = [m for m in methods if m.startswith("ours")]
    lines += ["", f"| false episodes a day at a budget of {budget:g} | quiet days | " + " | ".join(first) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * len(first))
    for name, found in results.items():
        rates = [f"{found[m]['false_episodes'] / max(found[m]['quiet_days'], 1e-9):.2f}" for m in first]
        lines.append(f"| {name} | {found[methods[0]]['quiet_days']:.1f} | " + " | ".join(rates) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--models", default="MLP,GRU,Conv1D")
    parser.add_argument("--budget", type=float, default=1.0, help="false alarms per series and day")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    for given in find_sets(arguments.folders):
        print(f"{given.name}: {given.train.shape} to learn from, {given.test.shape} to judge", flush=True)
        results[given.name] = {}
        for method, found in judge(given, arguments.models.split(","), arguments.budget):
            results[given.name][method] = found
            shown = ", ".join(f"{k} {v:.3g}" for k, v in found.items() if v is not None)
            print(f"  {method}: {shown}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({"budget": arguments.budget, "sets": results}, indent=1) + "\n")
    text = markdown(results, arguments.budget)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)


if __name__ == "__main__":
    main()
