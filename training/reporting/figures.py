"""Style and rendering of figures, without a window system. The same data gives the same bytes."""

import base64
import io
from collections.abc import Callable
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

Kind = Literal["svg", "png"]

# Okabe & Ito (2008): distinguishable with any kind of colour vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
INK, FAINT, BAND = "#1f2933", "#9aa5b1", "#0072b2"
MAX_PANELS = 12
"""Maximum number of features with a panel; tables hold all of them."""

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
        columns: Panels per row.
        width: Width of the figure in inches.
        row_height: Height of a row in inches.
        **options: Options of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, row_height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def line_color(index: int) -> str:
    """Return the colour of the n-th line."""
    return COLORS[index % len(COLORS)]


def format_date_axis(axes: Axes) -> None:
    """Label each tick with the shortest part of the date that distinguishes it from its neighbours."""
    formatter: Any = ConciseDateFormatter
    axes.xaxis.set_major_formatter(formatter(axes.xaxis.get_major_locator()))


def mark_steps(axes: Axes, horizon: int) -> None:
    """Put the ticks of an axis of steps ahead at whole numbers."""
    every = max(1, -(-horizon // 12))
    axes.set_xticks([1, *range(1 + every, horizon + 1, every)] if every == 1 else [1, *range(every, horizon + 1, every)])
    axes.set_xlim(0.7, horizon + 0.3)


def add_legend(figure: Figure, axes: Axes, columns: int = 6) -> None:
    """Put the legend of one panel above the figure, as the legend of all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=9)


def embed_figure(draw: Callable[[], Figure], alternative: str, kind: Kind = "svg") -> str:
    """Return an `<img>` element with the figure inside it as a data URL.

    Args:
        draw: Draws the figure.
        alternative: Alternative text.
        kind: "svg" for lines, "png" for many thousand points.
    """
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f'<img alt="{alternative}" src="data:{mime};base64,{base64.b64encode(render_figure(draw, kind)).decode()}">'


def render_figure(draw: Callable[[], Figure], kind: Kind = "png") -> bytes:
    """Return a figure as the bytes of a picture, in the common style."""
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        draw().savefig(file, format=kind, dpi=140, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return file.getvalue()
