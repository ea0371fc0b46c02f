"""Events injected into real traffic of May 2019: how many are found, how soon, and what is raised on untouched months.

Every event is put into a copy of its own of the rows around it, which the shipped model watches as one of many series. The
events are those of `training.events`: what one adds to, or takes from, the counts of ten minutes, summed over the six of
each window. An event is found at a row that touches it, is anomalous, and is not without the event; its delay is counted in
rows from the first window that touches it, which holds ten minutes of it.

Usage: python benchmarks/injected.py [--data FILE] [--repository exported] [--model mods-2019] [--per-kind 20] [--json FILE]
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector, Monitor, Phase, significance_from_budget
from training.events import SHAPES, STRENGTHS
from training.forecaster import open_graph

NANOS = 10**9
DATA = Path(os.environ.get("MODS_DATA", "../shared/data")) / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"
BUDGETS = {"1 a day": 1.0, "1 a week": 1 / 7, "1 a month": 1 / 30}
OVERLAP = 6  # windows that hold the same ten minutes
BEFORE, AFTER = 3 * 144, 36  # rows of the copy around an event
SEED = 20190501


class Watched:
    """The model with its detector."""

    def __init__(self, repository, name):
        artifact = read_artifact(Path(repository), name, max(int(p.name) for p in (Path(repository) / name).iterdir()))
        self.manifest = artifact.manifest
        self.forecast = open_graph(artifact.model)
        self.detector = Detector.from_manifest(self.manifest)

    def watch(self, times, values, budget, adapt=True):
        """Watch n series of the same length, `times` `(n, rows)` seconds, `values` `(n, rows, features)`."""
        series, rows = times.shape
        table = self.detector.table(self.manifest.rows)
        slots = np.array([table.allocate() for _ in range(series)])
        slide = self.manifest.slide_seconds
        monitor = Monitor(
            self.detector,
            self.forecast,
            table,
            slide_seconds=slide,
            holdoff_rows=self.manifest.calibration.holdoff_rows,
            adapt=adapt,
        )
        level = significance_from_budget(budget, slide, self.detector.calibration.extremal_index)
        anomalous, started, judged = (np.zeros((series, rows), np.bool_) for _ in range(3))
        for row in range(rows):
            at = np.flatnonzero(~np.isnan(values[:, row]).all(axis=1))
            found = monitor.observe(
                slots[at],
                times[at, row] * NANOS,
                values[at, row],
                judged=np.ones(at.size, np.bool_),
                significance=level,
                impute_rows=6,
            )
            anomalous[at, row], started[at, row] = found.anomalous, found.phase == Phase.STARTED
            judged[at, row] = np.isfinite(found.p_value)
        return anomalous, started, judged


def inject(values, names, kind, strength, start, length, generator):
    """Return a copy of windows `(rows, features)` with an event in the ten minutes `start` to `start + length`."""
    shape, changed = SHAPES[kind], values.copy()
    course = np.linspace(0, 1, length) if shape.ramps else np.ones(length)
    effect = np.zeros(len(values) + OVERLAP)
    for name, amount in shape.added.items():
        effect[:] = 0
        effect[start : start + length] = generator.poisson(amount * strength * course)
        changed[:, names.index(name)] += np.convolve(effect, np.ones(OVERLAP))[OVERLAP - 1 :][: len(values)]
    for name, factor in shape.factor.items():
        effect[:] = 0
        effect[start : start + length] = (factor - 1) * strength * course / OVERLAP
        share = 1 + np.convolve(effect, np.ones(OVERLAP))[OVERLAP - 1 :][: len(values)]
        changed[:, names.index(name)] = np.round(changed[:, names.index(name)] * share)
    return changed


def place(kind, per_kind, count, generator):
    """Place events of a kind: start in the month and length, whole in it and with room before."""
    low, high = SHAPES[kind].rows
    lengths = generator.integers(low, high + 1, per_kind)
    return [(int(generator.integers(BEFORE, count - length - AFTER)), int(length)) for length in lengths]


def found_events(watched, times, values, names, per_kind, budget):
    """Return recall and delays by kind and strength."""
    generator = np.random.default_rng(SEED)
    results = {}
    for kind, shape in SHAPES.items():
        rows = BEFORE + shape.rows[1] + AFTER
        for strength in STRENGTHS:
            copies, clean, spans, when = [], [], [], []
            for start, length in place(kind, per_kind, len(values), generator):
                part = slice(start - BEFORE, start - BEFORE + rows)
                copy = np.full((rows, len(names)), np.nan)
                source = values[part]
                copy[: len(source)] = source
                clean.append(copy)
                copies.append(inject(copy, names, kind, strength, BEFORE, length, generator))
                spans.append(slice(BEFORE - OVERLAP + 1, BEFORE + length))
                when.append(times[0] + (start - BEFORE + np.arange(rows)) * 600)
            touched, _, _ = watched.watch(np.stack(when), np.stack(copies), budget)
            before, _, _ = watched.watch(np.stack(when), np.stack(clean), budget)
            delays = [
                int(np.argmax(new)) if (new := (a & ~b)[span]).any() else None
                for a, b, span in zip(touched, before, spans, strict=True)
            ]
            found = [delay for delay in delays if delay is not None]
            results[f"{kind} {strength:g}"] = {
                "events": len(delays),
                "found": len(found),
                "within_3_rows": sum(delay <= 3 for delay in found),
                "median_delay": float(np.median(found)) if found else None,
                "in_alarm_anyway": int(sum(b[span].any() for b, span in zip(before, spans, strict=True))),
            }
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--repository", default="exported")
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--per-kind", type=int, default=20, help="events of each kind and strength (default: 20)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    watched = Watched(arguments.repository, arguments.model)
    names = [feature.name for feature in watched.manifest.features]
    table = pd.read_csv(arguments.data, sep="\t")
    stamps = pd.to_datetime(table.iloc[:, 0]).to_numpy().astype("datetime64[s]").astype(np.int64)
    values = table[names].to_numpy(np.float64)
    month = {
        name: (stamps >= _second(a)) & (stamps < _second(b))
        for name, a, b in (("April", "2019-04-01", "2019-05-01"), ("May", "2019-05-01", "2019-06-01"))
    }
    results = {"seed": SEED, "untouched": {}, "injected": {}}
    for title, budget in BUDGETS.items():
        for name, rows in month.items():
            for adapt in (True, False):
                _, started, judged = watched.watch(stamps[rows][None], values[rows][None], budget, adapt)
                days = judged.sum() * watched.manifest.slide_seconds / 86_400
                told = {"episodes": int(started.sum()), "days": float(days), "budget": budget * days}
                results["untouched"][f"{name}, {title}, {'adapting' if adapt else 'fixed'}"] = told
                print(f"{name}, budget {title}, {'adapting' if adapt else 'fixed'}: {told['episodes']} episodes", flush=True)
        may = month["May"]
        results["injected"][title] = found_events(watched, stamps[may], values[may], names, arguments.per_kind, budget)
        for event, told in results["injected"][title].items():
            print(f"  {event}: {told['found']}/{told['events']}, delay {told['median_delay']}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(results))


def _second(text):
    return int(np.datetime64(text, "s").astype(np.int64))


def markdown(results):
    """Write the tables."""
    titles = list(results["injected"])
    lines = ["| event, strength | " + " | ".join(f"{t}: found, within 3 rows, delay; in alarm anyway" for t in titles) + " |"]
    lines.append("| --- |" + " --- |" * len(titles))
    for event in results["injected"][titles[0]]:
        cells = []
        for title in titles:
            told = results["injected"][title][event]
            delay = "-" if told["median_delay"] is None else f"{told['median_delay']:g}"
            cells.append(f"{told['found']}/{told['events']}, {told['within_3_rows']}, {delay}; {told['in_alarm_anyway']}")
        lines.append(f"| {event.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += ["", "| untouched | days | budget, episodes | raised |", "| --- | ---: | ---: | ---: |"]
    for name, told in results["untouched"].items():
        lines.append(f"| {name} | {told['days']:.1f} | {told['budget']:.1f} | {told['episodes']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
