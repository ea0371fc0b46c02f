"""Reads TSV and CSV row by row: a time column, columns for the model's features, perhaps one that names the series."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError

TIME_COLUMNS = ("window_start", "observe_time", "time", "timestamp", "ts", "datetime", "date", "start_time", "start")
MISSING_CELLS = frozenset({"", '""', "-", "(empty)", "na", "nan", "null", "none"})
DEFAULT_SERIES = "series"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Plain numbers are times since 1970 in the unit that puts them between the years 1973 and 5138.
_NANOS_PER_UNIT = ((Decimal(10) ** 11, 10**9), (Decimal(10) ** 14, 10**6), (Decimal(10) ** 17, 10**3))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where a table keeps what is needed.

    Attributes:
        features: The model's features, in its order.
        columns: Column of a feature where it is not called like the feature.
        time_column: Column of the times; None to look for one of `TIME_COLUMNS`.
        series_column: Column that names the series; None when there is only one.
        series: Name of the series when there is only one.
    """

    features: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    time_column: str | None = None
    series_column: str | None = None
    series: str = DEFAULT_SERIES


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One row: the time in nanoseconds since 1970-01-01T00:00:00Z, one value per feature, NaN where it is missing."""

    series: str
    nanos: int
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeriesTable:
    """All rows of one series: `nanos` is `(n,)`, `values` is `(n, features)` with NaN where they are missing."""

    series: str
    nanos: NDArray[np.int64]
    values: NDArray[np.float64]


def read_rows(lines: Iterable[str], layout: Layout, name: str) -> Iterator[TableRow]:
    """Read rows as they come; the first line is the header, and says whether tabs, semicolons or commas part the cells.

    Args:
        lines: The lines of the table.
        layout: Where it keeps what is needed.
        name: What to call the table in errors.

    Raises:
        DataError: A column is not there, or a cell can't be read; the message names the line.
    """
    source = iter(lines)
    first = next(source, "").lstrip("\ufeff")
    if not first.strip():
        raise DataError(f"{name}: is empty; expected a header line")
    delimiter = "\t" if "\t" in first else max(",;", key=first.count)
    header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter))]
    time_at = _time_column(header, layout, name)
    series_at = None if layout.series_column is None else _column(header, layout.series_column, "series", name)
    values_at = [_feature_column(header, feature, layout, name) for feature in layout.features]
    for number, cells in enumerate(_cells(source, delimiter, name), start=2):
        where = f"{name}:{number}"
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(f"{where}: expected {len(header)} cells like the header, found {len(cells)}")
        yield TableRow(
            series=layout.series if series_at is None else cells[series_at],
            nanos=parse_time(cells[time_at], where),
            values=tuple(_parse_value(cells[at], header[at], where) for at in values_at),
        )


def gather(rows: Iterable[TableRow]) -> list[SeriesTable]:
    """Collect rows by series, in the order in which the series first appear."""
    found: dict[str, list[TableRow]] = {}
    for row in rows:
        found.setdefault(row.series, []).append(row)
    return [
        SeriesTable(
            series=series,
            nanos=np.array([row.nanos for row in members], dtype=np.int64),
            values=np.array([row.values for row in members], dtype=np.float64),
        )
        for series, members in found.items()
    ]


def parse_time(text: str, where: str) -> int:
    """Read a time as nanoseconds since 1970-01-01T00:00:00Z.

    ISO 8601, read as UTC where it names no zone, or a number of seconds, milli-, micro- or nanoseconds since 1970.

    Raises:
        DataError: It is neither.
    """
    nanos = _number_nanos(text.strip())
    if nanos is None:
        nanos = _iso_nanos(text.strip())
    if nanos is None or not -(2**63) <= nanos < 2**63:
        raise DataError(f"{where}: expected a time such as 2019-01-31T12:00:00Z or 1548936000, found {text!r}")
    return nanos


def _number_nanos(text: str) -> int | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() > 30:
        return None
    factor = next((factor for limit, factor in _NANOS_PER_UNIT if abs(number) < limit), 1)
    return int(number * factor)


def _iso_nanos(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND * 1_000


def _cells(source: Iterator[str], delimiter: str, name: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(source, delimiter=delimiter)
    except csv.Error as error:
        raise DataError(f"{name}: {error}") from error


def _parse_value(text: str, column: str, where: str) -> float:
    if text.strip().lower() in MISSING_CELLS:
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"{where}: expected a number in column {column}, found {text!r}") from error


def _time_column(header: Sequence[str], layout: Layout, name: str) -> int:
    if layout.time_column is not None:
        return _column(header, layout.time_column, "time", name)
    lowered = [cell.lower() for cell in header]
    for candidate in TIME_COLUMNS:
        if candidate in lowered:
            return lowered.index(candidate)
    raise DataError(f"{name}: found no time column among {', '.join(header)}; name it with --time-column")


def _feature_column(header: Sequence[str], feature: str, layout: Layout, name: str) -> int:
    column = layout.columns.get(feature, feature)
    if column in header:
        return header.index(column)
    hint = f"; say which one it is with --columns {feature}=COLUMN" if column == feature else ""
    raise DataError(f"{name}: found no column {column} for the feature {feature} among {', '.join(header)}{hint}")


def _column(header: Sequence[str], column: str, role: str, name: str) -> int:
    if column not in header:
        raise DataError(f"{name}: found no {role} column {column} among {', '.join(header)}")
    return header.index(column)
