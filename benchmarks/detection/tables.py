"""The tables of `detection.py`."""

import numpy as np
from scipy.stats import poisson

FACTOR = 1.5  # within which the realised false episodes are to lie
CONFIDENCE = 0.95


def markdown(results, budget, budgets):
    """Write all tables of `results`, by set and method."""
    methods = [name for name in next(iter(results.values())) if all(name in measures for measures in results.values())]
    labelled = {name: measures for name, measures in results.items() if "vus_pr" in measures[methods[0]]}
    ours = [name for name in methods if name.startswith("ours")]
    lines = [*_scores(results, labelled, methods, budget), ""] if labelled else ["No set holds an anomaly.", ""]
    return "\n".join([*lines, *_promise(results, ours, budgets)]) + "\n"


def _scores(results, labelled, methods, budget):
    lines = ["| VUS-PR | " + " | ".join(methods) + " |", "| --- |" + " ---: |" * len(methods)]
    for name, measures in labelled.items():
        best = max(measures[method]["vus_pr"] for method in methods)
        cells = [
            f"**{measures[m]['vus_pr']:.3f}**" if measures[m]["vus_pr"] == best else f"{measures[m]['vus_pr']:.3f}"
            for m in methods
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    rows = {f"mean {what}": _means(labelled, methods, what) for what in ("vus_pr", "vus_roc", "range_f1")}
    rows["mean rank by VUS-PR, each of ours alone among the others"] = _ranks(labelled, methods)
    events = sum(measures[methods[0]]["events"] for measures in labelled.values())
    rows[f"episodes found, of {events}"] = [sum(measures[m]["found"] for measures in labelled.values()) for m in methods]
    rows["median delay, rows"] = [_median_delay(labelled, m) for m in methods]
    rows[f"false episodes a day at a budget of {budget:g}"] = [_rate(results, m) for m in methods]
    return lines + [f"| *{title}* | " + " | ".join(map(_number, values)) + " |" for title, values in rows.items()]


def _number(value):
    return "-" if np.isnan(value) else f"{value:.3g}"


def _means(labelled, methods, what):
    return [np.mean([measures[m][what] for measures in labelled.values()]) for m in methods]


def _ranks(labelled, methods):
    """Return mean ranks: of each of ours among it and the comparators, of those beside the first of ours."""
    others = [m for m in methods if not m.startswith("ours")]
    ours = [m for m in methods if m.startswith("ours")]
    places = {m: _rank(labelled, [m, *others])[0] for m in ours}
    places |= dict(zip(others, _rank(labelled, [*ours[:1], *others])[len(ours[:1]) :], strict=True))
    return [places[m] for m in methods]


def _rank(labelled, methods):
    table = np.array([[-measures[name]["vus_pr"] for name in methods] for measures in labelled.values()])
    order = (table[:, :, None] > table[:, None, :]).sum(axis=2) + ((table[:, :, None] == table[:, None, :]).sum(axis=2) + 1) / 2
    return order.mean(axis=0).tolist()


def _median_delay(labelled, method):
    delays = [measures[method]["delay_rows"] for measures in labelled.values() if measures[method]["delay_rows"] is not None]
    return np.median(delays) if delays else np.nan


def _rate(results, method):
    measures = [of[method] for of in results.values()]
    return sum(f["false_episodes"] for f in measures) / sum(f["quiet_days"] for f in measures)


def verdict(count, allowed):
    """Say whether a count of false episodes lies within FACTOR of what was allowed, or could by chance where it does not."""
    if allowed / FACTOR <= count <= allowed * FACTOR:
        return "within"
    rest = (1 - CONFIDENCE) / 2
    by_chance = poisson.cdf(count, allowed / FACTOR) >= rest and poisson.sf(count - 1, allowed * FACTOR) >= rest
    return "chance" if by_chance else ("above" if count > allowed else "below")


def _promise(results, ours, budgets):
    """Tell the false episodes of ours beside what each budget allows."""
    lines = [
        "| false episodes (allowed) | quiet days | " + " | ".join(f"{m}: {b}" for m in ours for b in budgets) + " |",
        "| --- | ---: |" + " ---: |" * (len(ours) * len(budgets)),
    ]
    marks = {"within": "", "chance": " ·", "above": " ↑", "below": " ↓"}
    tally = {(m, b): [] for m in ours for b in budgets}
    for name, measures in results.items():
        days, cells = measures[ours[0]]["quiet_days"], []
        for method in ours:
            for title, per_day in budgets.items():
                count = measures[method]["budgets"][title]
                tally[method, title].append(verdict(count, per_day * days))
                cells.append(f"{count} ({per_day * days:.1f}){marks[tally[method, title][-1]]}")
        lines.append(f"| {name} | {days:.1f} | " + " | ".join(cells) + " |")
    cells = [f"{v.count('within')} + {v.count('chance')} of {len(v)}" for v in tally.values()]
    lines.append("| *within a factor of 1.5, + not to be told from it* | | " + " | ".join(cells) + " |")
    return lines
