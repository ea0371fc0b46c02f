"""How figures look, and their way into a page: no window system, no network, the same data the same bytes."""

import base64
import io
from collections.abc import Callable
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

Kind = Literal["svg", "png"]

# Okabe & Ito (2008): told apart with any kind of colour vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
INK, FAINT, BAND = "#1f2933", "#9aa5b1", "#0072b2"
MOST_PANELS = 12
"""Features that get a panel of their own; tables hold all of them."""

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 6),
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "mods",
    "svg.fonttype": "path",
}


def make_figure(rows: int, columns: int, *, width: float = 11.0, row_height: float = 2.3, **options: Any) -> tuple[Figure, Any]:
    """Make a figure and its axes, always an array `(rows, columns)`.

    Args:
        rows: Rows of panels.
        columns: Panels of a row.
        width: Of the figure in inches.
        row_height: In inches.
        **options: For `Figure.subplots`.
    """
    figure = Figure(figsize=(width, row_height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def color_of(index: int) -> str:
    """Return the colour of the n-th line."""
    return COLORS[index % len(COLORS)]


def date_axis(axes: Axes) -> None:
    """Say as little of the date at each mark as tells it from its neighbours."""
    formatter: Any = ConciseDateFormatter
    axes.xaxis.set_major_formatter(formatter(axes.xaxis.get_major_locator()))


def whole_steps(axes: Axes, horizon: int) -> None:
    """Mark steps of the horizon at whole numbers."""
    every = max(1, -(-horizon // 12))
    axes.set_xticks([1, *range(1 + every, horizon + 1, every)] if every == 1 else [1, *range(every, horizon + 1, every)])
    axes.set_xlim(0.7, horizon + 0.3)


def name_lines(figure: Figure, axes: Axes, columns: int = 6) -> None:
    """Put the legend of one panel above the figure, for all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=9)


def embed(draw: Callable[[], Figure], alternative: str, kind: Kind = "svg") -> str:
    """Make an `<img>` that holds a figure itself.

    Args:
        draw: Makes the figure.
        alternative: Text for who can't see it.
        kind: "svg" for lines, "png" where there are many thousand points.
    """
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f'<img alt="{alternative}" src="data:{mime};base64,{base64.b64encode(render(draw, kind)).decode()}">'


def render(draw: Callable[[], Figure], kind: Kind = "png") -> bytes:
    """Draw a figure in the style of all of them."""
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        draw().savefig(file, format=kind, dpi=140, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return file.getvalue()
