"""The figures of `select-features`."""

import numpy as np
from matplotlib.figure import Figure

from training.feature_selection.analysis import FeatureAnalysis
from training.feature_selection.intermittent_demand import MAX_SMOOTH_INTERVAL, MAX_SMOOTH_VARIATION
from training.reporting.figures import BAND, COLORS, FAINT, INK, MAX_PANELS, make_figure

MAX_LABELS = 30
"""Maximum number of features that are labelled in a figure."""


def draw_autocorrelation(selection: FeatureAnalysis) -> Figure:
    """Draw autocorrelation and partial autocorrelation of each feature."""
    statistics = selection.statistics[:MAX_PANELS]
    figure, panels = make_figure(len(statistics), 2, row_height=1.7, sharex="col")
    for (left, right), f in zip(panels, statistics, strict=True):
        left.plot(f.acf_path, color=BAND)
        left.axhline(0, color=INK, linewidth=0.7)
        left.set_title(f"{f.name}: autocorrelation")
        left.set_ylim(-1.05, 1.05)
        right.vlines(np.arange(len(f.pacf_path)), 0, f.pacf_path, color=BAND)
        right.axhline(0, color=INK, linewidth=0.7)
        right.set_title("partial autocorrelation")
        right.set_ylim(-1.05, 1.05)
    panels[-1, 0].set_xlabel("lag, rows")
    panels[-1, 1].set_xlabel("lag, rows")
    return figure


def draw_dependence(selection: FeatureAnalysis) -> Figure:
    """Draw the linear correlation at the same time, and the mutual information with later values."""
    names = [f.name for f in selection.statistics]
    size = min(9.0, 2.6 + 0.22 * len(names))
    figure, panels = make_figure(1, 2, row_height=size + 1.0, width=2 * size + 3)
    largest = float(np.nanmax(selection.information)) or 1.0
    for axes, matrix, title, limits, colors in (
        (panels[0, 0], selection.correlation, "correlation", (-1.0, 1.0), "RdBu_r"),
        (panels[0, 1], selection.information, f"mutual information, {selection.steps} ahead, nats", (0.0, largest), "Blues"),
    ):
        image = axes.imshow(matrix, vmin=limits[0], vmax=limits[1], cmap=colors)
        axes.grid(visible=False)
        axes.set_title(title)
        shown = range(len(names)) if len(names) <= MAX_LABELS else range(0, len(names), -(-len(names) // MAX_LABELS))
        axes.set_xticks(list(shown), [names[i] for i in shown], rotation=90, fontsize=7)
        axes.set_yticks(list(shown), [names[i] for i in shown], fontsize=7)
        figure.colorbar(image, ax=axes, shrink=0.7)
    panels[0, 1].set_xlabel("value ahead of")
    panels[0, 1].set_ylabel("last value of")
    return figure


def draw_intermittence(selection: FeatureAnalysis) -> Figure:
    """Draw each feature's place among the classes of intermittent demand."""
    figure, panels = make_figure(1, 1, row_height=5.0, width=7.5)
    axes = panels[0, 0]
    demanded = [f for f in selection.statistics if np.isfinite(f.demand.interval)]
    axes.axvline(MAX_SMOOTH_INTERVAL, color=FAINT, linestyle="--", linewidth=1)
    axes.axhline(MAX_SMOOTH_VARIATION, color=FAINT, linestyle="--", linewidth=1)
    for f in demanded:
        axes.plot(f.demand.interval, max(f.demand.variation, 1e-4), "o", color=COLORS[0], alpha=0.7)
        if len(demanded) <= MAX_LABELS or f.demand.interval > MAX_SMOOTH_INTERVAL:
            axes.annotate(
                f.name, (f.demand.interval, max(f.demand.variation, 1e-4)), (4, 3), textcoords="offset points", fontsize=7
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left=0.95, right=max(2.0, 1.3 * axes.get_xlim()[1]))
    axes.set_title("intermittence: smooth below left, lumpy above right")
    axes.set_xlabel("rows between values that are not 0")
    axes.set_ylabel("squared coefficient of variation of those values")
    return figure
