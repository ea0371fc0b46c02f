"""Events injected into real traffic of May 2019: how many are found, how soon, and what is raised on untouched months.

Every event is put into a copy of its own of the rows around it, which the shipped model watches as one of many series. Kinds
and lengths are those of `training.data.events`; sizes are said relative to the network. An event adds to the window that holds
most of it so many robust spreads of the feature at that hour of the day (1.4826 MAD around the median of that hour over the
model's training range): 2 are weak, 4 medium, 8 strong. An outage takes 30, 60 or 98 % of everything; a slow drift reaches
its size at its end.

Events at whose rows the untouched copy is in alarm are set aside: who finds those is lucky. The delay of the others is
counted in rows from the first window that touches the event, which holds ten minutes of it.

Usage: python benchmarks/detection/injected.py [--data FILE] [--repository exported] [--model mods-2019] [--per-kind 50]
           [--json FILE]
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector, Monitor, Phase, significance_from_budget
from training.data.events import EVENT_SHAPES
from training.export.onnx_forecaster import open_model

NANOS = 10**9
DATA = Path(os.environ.get("MODS_DATA", "../shared/data")) / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"
BUDGETS = {"1 a day": 1.0, "1 a week": 1 / 7, "1 a month": 1 / 30}
OVERLAP = 6  # windows that hold the same ten minutes
BEFORE, AFTER = 3 * 144, 36  # rows of the copy around an event
SEED = 20190501
MAY = ("2019-05-01", "2019-06-01")
SPREADS = {"weak": 2.0, "medium": 4.0, "strong": 8.0}  # above the usual, in the window that holds most of an event
LOST = {"weak": 0.3, "medium": 0.6, "strong": 0.98}  # share of everything that an outage takes


class Watched:
    """The model with its detector."""

    def __init__(self, repository, name):
        artifact = read_artifact(Path(repository), name, max(int(p.name) for p in (Path(repository) / name).iterdir()))
        self.manifest = artifact.manifest
        self.forecast = open_model(artifact)
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
            verdicts = monitor.observe(
                slots[at],
                times[at, row] * NANOS,
                values[at, row],
                reported=np.ones(at.size, np.bool_),
                significance=level,
                impute_rows=6,
            )
            anomalous[at, row], started[at, row] = verdicts.anomalous, verdicts.phase == Phase.STARTED
            judged[at, row] = np.isfinite(verdicts.p_value)
        return anomalous, started, judged


class Aggregates:
    """What was recorded: `times` `(n,)` seconds, `values` `(n, features)`, and their `spreads` by hour in the training range."""

    def __init__(self, watched, data):
        table = pd.read_csv(data, sep="\t")
        self.names = [feature.name for feature in watched.manifest.features]
        self.times = pd.to_datetime(table.iloc[:, 0]).to_numpy().astype("datetime64[s]").astype(np.int64)
        self.values = table[self.names].to_numpy(np.float64)
        fitted = watched.manifest.training_range
        self.learnt = self.rows(fitted.start, fitted.end)
        self.spreads = spreads_by_hour(self.times[self.learnt], self.values[self.learnt])

    def rows(self, start, end):
        """Return the rows from one date up to another, which is not among them."""
        return slice(*np.searchsorted(self.times, [np.datetime64(text, "s").astype(np.int64) for text in (start, end)]))


def options(purpose, per_kind):
    """Return the parser of what a benchmark of injected events is told."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--repository", default="exported")
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--per-kind", type=int, default=per_kind, help="events of each kind and size (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    return parser


def spreads_by_hour(stamps, values):
    """Return robust spreads of hourly counts, `(24, features)`, around the median of their hour of the day."""
    hour = stamps // 3600 % 24
    by_hour = [values[hour == h] for h in range(24)]
    return np.array([1.4826 * np.nanmedian(np.abs(rows - np.nanmedian(rows, axis=0)), axis=0) for rows in by_hour])


def inject(values, names, kind, size, start, length, spread, generator):
    """Return a copy of windows `(rows, features)` with an event in the ten minutes `start` to `start + length`.

    `size` is in spreads, of an outage the share that is lost; `spread` is that of each feature at the hour at which the event
    starts.
    """
    shape, changed = EVENT_SHAPES[kind], values.copy()
    course = np.linspace(0, 1, length) if shape.ramps else np.ones(length)
    effect = np.zeros(len(values) + OVERLAP)
    if kind == "outage":
        effect[start : start + length] = -size / OVERLAP
        share = 1 + np.convolve(effect, np.ones(OVERLAP))[OVERLAP - 1 :][: len(values), None]
        return np.round(changed * share)
    (leading, *others) = shape.added or shape.factor
    fullest = size * spread[names.index(leading)]
    effect[start : start + length] = generator.poisson(fullest / min(OVERLAP, length) * course)
    for name in (leading, *others):
        changed[:, names.index(name)] += np.convolve(effect, np.ones(OVERLAP))[OVERLAP - 1 :][: len(values)]
    return changed


def place(kind, per_kind, count, generator):
    """Place events of a kind: start in the month and length, whole in it and with room before."""
    low, high = EVENT_SHAPES[kind].rows
    lengths = generator.integers(low, high + 1, per_kind)
    return [(int(generator.integers(BEFORE, count - length - AFTER)), int(length)) for length in lengths]


def found_events(watched, times, values, spreads, per_kind, budget):
    """Return recall and delays by kind and strength."""
    generator, names = np.random.default_rng(SEED), [feature.name for feature in watched.manifest.features]
    results = {}
    for kind, shape in EVENT_SHAPES.items():
        rows = BEFORE + shape.rows[1] + AFTER
        for strength, size in (LOST if kind == "outage" else SPREADS).items():
            copies, clean, spans, when = [], [], [], []
            for start, length in place(kind, per_kind, len(values), generator):
                part = slice(start - BEFORE, start - BEFORE + rows)
                copy = np.full((rows, len(names)), np.nan)
                source = values[part]
                copy[: len(source)] = source
                clean.append(copy)
                spread = spreads[times[start] // 3600 % 24]
                copies.append(inject(copy, names, kind, size, BEFORE, length, spread, generator))
                spans.append(slice(BEFORE - OVERLAP + 1, BEFORE + length))
                when.append(times[0] + (start - BEFORE + np.arange(rows)) * 600)
            touched, _, _ = watched.watch(np.stack(when), np.stack(copies), budget)
            before, _, _ = watched.watch(np.stack(when), np.stack(clean), budget)
            apart = [b[span].any() for b, span in zip(before, spans, strict=True)]
            delays = [
                int(np.argmax(a[span])) if a[span].any() else None
                for a, span, anyway in zip(touched, spans, apart, strict=True)
                if not anyway
            ]
            in_time = [delay for delay in delays if delay is not None]
            results[f"{kind}, {strength}"] = {
                "events": len(delays),
                "found": len(in_time),
                "within_3_rows": sum(delay <= 3 for delay in in_time),
                "median_delay": float(np.median(in_time)) if in_time else None,
                "set_aside": int(sum(apart)),
            }
    return results


def main():
    arguments = options(__doc__, per_kind=50).parse_args()
    watched = Watched(arguments.repository, arguments.model)
    data = Aggregates(watched, arguments.data)
    month = {"April": data.rows("2019-04-01", "2019-05-01"), "May": data.rows(*MAY)}
    results = {"seed": SEED, "untouched": {}, "injected": {}}
    for title, budget in BUDGETS.items():
        for name, rows in month.items():
            for adapt in (True, False):
                _, started, judged = watched.watch(data.times[rows][None], data.values[rows][None], budget, adapt)
                days = judged.sum() * watched.manifest.slide_seconds / 86_400
                counts = {"episodes": int(started.sum()), "days": float(days), "budget": budget * days}
                results["untouched"][f"{name}, {title}, {'adapting' if adapt else 'fixed'}"] = counts
                print(f"{name}, budget {title}, {'adapting' if adapt else 'fixed'}: {counts['episodes']} episodes", flush=True)
        may = month["May"]
        results["injected"][title] = found_events(
            watched, data.times[may], data.values[may], data.spreads, arguments.per_kind, budget
        )
        for event, counts in results["injected"][title].items():
            print(f"  {event}: {counts['found']}/{counts['events']}, delay {counts['median_delay']}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(results))


def markdown(results):
    """Write the tables."""
    titles = list(results["injected"])
    lines = ["| event, strength | " + " | ".join(f"{t}: found of, within 3 rows, delay" for t in titles) + " |"]
    lines.append("| --- |" + " --- |" * len(titles))
    for event in results["injected"][titles[0]]:
        cells = []
        for title in titles:
            counts = results["injected"][title][event]
            delay = "-" if counts["median_delay"] is None else f"{counts['median_delay']:g}"
            cells.append(f"{counts['found']}/{counts['events']}, {counts['within_3_rows']}, {delay}")
        lines.append(f"| {event.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += ["", "| untouched | days | budget, episodes | raised |", "| --- | ---: | ---: | ---: |"]
    for name, counts in results["untouched"].items():
        lines.append(f"| {name} | {counts['days']:.1f} | {counts['budget']:.1f} | {counts['episodes']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
