"""Measure how large an event must be to be detected within three rows, over a range of sizes, and compare with other detectors.

Events, places and data are those of `injected.py`; every size is injected at the same places. Sizes are in robust spreads of the
hour of the day; for an outage the share of traffic that is lost. An event counts as detected if an alarm is raised in one of the
first four rows that it changes and in none of these rows without it; a slow drift if an alarm is raised at any time during it.
Comparators and oracle have a fixed threshold: the lowest that raises no more episodes than the budget allows, for comparators in
the model's calibration range, for the oracle in May itself. The oracle uses, per kind, the statistic that detects most.

Usage: python benchmarks/detection/injected_sizes.py [--sizes 1,1.4,2,...] [--per-kind 30] [--json FILE]
           [--picture docs/results/injected.png]
Needs the dependency group `bench`, like `compare.py`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.detection import injected_power as power
from benchmarks.detection.injected import (
    AFTER,
    BEFORE,
    BUDGETS,
    MAY,
    OVERLAP,
    SEED,
    RecordedData,
    ShippedModel,
    inject,
    make_parser,
    place_events,
)
from benchmarks.detection.injected_tables import draw_picture, format_table
from training.data.events import EVENT_SHAPES

WITHIN_ROWS = 3
SIZES = tuple(round(float(size), 2) for size in np.geomspace(1.4, 32, 10))
LOST = tuple(round(float(share), 3) for share in np.geomspace(0.05, 0.98, 10))


class Month(RecordedData):
    """May: rows `first` to before `last` of the data. `calibration` are the rows of the model's calibration range."""

    def __init__(self, model, data):
        super().__init__(model, data)
        quiet, may = model.manifest.calibration_range, self.select_rows(*MAY)
        self.calibration, self.first, self.last = self.select_rows(quiet.start, quiet.end), may.start, may.stop


class Events:
    """Events of one kind, every size at the same places.

    Attributes:
        spans: Per event the rows of the data that it changes.
        timely_rows: Per event how many of these count as detected in time.
        unit: Median of what one spread adds to the leading feature in ten minutes.
    """

    def __init__(self, month, kind, sizes, per_kind):
        self.month, self.kind, self.sizes = month, kind, sizes
        shape, placed = EVENT_SHAPES[kind], np.random.default_rng(SEED)
        count = month.last - month.first
        self.starts = [(month.first + start, length) for start, length in place_events(kind, per_kind, count, placed)]
        self.spans = [slice(start - OVERLAP + 1, start + length) for start, length in self.starts]
        self.timely_rows = [span.stop - span.start if shape.ramps else WITHIN_ROWS + 1 for span in self.spans]
        column = month.names.index(power.LEADING[kind][0])
        spreads = [month.spreads[month.times[start] // 3600 % 24][column] / min(OVERLAP, n) for start, n in self.starts]
        self.unit = float(np.median(spreads))

    def make_copies(self, size, lead_rows):
        """Yield times and values of copies with an event, from `lead_rows` rows before it; NaN after the end of May."""
        month, generator = self.month, np.random.default_rng(SEED)
        rows = lead_rows + EVENT_SHAPES[self.kind].rows[1] + AFTER
        for start, length in self.starts:
            copy = np.full((rows, len(month.names)), np.nan)
            values = month.values[start - lead_rows : min(start - lead_rows + rows, month.last)]
            copy[: len(values)] = values
            spread = month.spreads[month.times[start] // 3600 % 24]
            if size:
                copy = inject(copy, month.names, self.kind, size, lead_rows, length, spread, generator)
            yield month.times[start - lead_rows] + np.arange(rows) * 600, copy


def compute_share_detected(events, untouched, touched):
    """Return the share detected in time. `untouched` and `touched` hold the alarms of each event's rows, without and with it."""
    alarmed_without = [alarm.any() for alarm in untouched]
    hits = [
        alarm[:rows].any()
        for alarm, rows, is_alarmed in zip(touched, events.timely_rows, alarmed_without, strict=True)
        if not is_alarmed
    ]
    return float(np.mean(hits)) if hits else float("nan")


def measure_ours(model, events, budget):
    """Return the share detected per size."""
    span = slice(BEFORE - OVERLAP + 1, None)
    parts = [list(events.make_copies(size, BEFORE)) for size in (0, *events.sizes)]
    times, values = (np.stack([copy[i] for part in parts for copy in part]) for i in (0, 1))
    alarms, _, _ = model.detect(times, values, budget)
    count = len(events.starts)
    event_alarms = [alarm[span][: rows.stop - rows.start] for alarm, rows in zip(alarms, events.spans * len(parts), strict=True)]
    return [compute_share_detected(events, event_alarms[:count], event_alarms[count * i :][:count]) for i in range(1, len(parts))]


def measure_comparator(name, events, budgets):
    """Return the share detected per size, by budget."""
    month, part = events.month, slice(power.LEAD - OVERLAP + 1, None)
    train = month.values[month.training_rows]
    train = train[~np.isnan(train).any(axis=1)]
    rows = pd.DataFrame(month.values).ffill().to_numpy()
    copies = [pd.DataFrame(copy).ffill().to_numpy() for size in events.sizes for _, copy in events.make_copies(size, power.LEAD)]
    clean, touched = power.score_with_comparator(name, train, rows, copies, 144)
    calibration = clean[month.calibration]
    shares, count = {}, len(events.starts)
    for title, budget in budgets.items():
        limit = power.choose_threshold(calibration, budget * len(calibration) / 144)
        untouched_alarms = [clean[span] > limit for span in events.spans]
        touched_alarms = [
            s[part][: span.stop - span.start] > limit for s, span in zip(touched, events.spans * len(events.sizes), strict=True)
        ]
        shares[title] = [
            compute_share_detected(events, untouched_alarms, touched_alarms[count * i :][:count])
            for i in range(len(events.sizes))
        ]
    return shares


def measure_oracle(model, events, budgets):
    """Return the share detected per size, by budget, with the statistic that detects most."""
    month, oracle = events.month, power.Oracle(model.forecast, model.manifest.rows)
    feature, direction = power.LEADING[events.kind]
    target = month.names.index(feature), direction
    lead_rows = model.manifest.rows + max(power.STEPS) + power.ADDED_ROWS + OVERLAP
    clean = oracle.compute_residuals(month.times, month.values)
    scale = 1.4826 * np.nanmedian(np.abs(clean[month.calibration, 0]), axis=0)
    clean = oracle.compute_statistics(clean, scale, *target)
    touched = [
        [
            oracle.compute_statistics(oracle.compute_residuals(t, v), scale, *target)[lead_rows - OVERLAP + 1 :]
            for t, v in events.make_copies(size, lead_rows)
        ]
        for size in events.sizes
    ]
    shares = {}
    for title, budget in budgets.items():
        best = []
        for column in range(clean.shape[1]):
            limit = power.choose_threshold(clean[month.first : month.last, column], budget * (month.last - month.first) / 144)
            untouched = [clean[span, column] > limit for span in events.spans]
            best.append(
                [
                    compute_share_detected(
                        events,
                        untouched,
                        [s[: span.stop - span.start, column] > limit for s, span in zip(part, events.spans, strict=True)],
                    )
                    for part in touched
                ]
            )
        shares[title] = np.nanmax(best, axis=0).tolist()
    return shares


def main():
    parser = make_parser(__doc__, per_kind=30)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="sizes in spreads, for all kinds but outages")
    parser.add_argument("--lost", default=",".join(map(str, LOST)), help="shares of traffic that outages remove")
    parser.add_argument("--picture", type=Path, help="picture to write")
    arguments = parser.parse_args()
    model = ShippedModel(arguments.repository, arguments.model)
    month, results = Month(model, arguments.data), {}
    for kind in EVENT_SHAPES:
        sizes = [float(size) for size in (arguments.lost if kind == "outage" else arguments.sizes).split(",")]
        events = Events(month, kind, sizes, arguments.per_kind)
        shares = {"ours": {title: measure_ours(model, events, budget) for title, budget in BUDGETS.items()}}
        shares |= {name: measure_comparator(name, events, BUDGETS) for name in power.COMPARED}
        shares["oracle"] = measure_oracle(model, events, BUDGETS)
        results[kind] = {"sizes": sizes, "unit": events.unit, "found": shares}
        for name, by_budget in shares.items():
            print(
                f"{kind}, {name}: " + "; ".join(f"{t}: {np.round(s, 2).tolist()}" for t, s in by_budget.items()), file=sys.stderr
            )
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(format_table(results))
    if arguments.picture:
        draw_picture(results, arguments.picture)


if __name__ == "__main__":
    main()
