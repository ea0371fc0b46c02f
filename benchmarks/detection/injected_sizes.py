"""How large an event must be to be found within three rows: swept over sizes, beside simple detectors and an oracle.

Events, placement and data are those of `injected.py`; every size is put at the same places. Sizes are in robust spreads of the
hour of the day, of an outage the share of everything that is lost. An event counts as found where the detector alarms in one
of the first four rows that touch it and not in the untouched rows; a slow drift where it alarms during it. Comparators and
oracle have a fixed threshold: those the lowest that raises no more episodes than the budget allows in the model's calibration
range, the oracle in May itself, and for each kind whatever statistic finds most.

Usage: python benchmarks/detection/injected_sizes.py [--sizes 1,1.4,2,...] [--per-kind 30] [--json FILE]
           [--picture docs/results/injected.png]
Needs the dependency group `bench`, as `detection.py` does.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.detection import injected_power as power
from benchmarks.detection.injected import AFTER, BEFORE, BUDGETS, MAY, OVERLAP, SEED, Aggregates, Watched, inject, options, place
from benchmarks.detection.injected_tables import draw, markdown
from training.data.events import EVENT_SHAPES

WITHIN_ROWS = 3
SIZES = tuple(round(float(size), 2) for size in np.geomspace(1.4, 32, 10))
LOST = tuple(round(float(share), 3) for share in np.geomspace(0.05, 0.98, 10))


class Month(Aggregates):
    """May, from `first` to before `last`, with what the detectors learn from before it."""

    def __init__(self, watched, data):
        super().__init__(watched, data)
        quiet, may = watched.manifest.calibration_range, self.rows(*MAY)
        self.calibration, self.first, self.last = self.rows(quiet.start, quiet.end), may.start, may.stop


class Events:
    """Events of one kind, every size at the same places.

    Attributes:
        spans: Rows, counted in all of the data, that touch each event. looked: Rows that count as in time.
        unit: Median of what one spread adds to the leading feature in ten minutes.
    """

    def __init__(self, month, kind, sizes, per_kind):
        self.month, self.kind, self.sizes = month, kind, sizes
        shape, placed = EVENT_SHAPES[kind], np.random.default_rng(SEED)
        count = month.last - month.first
        self.starts = [(month.first + start, length) for start, length in place(kind, per_kind, count, placed)]
        self.spans = [slice(start - OVERLAP + 1, start + length) for start, length in self.starts]
        self.looked = [span.stop - span.start if shape.ramps else WITHIN_ROWS + 1 for span in self.spans]
        column = month.names.index(power.LEADING[kind][0])
        spreads = [month.spreads[month.times[start] // 3600 % 24][column] / min(OVERLAP, n) for start, n in self.starts]
        self.unit = float(np.median(spreads))

    def copies(self, size, before):
        """Yield times and values of copies that begin `before` rows before their event, with the event, NaN beyond May's end."""
        month, generator = self.month, np.random.default_rng(SEED)
        rows = before + EVENT_SHAPES[self.kind].rows[1] + AFTER
        for start, length in self.starts:
            copy = np.full((rows, len(month.names)), np.nan)
            values = month.values[start - before : min(start - before + rows, month.last)]
            copy[: len(values)] = values
            spread = month.spreads[month.times[start] // 3600 % 24]
            if size:
                copy = inject(copy, month.names, self.kind, size, before, length, spread, generator)
            yield month.times[start - before] + np.arange(rows) * 600, copy


def share_found(events, untouched, touched):
    """Return the share found in time; `untouched` and `touched` are lists of alarms of the rows that touch each event."""
    apart = [alarm.any() for alarm in untouched]
    hits = [alarm[:rows].any() for alarm, rows, anyway in zip(touched, events.looked, apart, strict=True) if not anyway]
    return float(np.mean(hits)) if hits else float("nan")


def ours(watched, events, budget):
    """Return the share found of each size."""
    span = slice(BEFORE - OVERLAP + 1, None)
    parts = [list(events.copies(size, BEFORE)) for size in (0, *events.sizes)]
    times, values = (np.stack([copy[i] for part in parts for copy in part]) for i in (0, 1))
    alarms, _, _ = watched.watch(times, values, budget)
    each = len(events.starts)
    cut = [alarm[span][: s.stop - s.start] for alarm, s in zip(alarms, events.spans * len(parts), strict=True)]
    return [share_found(events, cut[:each], cut[each * i :][:each]) for i in range(1, len(parts))]


def compared(name, events, budgets):
    """Return the share found of each size by budget."""
    month, part = events.month, slice(power.LEAD - OVERLAP + 1, None)
    learn = month.values[month.learnt]
    learn = learn[~np.isnan(learn).any(axis=1)]
    rows = pd.DataFrame(month.values).ffill().to_numpy()
    copies = [pd.DataFrame(copy).ffill().to_numpy() for size in events.sizes for _, copy in events.copies(size, power.LEAD)]
    clean, touched = power.compared_scores(name, learn, rows, copies, 144)
    calibration = clean[month.calibration]
    shares, each = {}, len(events.starts)
    for title, budget in budgets.items():
        limit = power.threshold(calibration, budget * len(calibration) / 144)
        before = [clean[span] > limit for span in events.spans]
        after = [
            s[part][: span.stop - span.start] > limit for s, span in zip(touched, events.spans * len(events.sizes), strict=True)
        ]
        shares[title] = [share_found(events, before, after[each * i :][:each]) for i in range(len(events.sizes))]
    return shares


def oracle(watched, events, budgets):
    """Return the share found of each size by budget, of whatever statistic finds most."""
    month, knows = events.month, power.Oracle(watched.forecast, watched.manifest.rows)
    feature, direction = power.LEADING[events.kind]
    which = month.names.index(feature), direction
    before = watched.manifest.rows + max(power.STEPS) + power.ADDED_ROWS + OVERLAP
    clean = knows.residuals(month.times, month.values)
    scale = 1.4826 * np.nanmedian(np.abs(clean[month.calibration, 0]), axis=0)
    clean = knows.statistics(clean, scale, *which)
    touched = [
        [knows.statistics(knows.residuals(t, v), scale, *which)[before - OVERLAP + 1 :] for t, v in events.copies(size, before)]
        for size in events.sizes
    ]
    shares = {}
    for title, budget in budgets.items():
        best = []
        for column in range(clean.shape[1]):
            limit = power.threshold(clean[month.first : month.last, column], budget * (month.last - month.first) / 144)
            untouched = [clean[span, column] > limit for span in events.spans]
            best.append(
                [
                    share_found(
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
    parser = options(__doc__, per_kind=30)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="in spreads, of all kinds but outages")
    parser.add_argument("--lost", default=",".join(map(str, LOST)), help="shares that outages take")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    watched = Watched(arguments.repository, arguments.model)
    month, results = Month(watched, arguments.data), {}
    for kind in EVENT_SHAPES:
        sizes = [float(size) for size in (arguments.lost if kind == "outage" else arguments.sizes).split(",")]
        events = Events(month, kind, sizes, arguments.per_kind)
        shares = {"ours": {title: ours(watched, events, budget) for title, budget in BUDGETS.items()}}
        shares |= {name: compared(name, events, BUDGETS) for name in power.COMPARED}
        shares["oracle"] = oracle(watched, events, BUDGETS)
        results[kind] = {"sizes": sizes, "unit": events.unit, "found": shares}
        for name, by_budget in shares.items():
            print(f"{kind}, {name}: " + "; ".join(f"{t}: {np.round(s, 2).tolist()}" for t, s in by_budget.items()), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(results))
    if arguments.picture:
        draw(results, arguments.picture)


if __name__ == "__main__":
    main()
