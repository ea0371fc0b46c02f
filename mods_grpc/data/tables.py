"""Reads tables of text with a header line and a time column: row by row, or whole. TSV, CSV, or with semicolons."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Self, TextIO, cast

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.data.cells import parse_number, parse_time
from mods_grpc.errors import DataError

TIME_COLUMNS = ("window_start", "observe_time", "time", "timestamp", "ts", "datetime", "date", "start_time", "start")
DEFAULT_SERIES = "series"

_GZIP = b"\x1f\x8b"
_OTHER_KINDS = {b"PK\x03\x04": "a workbook or another zip file", b"\xd0\xcf\x11\xe0": "a workbook", b"PAR1": "a Parquet file"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLayout:
    """Which columns of a table hold the time, the series and the model's features.

    Attributes:
        features: The model's features, in its order.
        columns: Column of a feature, where it is not named like the feature.
        time_column: Column of the times; None for the first of `TIME_COLUMNS` that the table has.
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
class SeriesRows:
    """All rows of one series: `nanos` is `(n,)`, `values` is `(n, features)` with NaN where they are missing."""

    series: str
    nanos: Times
    values: Floats


class TextTable:
    """A whole table as text, its columns parsed on request.

    Attributes:
        name: Name of the table in errors.
        header: Names of the columns, in the table's order.

    Args:
        name: Name of the table in errors.
        columns: Name and cells of each column.
        line_numbers: Line of each row in its file; None where it did not come from lines, so that errors count rows from 1.
    """

    def __init__(self, name: str, columns: Sequence[tuple[str, list[str]]], line_numbers: list[int] | None = None) -> None:
        self.name = name
        self.header = tuple(column for column, _ in columns)
        self._cells = [cells for _, cells in columns]
        self._line_numbers = line_numbers

    def __len__(self) -> int:
        return len(self._cells[0]) if self._cells else 0

    @classmethod
    def read(cls, lines: Iterable[str], name: str) -> Self:
        """Read a table to the end; `read_rows` says how.

        Raises:
            DataError: The table is empty or malformed; the message names the line.
        """
        header, numbered_rows = _read_cells(lines, name)
        line_numbers, rows = [], []
        for line_number, cells in numbered_rows:
            line_numbers.append(line_number)
            rows.append(cells)
        columns = [list(cells) for cells in zip(*rows, strict=True)] if rows else [[] for _ in header]
        return cls(name, list(zip(header, columns, strict=True)), line_numbers)

    def texts(self, column: str) -> list[str]:
        """Return the cells of a column.

        Raises:
            DataError: There is no such column, or more than one.
        """
        return self._cells[find_column(self.header, column, self.name)]

    def times(self, column: str) -> Times:
        """Parse a column of times.

        Raises:
            DataError: There is no such column, or a cell is not a time.
        """
        cells = self.texts(column)
        return np.array([parse_time(cell, self._where(row)) for row, cell in enumerate(cells)], dtype=np.int64)

    def numbers(self, column: str) -> Floats:
        """Parse a column of numbers, NaN where a cell is missing.

        Raises:
            DataError: There is no such column, or a cell is not a finite number.
        """
        cells = self.texts(column)
        return np.array([parse_number(cell, column, self._where(row)) for row, cell in enumerate(cells)], dtype=np.float64)

    def _where(self, row: int) -> str:
        return f"{self.name} row {row + 1}" if self._line_numbers is None else f"{self.name}:{self._line_numbers[row]}"


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """Open a table of text in UTF-8, decompressed by gzip if it is or its name ends in `.gz`.

    Raises:
        DataError: It is a workbook or a Parquet file; or what is read in the block is no text in UTF-8, or a damaged gzip file.
        OSError: It can't be read.
    """
    with _errors_of_source(str(path)), path.open("rb") as raw:
        head = raw.peek(4)[:4]
        for magic, kind in _OTHER_KINDS.items():
            if head.startswith(magic):
                raise DataError(f"{path}: is {kind}, expected a table as text; save it as CSV")
        if path.suffix == ".gz" or head.startswith(_GZIP):
            with gzip.open(raw, "rt", encoding="utf-8", newline="") as file:
                yield cast("TextIO", file)
        else:
            with TextIOWrapper(raw, encoding="utf-8", newline="") as text:
                yield text


def read_rows(lines: Iterable[str], layout: TableLayout, name: str) -> Iterator[TableRow]:
    """Read rows one by one, so that the table may be a stream without an end.

    The first line is the header. If it holds a tab, tabs separate the cells; else commas or semicolons do, whichever occur more
    often in it. Cells may be quoted. Empty lines are skipped.

    Args:
        lines: The lines of the table.
        layout: Which columns to read.
        name: Name of the table in errors.

    Raises:
        DataError: A column does not exist or its name is repeated, a row has more or fewer cells than the header, or a cell can't
            be parsed. The message names the line.
    """
    header, numbered_rows = _read_cells(lines, name)
    time_at = header.index(find_time_column(header, layout.time_column, name))
    series_at = None if layout.series_column is None else find_column(header, layout.series_column, name, "series column")
    values_at = [_find_feature(header, feature, layout, name) for feature in layout.features]
    for line_number, cells in numbered_rows:
        where = f"{name}:{line_number}"
        if series_at is not None and not cells[series_at]:
            raise DataError(f"{where}: expected the name of a series in column {header[series_at]}, found nothing")
        yield TableRow(
            series=layout.series if series_at is None else cells[series_at],
            nanos=parse_time(cells[time_at], where),
            values=tuple(parse_number(cells[at], header[at], where) for at in values_at),
        )


def group_by_series(rows: Iterable[TableRow]) -> list[SeriesRows]:
    """Collect rows by series, in the order in which the series first appear."""
    rows_of: dict[str, list[TableRow]] = {}
    for row in rows:
        rows_of.setdefault(row.series, []).append(row)
    return [
        SeriesRows(
            series=series,
            nanos=np.array([row.nanos for row in members], dtype=np.int64),
            values=np.array([row.values for row in members], dtype=np.float64),
        )
        for series, members in rows_of.items()
    ]


def find_time_column(header: Sequence[str], wanted: str | None, name: str) -> str:
    """Return the name of the time column: the wanted one, or else the first of `TIME_COLUMNS` that there is, in any case.

    Raises:
        DataError: There is none, or more than one of that name.
    """
    if wanted is not None:
        return header[find_column(header, wanted, name, "time column")]
    lowered = [column.lower() for column in header]
    for candidate in TIME_COLUMNS:
        if candidate in lowered:
            return header[find_column(header, header[lowered.index(candidate)], name, "time column")]
    raise DataError(f"{name}: found no time column among {', '.join(header)}; name it with --time-column")


def find_column(header: Sequence[str], column: str, name: str, role: str = "column", purpose: str = "", hint: str = "") -> int:
    """Return the index of a column.

    Args:
        header: Names of the columns.
        column: The one to look for.
        name: Name of the table in errors.
        role: What the column is, for errors, such as "time column".
        purpose: What it is for, to follow its name in errors.
        hint: How to end the error if there is no such column.

    Raises:
        DataError: There is no such column; or more than one, so that it is not clear which one is meant.
    """
    indices = [index for index, other in enumerate(header) if other == column]
    if not indices:
        raise DataError(f"{name}: found no {role} {column}{purpose} among {', '.join(header)}{hint}")
    if len(indices) > 1:
        raise DataError(f"{name}: {len(indices)} columns are named {column}; expected one")
    return indices[0]


def _find_feature(header: Sequence[str], feature: str, layout: TableLayout, name: str) -> int:
    hint = "" if feature in layout.columns else f"; say which one it is with --columns {feature}=COLUMN"
    column = layout.columns.get(feature, feature)
    return find_column(header, column, name, purpose=f" for the feature {feature}", hint=hint)


def _read_cells(lines: Iterable[str], name: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Read the header and return it with the rows that follow, each with the number of its last line."""
    source = iter(lines)
    with _errors_of_source(name):
        first = next(source, "").lstrip("\ufeff")
    if not first.strip():
        raise DataError(f"{name}: is empty; expected a header line")
    delimiter = "\t" if "\t" in first else max(",;", key=first.count)
    rows = _read_csv(chain([first], source), delimiter, name)
    _, header = next(rows)
    return [cell.strip() for cell in header], rows


def _read_csv(lines: Iterable[str], delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield all rows that are not empty, each with the number of its last line. They have as many cells as the first."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = 0
    try:
        with _errors_of_source(name):
            for cells in reader:
                columns = columns or len(cells)
                if len(cells) == columns:
                    yield reader.line_num, cells
                elif cells:
                    raise DataError(f"{name}:{reader.line_num}: expected {columns} cells like the header, found {len(cells)}")
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: {error}") from error


@contextmanager
def _errors_of_source(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: expected text in UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name}: is not a complete gzip file") from error
