"""Text that fits a terminal: cut and wrapped by the cells that it takes, without what a terminal would obey."""

import math
from collections.abc import Iterator
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from mods_grpc.cli.output import replace_unprintable

_CUT = "…"
_UNITS = ("", "k", "M", "G", "T", "P", "E")


def fit(text: str, width: int) -> str:
    """Return text of exactly so many cells, cut with `…` or filled with spaces."""
    text = replace_unprintable(text)
    if cell_len(text) > width:
        text = set_cell_size(text, max(0, width - 1)).rstrip() + _CUT if width > 0 else ""
    return set_cell_size(text, width)


def fit_right(text: str, width: int) -> str:
    """Return text of so many cells, aligned to the right."""
    text = replace_unprintable(text)
    return " " * (width - cell_len(text)) + text if cell_len(text) <= width else fit(text, width)


def wrap(text: str, width: int) -> list[str]:
    """Return text as lines of at most so many cells, broken at spaces, and within words that are longer than a line."""
    lines, line = [], ""
    for word in _short_words(replace_unprintable(text), width):
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines


def _short_words(text: str, width: int) -> Iterator[str]:
    for word in text.split():
        rest = word
        while cell_len(rest) > width:
            part = set_cell_size(rest, width).rstrip()
            number = max(1, len(part)) if rest.startswith(part) else max(1, len(part) - 1)
            yield rest[:number]
            rest = rest[number:]
        yield rest


def label(name: str, text: str, width: int, indent: int = 11) -> list[str]:
    """Return text behind a name, wrapped; the further lines are indented as far."""
    lines = wrap(text, max(10, width - indent)) or [""]
    return [fit(name if number == 0 else "", indent) + line for number, line in enumerate(lines)]


def format_quantity(value: float | None) -> str:
    """Return a count, or an amount, with separated thousands."""
    if value is None:
        return "missing"
    if not math.isfinite(value):
        return "?"
    if abs(value) >= 1e15:
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def format_short(value: float | None, digits: int = 3) -> str:
    """Return a count, or an amount, with few digits: `103`, `19.7k`, `1.2M`."""
    if value is None or not math.isfinite(value) or abs(value) < 1_000:
        return format_quantity(value)
    power = min(len(_UNITS) - 1, int(math.log10(float(f"{abs(value):.{digits - 1}e}"))) // 3)
    mantissa = value / 1_000**power
    return f"{mantissa:.{max(0, digits - len(f'{abs(mantissa):.0f}'))}f}{_UNITS[power]}"


def format_band(lower: float, upper: float, between: str = "-") -> str:
    """Return a forecast band; counts and amounts are never below zero."""
    return f"{format_quantity(max(0.0, lower))}{between}{format_quantity(max(0.0, upper))}"


def format_local(when: datetime, *, with_year: bool = True) -> str:
    """Return a time in the zone of this machine, to the minute."""
    return f"{when.astimezone():{'%Y-%m-%d %H:%M' if with_year else '%m-%d %H:%M'}}"
