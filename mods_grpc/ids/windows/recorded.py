"""Windows from recorded aggregates: a datapool, or one table."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.data.datapool_layout import WINDOW_START, find_unfinished, parse_path, parse_window_slide
from mods_grpc.data.distinct_rows import DistinctRows, merge_duplicates
from mods_grpc.data.tables import TableLayout, TableRow, open_table, read_rows
from mods_grpc.errors import DataError
from mods_grpc.ids.windows.window import WindowBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Datapool:
    """A datapool of one window and slide; `days` are the paths `YYYY/MM/DD/FILE` below the protocols, in order of time."""

    root: Path
    days: tuple[str, ...]


def is_datapool(root: Path) -> bool:
    """Return whether a folder is a datapool, of any window and slide.

    Raises:
        DataError: The path of a file has an impossible day.
    """
    return any(parse_path("/".join(path.parts[-5:])) is not None for path in root.glob("*/*/*/*/*.tsv"))


def is_of_host(root: Path) -> bool:
    """Return whether a datapool is in a folder of a series that is a host."""
    try:
        ip_address(unquote(root.resolve().name))
    except ValueError:
        return False
    return True


def find_series_folders(root: Path) -> list[Path]:
    """Return the folders of series, each a datapool, if a folder holds nothing else; none of a folder of logs or of one datapool.

    Raises:
        DataError: The path of a file has an impossible day.
    """
    if not root.is_dir():
        return []
    folders = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    return folders if all(path.is_dir() and is_datapool(path) for path in folders) else []


def find_datapool(root: Path, window_seconds: float, slide_seconds: float) -> Datapool | None:
    """Return the datapool of a window and slide in a folder; None if the folder is not a datapool.

    Raises:
        DataError: The folder is a datapool of other windows, or an unfinished one, or the path of a file has an impossible day,
            window or slide.
    """
    if unfinished := find_unfinished(root):
        raise DataError(
            f"{root} is not whole: {unfinished} is of an aggregate that was killed or still runs; run aggregate again"
        )
    paths = {path: file for path in root.glob("*/*/*/*/*.tsv") if (file := parse_path("/".join(path.parts[-5:])))}
    if not paths:
        return None
    asked = (window_seconds, slide_seconds)
    matching = [path for path, file in paths.items() if parse_window_slide(file.window_slide) == asked]
    if not matching:
        names = sorted({path.name for path in paths})
        raise DataError(
            f"{root}: holds {', '.join(names)}, but the model takes windows of {window_seconds:g} s every {slide_seconds:g} s; "
            f"aggregate again with --window {window_seconds:g}s --slide {slide_seconds:g}s"
        )
    return Datapool(root=root, days=tuple(sorted({"/".join(path.parts[-4:]) for path in matching})))


def read_datapool(datapool: Datapool, keys: Sequence[str], divisors: Sequence[float], series: str) -> Iterator[WindowBatch]:
    """Yield the windows of a datapool day by day, its protocols joined on the start of the window.

    Rows of a file with the same time are merged as `merge_duplicates` does, and reported in the log.

    Args:
        datapool: The datapool.
        keys: Aggregates of the model's features, such as `conn|in_count_uid`.
        divisors: One per key; the aggregate divided by it is in the unit of the feature.
        series: Name of the series.

    Raises:
        DataError: A column is missing, or a cell can't be parsed.
    """
    protocols: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        protocols.setdefault(key.partition("|")[0], []).append(index)
    for day in datapool.days:
        values: dict[int, Floats] = {}
        for protocol, indices in protocols.items():
            path = datapool.root / protocol / day
            if not path.exists():
                continue
            distinct = read_day(path, [keys[index].partition("|")[2] for index in indices])
            for nanos, row in zip(distinct.times.tolist(), distinct.values, strict=True):
                values.setdefault(nanos, np.full(len(keys), np.nan))[indices] = row
        for nanos in sorted(values):
            if not np.isnan(values[nanos]).all():
                yield WindowBatch(start_ns=nanos, series=(series,), values=(values[nanos] / np.array(divisors))[np.newaxis])


def batch_table_rows(rows: Iterable[TableRow]) -> Iterator[WindowBatch]:
    """Yield the rows of a table in batches of one time.

    Rows of the same series and time are merged as `merge_duplicates` does, and reported in the log at the end.

    Args:
        rows: Rows in order of time.

    Raises:
        DataError: A row is earlier than the one before it.
    """
    duplicates = contradictions = 0
    last_start: int | None = None
    for start, group in groupby(rows, key=lambda row: row.nanos):
        if last_start is not None and start < last_start:
            earlier, later = (np.datetime64(nanos, "ns").astype("datetime64[s]") for nanos in (start, last_start))
            raise DataError(f"expected rows in order of time, found {earlier} after {later}; sort the table by its time column")
        last_start = start
        rows_of: dict[str, list[tuple[float, ...]]] = {}
        for row in group:
            rows_of.setdefault(row.series, []).append(row.values)
        for series, repeated in rows_of.items():
            if len(repeated) > 1:
                distinct = merge_duplicates(np.full(len(repeated), start), np.array(repeated))
                rows_of[series] = [tuple(distinct.values[0].tolist())]
                duplicates, contradictions = duplicates + distinct.duplicates, contradictions + distinct.contradictions
        nonempty = {series: values for series, (values,) in rows_of.items() if not np.isnan(values).all()}
        if nonempty:
            yield WindowBatch(start_ns=start, series=tuple(nonempty), values=np.array(list(nonempty.values()), dtype=np.float64))
    _report_repeated("table", duplicates, contradictions)


def find_days(protocol: Path, name: str) -> list[Path]:
    """Return the files of a name in the folder of a protocol, in order of time."""
    return sorted(path for path in protocol.glob(f"*/*/*/{name}") if parse_path("/".join(path.parts[-5:])) is not None)


def read_day(path: Path, columns: Sequence[str]) -> DistinctRows:
    """Read columns of a day's file; rows with the same time are merged as `merge_duplicates` does, and reported in the log.

    Raises:
        DataError: A column is missing, or a cell can't be parsed.
    """
    name = "/".join(path.parts[-5:])
    with open_table(path) as lines:
        rows = list(read_rows(lines, TableLayout(features=tuple(columns), time_column=WINDOW_START), name))
    times = np.array([row.nanos for row in rows], dtype=np.int64)
    values = np.array([row.values for row in rows], dtype=np.float64).reshape(len(rows), len(columns))
    distinct = merge_duplicates(times, values)
    _report_repeated(name, distinct.duplicates, distinct.contradictions)
    return distinct


def _report_repeated(source: str, duplicates: int, contradictions: int) -> None:
    if duplicates or contradictions:
        fields = {"source": source, "duplicates": duplicates, "contradictions": contradictions}
        logger.warning("rows_repeated", extra=fields)
