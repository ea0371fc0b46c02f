"""Table and picture of `injected_sizes.py`."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

SHARES = (0.8, 0.95)
COLOURS = {"1 a day": "tab:blue", "1 a week": "tab:orange", "1 a month": "tab:green"}


def find_min_size(sizes, shares, share):
    """Return the smallest size from which on `share` of the events is detected; None if the largest is not enough."""
    enough = np.array(shares) >= share
    missed = np.flatnonzero(~enough)
    first = missed[-1] + 1 if missed.size else 0
    return sizes[first] if first < len(sizes) else None


def _format_cell(kind, kind_results, shares):
    sizes = [find_min_size(kind_results["sizes"], shares, share) for share in SHARES]
    if kind == "outage":
        return " / ".join("-" if size is None else f"{100 * size:.0f} %" for size in sizes)
    plain = " / ".join("-" if size is None else f"{size * kind_results['unit']:,.0f}" for size in sizes)
    return " / ".join("-" if size is None else f"{size:g}" for size in sizes) + (f" ({plain})" if sizes[0] else "")


def format_table(results):
    """Return a table in Markdown: per kind and budget the smallest sizes at which SHARES of the events are detected."""
    methods = list(next(iter(results.values()))["found"])
    lines = ["| smallest size with 80 % / 95 % detected | budget | " + " | ".join(methods) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(methods))
    for kind, kind_results in results.items():
        for title in kind_results["found"][methods[0]]:
            cells = [_format_cell(kind, kind_results, kind_results["found"][method][title]) for method in methods]
            lines.append(f"| {kind.replace('_', ' ')} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_picture(results, path):
    """Draw the share detected against the size, one panel per kind."""
    figure, grid = plt.subplots(2, 3, figsize=(13, 6.5), sharey=True, layout="constrained")
    for axes, (kind, kind_results) in zip(grid.flat, results.items(), strict=True):
        for title, colour in COLOURS.items():
            axes.plot(
                kind_results["sizes"], kind_results["found"]["ours"][title], color=colour, marker=".", label=f"ours, {title}"
            )
            axes.plot(
                kind_results["sizes"],
                kind_results["found"]["oracle"][title],
                color=colour,
                linestyle=":",
                label=f"oracle, {title}",
            )
        others = [kind_results["found"][name]["1 a day"] for name in kind_results["found"] if name not in ("ours", "oracle")]
        axes.plot(kind_results["sizes"], np.nanmax(others, axis=0), color="0.5", linestyle="--", label="best comparator, 1 a day")
        axes.axhline(SHARES[0], color="0.85", linewidth=0.8, zorder=0)
        axes.set_xscale("log")
        ticks = kind_results["sizes"][::2]
        axes.set_xticks(ticks, [f"{100 * t:.0f} %" if kind == "outage" else f"{t:g}" for t in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(kind.replace("_", " ") + (", at any time" if kind == "slow_drift" else ""))
        axes.set_xlabel("share lost" if kind == "outage" else "robust spreads of the hour")
    for row in grid:
        row[0].set_ylabel("detected within 3 rows")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
    figure.savefig(path, dpi=90, metadata={"Software": None})
