"""A plain table with a time column: comma- or tab-separated, compressed or not, or Parquet."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError
from training.data.feature import Feature, describe, parse_kind
from training.data.query import Selection
from training.data.rows import on_grid, order_rows, parse_numbers, parse_times, parse_window_slide, require_columns
from training.data.series import DataReport, Series, make_series
from training.data.time_range import DateTimes, Interval

PARQUET = (".parquet", ".pq")


def read_table(
    path: Path,
    time_column: str,
    features: Sequence[str],
    selection: Selection,
    interval: Interval | None = None,
    *,
    window_slide: str | None = None,
    zero_fill: Iterable[str] = (),
) -> Series:
    """Read columns of a table that holds one series.

    Args:
        path: The file. Parquet by its name, which needs pyarrow; else text, decompressed by gzip where its name ends in
            `.gz`, tab-separated when its first line holds a tab, else comma-separated.
        time_column: Column of ISO 8601 times or of seconds since 1970.
        features: `name` or `name:kind`. Empty means the names of the selection.
        selection: Tells protocol, column and kind of the names that it knows. Any other name is a count where it holds
            whole numbers that are not negative, else a mean, unless its kind is given.
        interval: Rows whose time lies in it are read; None reads all.
        window_slide: Such as `w01h-s10m`. None takes the most frequent step as slide and as window.
        zero_fill: Features whose empty cells mean "no event" and become 0.

    Raises:
        DataError: No such file or column, a cell that is not a number, or a step that is not the given slide.
    """
    (series,) = read_tables(
        path, time_column, features, selection, interval, window_slide=window_slide, zero_fill=zero_fill
    ).values()
    return series


def read_tables(
    path: Path,
    time_column: str,
    features: Sequence[str],
    selection: Selection,
    interval: Interval | None = None,
    *,
    series_column: str = "",
    window_slide: str | None = None,
    zero_fill: Iterable[str] = (),
) -> dict[str, Series]:
    """Read columns of a table, as `read_table`, by the series that a further column names.

    Args:
        path: As for `read_table`, and so are the others.
        time_column: Column of times.
        features: What is read.
        selection: Tells what it knows of them.
        interval: Rows whose time lies in it are read; None reads all.
        series_column: Column with the name of each row's series. Empty: all rows are of one series, without a name.
        window_slide: None takes the most frequent step of each series.
        zero_fill: Features whose empty cells become 0.

    Returns:
        The series that have rows in the interval, by name.

    Raises:
        DataError: As `read_table`, or a series has an empty name.
    """
    wanted = [item.partition(":") for item in features] or [(f.name, "", "") for f in selection.features]
    names = [name for name, _, _ in wanted]
    zeros = set(zero_fill)
    if unknown := zeros - set(names):
        raise DataError(f"zero_fill: no feature {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    table = _read(path)
    require_columns([time_column, *names, *([series_column] if series_column else [])], list(table.columns), path.name)
    times = parse_times(table[time_column], f"{path.name} {time_column}")
    values = np.stack([parse_numbers(table[name], f"{path.name} {name}") for name in names], axis=1)
    inside = np.ones(len(times), dtype=np.bool_) if interval is None else interval.contains(times)
    described = [_describe(name, kind, selection, values[inside, index]) for index, (name, _, kind) in enumerate(wanted)]
    found = {}
    for name, rows in _series_rows(table[series_column] if series_column else None, inside):
        where = f"{path.name} {name}".rstrip()
        if name == "" and series_column:
            raise DataError(f"{path.name}: {len(rows)} rows have no {series_column}")
        found[name] = _one_series(times[rows], values[rows], described, zeros, (window_slide, where))
    return found


def _series_rows(column: "pd.Series[str] | None", inside: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each series with its rows that are inside, in the order of the names."""
    if column is None:
        yield "", np.flatnonzero(inside)
        return
    names, which = np.unique(column.to_numpy(dtype=str)[inside], return_inverse=True)
    order = np.flatnonzero(inside)[np.argsort(which, kind="stable")]
    yield from zip(names.tolist(), np.split(order, np.cumsum(np.bincount(which))[:-1]), strict=True)


def _one_series(
    times: DateTimes, values: Floats, features: list[Feature], zero_fill: set[str], told: tuple[str | None, str]
) -> Series:
    """Put the rows of one series in order on its grid; `told` are the window and slide asked for, and where the rows are from."""
    distinct = order_rows(times, values)
    window_seconds, slide_seconds = _grid(distinct.times.astype(np.int64), *told)
    fitting = on_grid(distinct.times, slide_seconds, int(distinct.times[0].astype(np.int64)))
    zero_filled = {}
    kept = distinct.values[fitting]
    for index, feature in enumerate(features):
        if feature.name in zero_fill:
            column = kept[:, index]
            zero_filled[feature.name] = int(np.isnan(column).sum())
            column[np.isnan(column)] = 0.0
    report = DataReport(
        files=1,
        rows=len(times),
        duplicates=distinct.duplicates,
        contradictions=distinct.contradictions,
        off_grid=int((~fitting).sum()),
        zero_filled=zero_filled,
    )
    return make_series(
        distinct.times[fitting],
        kept,
        features,
        window_seconds=window_seconds,
        slide_seconds=slide_seconds,
        report=report,
        repeated=distinct.repeated,
    )


def number_columns(path: Path, time_column: str) -> list[str]:
    """List the columns of a table that hold numbers, less the one of times.

    Raises:
        DataError: The file can't be read, or has no such columns.
    """
    table = _read(path)
    require_columns([time_column], list(table.columns), path.name)
    found = [name for name in table.columns if name != time_column and _holds_numbers(table[name])]
    if not found:
        raise DataError(f"{path.name}: no column of numbers beside {time_column}")
    return found


def _holds_numbers(column: "pd.Series[str]") -> bool:
    try:
        return bool(np.isfinite(parse_numbers(column, "")).any())
    except DataError:
        return False


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix in PARQUET:
            return _as_text(pd.read_parquet(path))
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            separator = "\t" if "\t" in file.readline() else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs the package pyarrow; install it, or give the table as CSV") from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a table") from error


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Turn typed columns into the text that files of text hold, an index with a name into a column."""
    if table.index.name:
        table = table.reset_index()
    columns = {}
    for name in table.columns:
        column = table[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype) or np.issubdtype(column.to_numpy().dtype, np.datetime64):
            texts = column.map(lambda value: value.isoformat())
        else:
            texts = column.map(lambda value: repr(value.item() if isinstance(value, np.generic) else value))
            texts = column.astype(str).where(column.map(lambda value: isinstance(value, str)), texts)
        columns[str(name)] = texts.astype(object).where(column.notna(), "").astype(str)
    return pd.DataFrame(columns)


def _grid(seconds: "np.ndarray[tuple[int], np.dtype[np.int64]]", window_slide: str | None, name: str) -> tuple[int, int]:
    if len(seconds) < 2:
        raise DataError(f"{name}: fewer than two rows in the selected range")
    steps, counts = np.unique(np.diff(seconds), return_counts=True)
    step = int(steps[np.argmax(counts)])
    if window_slide is None:
        return step, step
    window_seconds, slide_seconds = parse_window_slide(window_slide)
    if step != slide_seconds:
        raise DataError(f"{name}: rows are {step} s apart, window_slide {window_slide} says {slide_seconds} s")
    return window_seconds, slide_seconds


def _describe(name: str, kind: str, selection: Selection, column: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Feature:
    for feature in selection.features:
        if feature.name == name and not kind:
            return feature
    known = column[np.isfinite(column)]
    guessed = "count" if bool(np.all((known >= 0) & (known == np.floor(known)))) else "mean"
    described = describe(name, "", name)
    return Feature(
        name=name,
        unit=described.unit if guessed == "count" else "1",
        protocol="",
        column=name,
        kind=parse_kind(kind) if kind else parse_kind(guessed),
        aggregation="",
    )
