"""The figure of a comparison: skill by step ahead; below it parameters, time per epoch and time per forecast."""

import math

from matplotlib.figure import Figure

from training.evaluation.metrics import geometric_mean
from training.experiments.comparison import Comparison
from training.reporting.figures import COLORS, FAINT, INK, line_color, mark_steps

_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D")
MAX_SHOWN_RATIO = 1.6  # MAE / no change; worse values are outside the figure


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw the comparison."""
    candidates = comparison.candidates
    height = 4.6 + 0.24 * len(candidates)
    figure = Figure(figsize=(12, height), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=[3.8, 0.8 + 0.24 * len(candidates)])
    skill = figure.add_subplot(grid[0, :])
    steps = range(1, comparison.horizon + 1)
    scored = comparison.scored()
    order = sorted(scored, key=lambda name: _mean(comparison, name))
    styles: dict[str, tuple[str, str, str]] = {
        candidate.run.model.model_type: _style(i) for i, candidate in enumerate(candidates)
    }
    for name in order:
        values = [geometric_mean(scored[name], "RELATIVE_MAE", step) for step in steps]
        color, dashes, marker = styles.get(name, (INK if "ridge" in name else FAINT, ":" if "seasonal" in name else "--", "o"))
        width = 1.7 if name in styles else 1.3
        skill.plot(steps, values, color=color, linestyle=dashes, linewidth=width, marker=marker, markersize=4, label=name)
    skill.set_title("MAE over that of no change, geometric mean of all features (best at the horizon first)")
    skill.set_ylabel("MAE / no change")
    skill.set_xlabel("steps ahead")
    skill.set_ylim(*_skill_limits(comparison))
    mark_steps(skill, comparison.horizon)
    skill.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    for column, (title, values) in enumerate(
        (
            ("parameters", [float(c.exported.manifest.parameters) for c in candidates]),
            ("time of an epoch, ms", [1000 * c.epoch_seconds for c in candidates]),
            ("forecast by ONNX Runtime, one window, us", [c.microseconds for c in candidates]),
        )
    ):
        bars = figure.add_subplot(grid[1, column])
        shown = [value if math.isfinite(value) else 0.0 for value in values]
        places = range(len(candidates))
        bars.barh(places, shown, color=[styles[c.run.model.model_type][0] for c in candidates], height=0.7)
        for place, value in zip(places, shown, strict=True):
            bars.annotate(f" {value:,.0f}", (value, place), va="center", fontsize=7)
        bars.set_yticks(list(places), [c.run.model.model_type if column == 0 else "" for c in candidates], fontsize=8)
        bars.set_xlim(0, 1.18 * max(shown, default=1.0) or 1.0)
        bars.invert_yaxis()
        bars.locator_params(axis="x", nbins=4)
        bars.grid(visible=False, axis="y")
        bars.set_title(title)
    return figure


def _skill_limits(comparison: Comparison) -> tuple[float, float]:
    """Return limits that include every model and baseline, but for what is above MAX_SHOWN_RATIO."""
    scored, steps = comparison.scored(), range(1, comparison.horizon + 1)
    values = [geometric_mean(metrics, "RELATIVE_MAE", step) for metrics in scored.values() for step in steps]
    shown = [1.0, *(min(value, MAX_SHOWN_RATIO) for value in values if math.isfinite(value))]
    margin = 0.05 * (max(shown) - min(shown)) + 0.01
    return min(shown) - margin, min(MAX_SHOWN_RATIO, max(shown) + margin)


def _style(index: int) -> tuple[str, str, str]:
    """Return colour, dashes and marker; no two of 32 lines have the same."""
    group = index // len(COLORS) % len(_DASHES)
    return line_color(index), _DASHES[group], _MARKERS[group]


def _mean(comparison: Comparison, name: str) -> float:
    value = geometric_mean(comparison.scored()[name], "RELATIVE_MAE", comparison.horizon)
    return value if math.isfinite(value) else math.inf
