"""The tables of `compare.py`."""

import numpy as np
from scipy.stats import poisson

MAX_FACTOR = 1.5  # between false episodes and budget
CONFIDENCE = 0.95


def format_tables(results, budget, budgets):
    """Return all tables of `results`, which holds measures by set and method, as Markdown."""
    methods = [name for name in next(iter(results.values())) if all(name in measures for measures in results.values())]
    labelled = {name: measures for name, measures in results.items() if "vus_pr" in measures[methods[0]]}
    ours = [name for name in methods if name.startswith("ours")]
    lines = [*_format_scores(results, labelled, methods, budget), ""] if labelled else ["No set holds an anomaly.", ""]
    return "\n".join([*lines, *_format_false_episodes(results, ours, budgets)]) + "\n"


def _format_scores(results, labelled, methods, budget):
    lines = ["| VUS-PR | " + " | ".join(methods) + " |", "| --- |" + " ---: |" * len(methods)]
    for name, measures in labelled.items():
        best = max(measures[method]["vus_pr"] for method in methods)
        cells = [
            f"**{measures[m]['vus_pr']:.3f}**" if measures[m]["vus_pr"] == best else f"{measures[m]['vus_pr']:.3f}"
            for m in methods
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    rows = {f"mean {what}": _compute_means(labelled, methods, what) for what in ("vus_pr", "vus_roc", "range_f1")}
    rows["mean rank by VUS-PR, each of ours alone among the others"] = _compute_mean_ranks(labelled, methods)
    events = sum(measures[methods[0]]["events"] for measures in labelled.values())
    rows[f"episodes detected, of {events}"] = [sum(measures[m]["found"] for measures in labelled.values()) for m in methods]
    rows["median delay, rows"] = [_compute_median_delay(labelled, m) for m in methods]
    rows[f"false episodes per day at a budget of {budget:g}"] = [_compute_false_rate(results, m) for m in methods]
    return lines + [f"| *{title}* | " + " | ".join(map(_format_number, values)) + " |" for title, values in rows.items()]


def _format_number(value):
    return "-" if np.isnan(value) else f"{value:.3g}"


def _compute_means(labelled, methods, what):
    return [np.mean([measures[m][what] for measures in labelled.values()]) for m in methods]


def _compute_mean_ranks(labelled, methods):
    """Return mean ranks: each of ours among the comparators, and the comparators with the first of ours."""
    others = [m for m in methods if not m.startswith("ours")]
    ours = [m for m in methods if m.startswith("ours")]
    ranks = {m: _rank_methods(labelled, [m, *others])[0] for m in ours}
    ranks |= dict(zip(others, _rank_methods(labelled, [*ours[:1], *others])[len(ours[:1]) :], strict=True))
    return [ranks[m] for m in methods]


def _rank_methods(labelled, methods):
    table = np.array([[-measures[name]["vus_pr"] for name in methods] for measures in labelled.values()])
    order = (table[:, :, None] > table[:, None, :]).sum(axis=2) + ((table[:, :, None] == table[:, None, :]).sum(axis=2) + 1) / 2
    return order.mean(axis=0).tolist()


def _compute_median_delay(labelled, method):
    delays = [measures[method]["delay_rows"] for measures in labelled.values() if measures[method]["delay_rows"] is not None]
    return np.median(delays) if delays else np.nan


def _compute_false_rate(results, method):
    measures = [of[method] for of in results.values()]
    return sum(f["false_episodes"] for f in measures) / sum(f["quiet_days"] for f in measures)


def classify_count(count, allowed):
    """Return whether a count of false episodes is within MAX_FACTOR of `allowed`, deviates by chance, or is above or below."""
    if allowed / MAX_FACTOR <= count <= allowed * MAX_FACTOR:
        return "within"
    rest = (1 - CONFIDENCE) / 2
    by_chance = poisson.cdf(count, allowed / MAX_FACTOR) >= rest and poisson.sf(count - 1, allowed * MAX_FACTOR) >= rest
    return "chance" if by_chance else ("above" if count > allowed else "below")


def _format_false_episodes(results, ours, budgets):
    """Return a table of the false episodes of ours and of what each budget allows."""
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
                tally[method, title].append(classify_count(count, per_day * days))
                cells.append(f"{count} ({per_day * days:.1f}){marks[tally[method, title][-1]]}")
        lines.append(f"| {name} | {days:.1f} | " + " | ".join(cells) + " |")
    cells = [f"{v.count('within')} + {v.count('chance')} of {len(v)}" for v in tally.values()]
    lines.append("| *within a factor of 1.5, + not significantly outside* | | " + " | ".join(cells) + " |")
    return lines
