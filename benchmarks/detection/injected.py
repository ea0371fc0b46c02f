"""Inject events into real traffic of May 2019: how many are detected, how soon, and how many episodes untouched months raise.

Every event is added to a separate copy of the rows around it, which the shipped model scores as one of many series. Kinds and
lengths are those of `training.data.events`; sizes are relative to the network. An event adds a number of robust spreads to the
window that holds most of it (1.4826 MAD around the median of the feature at that hour of the day in the model's training
range): 2 is weak, 4 medium, 8 strong. An outage removes 30, 60 or 98 % of all traffic; a slow drift reaches its size at its end.

Events whose rows are in alarm without them are set aside, since their detection would be luck. The delay of the others is in
rows from the first window that holds part of the event, which holds ten minutes of it.

Usage: python benchmarks/detection/injected.py [--data FILE] [--repository exported] [--model mods-2019] [--per-kind 50]
           [--json FILE]
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector, Monitor, Phase, significance_from_budget
from training.data.events import EVENT_SHAPES
from training.export.onnx_forecaster import open_model

DATA = Path(os.environ.get("MODS_DATA", "../shared/data")) / "mods-2019" / "mods_2019-01-01_2019-06-03_w01h-s10m.tsv"
BUDGETS = {"1 a day": 1.0, "1 a week": 1 / 7, "1 a month": 1 / 30}
OVERLAP = 6  # windows that hold the same ten minutes
BEFORE, AFTER = 3 * 144, 36  # rows of the copy around an event
SEED = 20190501
MAY = ("2019-05-01", "2019-06-01")
SPREADS = {"weak": 2.0, "medium": 4.0, "strong": 8.0}  # added to the window that holds most of an event
LOST = {"weak": 0.3, "medium": 0.6, "strong": 0.98}  # share of all traffic that an outage removes


class ShippedModel:
    """A model of a repository, in its latest version, with its detector."""

    def __init__(self, repository, name):
        artifact = read_artifact(Path(repository), name, max(int(p.name) for p in (Path(repository) / name).iterdir()))
        self.manifest = artifact.manifest
        self.forecast = open_model(artifact)
        self.detector = Detector.from_manifest(self.manifest)

    def detect(self, times, values, budget, adapt=True):
        """Score n series of the same length: `times` `(n, rows)` in seconds, `values` `(n, rows, features)`.

        Returns:
            Three bools `(n, rows)`: anomalous, start of an episode, and scored.
        """
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
        level = significance_from_budget(budget, slide, self.detector.calibration)
        anomalous, started, scored = (np.zeros((series, rows), np.bool_) for _ in range(3))
        for row in range(rows):
            at = np.flatnonzero(~np.isnan(values[:, row]).all(axis=1))
            verdicts = monitor.observe(
                slots[at],
                times[at, row] * NANOS_PER_SECOND,
                values[at, row],
                reported=np.ones(at.size, np.bool_),
                significance=level,
                impute_rows=6,
            )
            anomalous[at, row], started[at, row] = verdicts.anomalous, verdicts.phase == Phase.STARTED
            scored[at, row] = np.isfinite(verdicts.p_value)
        return anomalous, started, scored


class RecordedData:
    """Recorded aggregates: `times` `(n,)` in seconds, `values` `(n, features)`, and `spreads` by hour in the training range."""

    def __init__(self, model, data):
        table = pd.read_csv(data, sep="\t")
        self.names = [feature.name for feature in model.manifest.features]
        self.times = pd.to_datetime(table.iloc[:, 0]).to_numpy().astype("datetime64[s]").astype(np.int64)
        self.values = table[self.names].to_numpy(np.float64)
        fitted = model.manifest.training_range
        self.training_rows = self.select_rows(fitted.start, fitted.end)
        self.spreads = compute_spreads_by_hour(self.times[self.training_rows], self.values[self.training_rows])

    def select_rows(self, start, end):
        """Return the rows from date `start` to before date `end`."""
        return slice(*np.searchsorted(self.times, [np.datetime64(date, "s").astype(np.int64) for date in (start, end)]))


def make_parser(purpose, per_kind):
    """Return the parser of the options that the benchmarks of injected events share."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="aggregates of 2019 as TSV (default: %(default)s)")
    parser.add_argument("--repository", default="exported", help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model (default: %(default)s)")
    parser.add_argument("--per-kind", type=int, default=per_kind, help="events of each kind and size (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser


def compute_spreads_by_hour(stamps, values):
    """Return robust spreads of hourly counts, `(24, features)`, around the median of their hour of the day."""
    hour = stamps // 3600 % 24
    by_hour = [values[hour == h] for h in range(24)]
    return np.array([1.4826 * np.nanmedian(np.abs(rows - np.nanmedian(rows, axis=0)), axis=0) for rows in by_hour])


def inject(values, names, kind, size, start, length, spread, generator):
    """Return a copy of windows `(rows, features)` with an event in the ten minutes `start` to `start + length`.

    `size` is in spreads, for an outage the share that is lost. `spread` `(features,)` is that of the event's first hour.
    """
    shape, changed = EVENT_SHAPES[kind], values.copy()
    profile = np.linspace(0, 1, length) if shape.ramps else np.ones(length)
    effect = np.zeros(len(values) + OVERLAP)
    if kind == "outage":
        effect[start : start + length] = -size / OVERLAP
        share = 1 + np.convolve(effect, np.ones(OVERLAP))[OVERLAP - 1 :][: len(values), None]
        return np.round(changed * share)
    (leading, *others) = shape.added or shape.factor
    max_added = size * spread[names.index(leading)]
    effect[start : start + length] = generator.poisson(max_added / min(OVERLAP, length) * profile)
    for name in (leading, *others):
        changed[:, names.index(name)] += np.convolve(effect, np.ones(OVERLAP))[OVERLAP - 1 :][: len(values)]
    return changed


def place_events(kind, per_kind, count, generator):
    """Draw start and length of events of a kind, in rows of a month with `count` rows; each copy lies within the month."""
    low, high = EVENT_SHAPES[kind].rows
    lengths = generator.integers(low, high + 1, per_kind)
    return [(int(generator.integers(BEFORE, count - length - AFTER)), int(length)) for length in lengths]


def measure_recall(model, times, values, spreads, per_kind, budget):
    """Return counts of detected events and their delay by kind and strength."""
    generator, names = np.random.default_rng(SEED), [feature.name for feature in model.manifest.features]
    results = {}
    for kind, shape in EVENT_SHAPES.items():
        rows = BEFORE + shape.rows[1] + AFTER
        for strength, size in (LOST if kind == "outage" else SPREADS).items():
            copies, originals, spans, times_of_copies = [], [], [], []
            for start, length in place_events(kind, per_kind, len(values), generator):
                rows_of_copy = slice(start - BEFORE, start - BEFORE + rows)
                copy = np.full((rows, len(names)), np.nan)
                source = values[rows_of_copy]
                copy[: len(source)] = source
                originals.append(copy)
                spread = spreads[times[start] // 3600 % 24]
                copies.append(inject(copy, names, kind, size, BEFORE, length, spread, generator))
                spans.append(slice(BEFORE - OVERLAP + 1, BEFORE + length))
                times_of_copies.append(times[0] + (start - BEFORE + np.arange(rows)) * 600)
            alarms, _, _ = model.detect(np.stack(times_of_copies), np.stack(copies), budget)
            alarms_without, _, _ = model.detect(np.stack(times_of_copies), np.stack(originals), budget)
            alarmed_without = [alarm[span].any() for alarm, span in zip(alarms_without, spans, strict=True)]
            delays = [
                int(np.argmax(alarm[span])) if alarm[span].any() else None
                for alarm, span, is_alarmed in zip(alarms, spans, alarmed_without, strict=True)
                if not is_alarmed
            ]
            detected_delays = [delay for delay in delays if delay is not None]
            results[f"{kind}, {strength}"] = {
                "events": len(delays),
                "found": len(detected_delays),
                "within_3_rows": sum(delay <= 3 for delay in detected_delays),
                "median_delay": float(np.median(detected_delays)) if detected_delays else None,
                "set_aside": int(sum(alarmed_without)),
            }
    return results


def main():
    arguments = make_parser(__doc__, per_kind=50).parse_args()
    model = ShippedModel(arguments.repository, arguments.model)
    data = RecordedData(model, arguments.data)
    month = {"April": data.select_rows("2019-04-01", "2019-05-01"), "May": data.select_rows(*MAY)}
    results = {"seed": SEED, "untouched": {}, "injected": {}}
    for title, budget in BUDGETS.items():
        for name, rows in month.items():
            for adapt in (True, False):
                _, started, scored = model.detect(data.times[rows][None], data.values[rows][None], budget, adapt)
                days = scored.sum() * model.manifest.slide_seconds / 86_400
                counts = {"episodes": int(started.sum()), "days": float(days), "budget": budget * days}
                results["untouched"][f"{name}, {title}, {'adapting' if adapt else 'fixed'}"] = counts
                print(
                    f"{name}, budget {title}, {'adapting' if adapt else 'fixed'}: {counts['episodes']} episodes", file=sys.stderr
                )
        may = month["May"]
        results["injected"][title] = measure_recall(
            model, data.times[may], data.values[may], data.spreads, arguments.per_kind, budget
        )
        for event, counts in results["injected"][title].items():
            print(f"  {event}: {counts['found']}/{counts['events']}, delay {counts['median_delay']}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(format_tables(results))


def format_tables(results):
    """Return the tables as Markdown."""
    titles = list(results["injected"])
    lines = ["| event, strength | " + " | ".join(f"{t}: detected/events, within 3 rows, median delay" for t in titles) + " |"]
    lines.append("| --- |" + " --- |" * len(titles))
    for event in results["injected"][titles[0]]:
        cells = []
        for title in titles:
            counts = results["injected"][title][event]
            delay = "-" if counts["median_delay"] is None else f"{counts['median_delay']:g}"
            cells.append(f"{counts['found']}/{counts['events']}, {counts['within_3_rows']}, {delay}")
        lines.append(f"| {event.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += ["", "| untouched | days | episodes allowed by the budget | raised |", "| --- | ---: | ---: | ---: |"]
    for name, counts in results["untouched"].items():
        lines.append(f"| {name} | {counts['days']:.1f} | {counts['budget']:.1f} | {counts['episodes']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
