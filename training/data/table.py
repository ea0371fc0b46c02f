"""A table with a time column, read as series: text in any form of `mods_grpc.data.tables`, or Parquet."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mods_grpc.array_types import Bools, Floats, Indices, Times
from mods_grpc.data.datapool_layout import parse_window_slide
from mods_grpc.data.distinct_rows import merge_duplicates
from mods_grpc.data.tables import TextTable, find_time_column, open_table
from mods_grpc.errors import DataError
from training.data.feature import FeatureColumn, describe_column, parse_kind
from training.data.query import Query
from training.data.series import DataReport, Series, make_series
from training.data.time_range import DateTimes, Interval, is_on_grid, to_whole_seconds

PARQUET_SUFFIXES = (".parquet", ".pq")


def read_table(
    path: Path,
    time_column: str,
    features: Sequence[str],
    query: Query,
    interval: Interval | None = None,
    *,
    window_slide: str | None = None,
    zero_fill: Iterable[str] = (),
) -> Series:
    """Read columns of a table that holds one series.

    Args:
        path: The file. Parquet by its name, which needs pyarrow; else text, decompressed by gzip if its name ends in `.gz`.
        time_column: Column of ISO 8601 times or of times since 1970. Empty means the first usual name that the table has.
        features: `name` or `name:kind`. Empty means the names of the query.
        query: Gives protocol, column and kind of the names in it. Any other name is a count if it holds whole numbers that are
            not negative, else a mean, unless its kind is given.
        interval: Rows whose time lies in it are read; None reads all.
        window_slide: Such as `w01h-s10m`. None takes the most frequent step as slide and as window.
        zero_fill: Features whose empty cells mean "no event" and become 0.

    Raises:
        DataError: No such file or column, a malformed cell, a time between whole seconds, or a step that is not the given
            slide.
    """
    (series,) = read_tables(path, time_column, features, query, interval, window_slide=window_slide, zero_fill=zero_fill).values()
    return series


def read_tables(
    path: Path,
    time_column: str,
    features: Sequence[str],
    query: Query,
    interval: Interval | None = None,
    *,
    series_column: str = "",
    window_slide: str | None = None,
    zero_fill: Iterable[str] = (),
) -> dict[str, Series]:
    """Read columns of a table as `read_table` does, grouped by the series that another column names.

    Args:
        path: The file, see `read_table`.
        time_column: Column of times.
        features: Columns to read.
        query: Gives protocol, column and kind of the names in it.
        interval: Rows whose time lies in it are read; None reads all.
        series_column: Column with the name of each row's series. Empty: all rows belong to one series, named "".
        window_slide: None takes the most frequent step of each series.
        zero_fill: Features whose empty cells become 0.

    Returns:
        The series that have rows in the interval, by name.

    Raises:
        DataError: As `read_table`, or a row has no series.
    """
    requested = [item.partition(":") for item in features] or [(f.name, "", "") for f in query.features]
    names = [name for name, _, _ in requested]
    zeros = set(zero_fill)
    if unknown := zeros - set(names):
        raise DataError(f"zero_fill: no feature {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    table = _read_text(path)
    times_of = find_time_column(table.header, time_column or None, table.name)
    times = to_whole_seconds(table.times(times_of), f"{table.name} {times_of}")
    values = np.stack([table.numbers(name) for name in names], axis=1)
    inside = np.ones(len(times), dtype=np.bool_) if interval is None else interval.contains(times)
    columns = [_describe_feature(name, kind, query, values[inside, index]) for index, (name, _, kind) in enumerate(requested)]
    by_name = {}
    for name, rows in _series_rows(table.texts(series_column) if series_column else None, inside):
        where = f"{path.name} {name}".rstrip()
        if name == "" and series_column:
            raise DataError(f"{path.name}: {len(rows)} rows have no {series_column}")
        by_name[name] = _series_of_rows(times[rows], values[rows], columns, zeros, window_slide, where)
    return by_name


def list_numeric_columns(path: Path, time_column: str) -> list[str]:
    """List the columns of a table that hold numbers, without the time column.

    Args:
        path: The file, see `read_table`.
        time_column: Column of times; empty for the first usual name that the table has.

    Raises:
        DataError: The file can't be read, or has no such columns.
    """
    table = _read_text(path)
    times_of = find_time_column(table.header, time_column or None, table.name)
    columns = [name for name in table.header if name != times_of and _is_numeric(table, name)]
    if not columns:
        raise DataError(f"{path.name}: no column of numbers besides {times_of}")
    return columns


def _series_rows(names: list[str] | None, inside: Bools) -> Iterator[tuple[str, Indices]]:
    """Yield each series with its rows that are inside, in the order of the names."""
    if names is None:
        yield "", np.flatnonzero(inside)
        return
    distinct, which = np.unique(np.array(names, dtype=str)[inside], return_inverse=True)
    order = np.flatnonzero(inside)[np.argsort(which, kind="stable")]
    yield from zip(distinct.tolist(), np.split(order, np.cumsum(np.bincount(which))[:-1]), strict=True)


def _series_of_rows(
    times: DateTimes,
    values: Floats,
    features: list[FeatureColumn],
    zero_fill: set[str],
    window_slide: str | None,
    where: str,
) -> Series:
    """Put the rows of one series in order on its grid; `where` names file and series in errors."""
    distinct = merge_duplicates(times.astype(np.int64), values)
    window_seconds, slide_seconds = _infer_grid(distinct.times, window_slide, where)
    distinct_times = distinct.times.astype("datetime64[s]")
    on_grid = is_on_grid(distinct_times, slide_seconds, int(distinct.times[0]))
    zero_filled = {}
    values_on_grid = distinct.values[on_grid]
    for index, feature in enumerate(features):
        if feature.name in zero_fill:
            column = values_on_grid[:, index]
            zero_filled[feature.name] = int(np.isnan(column).sum())
            column[np.isnan(column)] = 0.0
    report = DataReport(
        files=1,
        rows=len(times),
        duplicates=distinct.duplicates,
        contradictions=distinct.contradictions,
        off_grid=int((~on_grid).sum()),
        zero_filled=zero_filled,
    )
    return make_series(
        distinct_times[on_grid],
        values_on_grid,
        features,
        window_seconds=window_seconds,
        slide_seconds=slide_seconds,
        report=report,
        repeated=distinct.repeated.astype("datetime64[s]"),
    )


def _is_numeric(table: TextTable, column: str) -> bool:
    try:
        return bool(np.isfinite(table.numbers(column)).any())
    except DataError:
        return False


def _read_text(path: Path) -> TextTable:
    try:
        if path.suffix in PARQUET_SUFFIXES:
            return _as_text(pd.read_parquet(path), path.name)
        with open_table(path) as lines:
            return TextTable.read(lines, path.name)
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs the package pyarrow; install it, or give the table as CSV") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read as a table'}") from error
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as a table") from error


def _as_text(table: pd.DataFrame, name: str) -> TextTable:
    """Turn typed columns into the text that a file of text would hold, and a named index into a column."""
    if table.index.name:
        table = table.reset_index()
    columns = []
    for label in table.columns:
        column = table[label]
        if isinstance(column.dtype, pd.DatetimeTZDtype) or np.issubdtype(column.to_numpy().dtype, np.datetime64):
            texts = column.map(lambda value: value.isoformat())
        else:
            texts = column.map(lambda value: repr(value.item() if isinstance(value, np.generic) else value))
            texts = column.astype(str).where(column.map(lambda value: isinstance(value, str)), texts)
        columns.append((str(label), texts.astype(object).where(column.notna(), "").astype(str).tolist()))
    return TextTable(name, columns)


def _infer_grid(seconds: Times, window_slide: str | None, where: str) -> tuple[int, int]:
    """Return window and slide in seconds; `seconds` are distinct ascending times."""
    if len(seconds) < 2:
        raise DataError(f"{where}: fewer than two rows in the selected range")
    steps, counts = np.unique(np.diff(seconds), return_counts=True)
    step = int(steps[np.argmax(counts)])
    if window_slide is None:
        return step, step
    window_seconds, slide_seconds = parse_window_slide(window_slide)
    if step != slide_seconds:
        raise DataError(f"{where}: rows are {step} s apart, window_slide {window_slide} says {slide_seconds} s")
    return window_seconds, slide_seconds


def _describe_feature(name: str, kind: str, query: Query, column: Floats) -> FeatureColumn:
    for feature in query.features:
        if feature.name == name and not kind:
            return feature
    finite = column[np.isfinite(column)]
    inferred_kind = "count" if bool(np.all((finite >= 0) & (finite == np.floor(finite)))) else "mean"
    described = describe_column(name, "", name)
    return FeatureColumn(
        name=name,
        unit=described.unit if inferred_kind == "count" else "1",
        protocol="",
        column=name,
        kind=parse_kind(kind or inferred_kind),
        aggregation="",
    )
