"""Recorded aggregates as windows: a datapool of MODS, or one table."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mods_grpc.data.tables import TableLayout, TableRow, read_rows
from mods_grpc.errors import DataError
from mods_grpc.ids.windows.window import WindowBatch

_POOL_FILE = re.compile(r"w(\d+[smhd])-s(\d+[smhd])\.tsv")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, kw_only=True, slots=True)
class Datapool:
    """A folder `protocol/YYYY/MM/DD/w01h-s10m.tsv`.

    `days` holds the paths `YYYY/MM/DD/FILE` below the protocols, in order of time.
    """

    root: Path
    days: tuple[str, ...]


def find_datapool(root: Path, window_seconds: float, slide_seconds: float) -> Datapool | None:
    """Look for the datapool of a window and slide; None if the folder is none.

    Raises:
        DataError: It is one, of other windows.
    """
    paths = [path for path in root.glob("*/[0-9]*/[0-9]*/[0-9]*/w*-s*.tsv") if _POOL_FILE.fullmatch(path.name)]
    if not paths:
        return None
    fitting = {path for path in paths if _spans(path.name) == (window_seconds, slide_seconds)}
    if not fitting:
        names = sorted({path.name for path in paths})
        raise DataError(
            f"{root}: holds {', '.join(names)}, but the model takes windows of {window_seconds:g} s every {slide_seconds:g} s"
        )
    return Datapool(root=root, days=tuple(sorted({"/".join(path.parts[-4:]) for path in fitting})))


def read_datapool(pool: Datapool, keys: Sequence[str], divisors: Sequence[float], series: str) -> Iterator[WindowBatch]:
    """Read a datapool day by day, joined on the start of the window.

    Args:
        pool: The datapool.
        keys: Aggregates, such as `conn|in_count_uid`.
        divisors: What to divide them by.
        series: Name of the series.

    Raises:
        DataError: A column is not there, or a cell can't be read.
    """
    protocols: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        protocols.setdefault(key.partition("|")[0], []).append(index)
    for day in pool.days:
        values: dict[int, NDArray[np.float64]] = {}
        for protocol, indices in protocols.items():
            path = pool.root / protocol / day
            if not path.exists():
                continue
            layout = TableLayout(features=tuple(keys[index].partition("|")[2] for index in indices))
            with path.open(encoding="utf-8", newline="") as lines:
                for row in read_rows(lines, layout, "/".join(path.parts[-5:])):
                    values.setdefault(row.nanos, np.full(len(keys), np.nan))[indices] = row.values
        for nanos in sorted(values):
            if not np.isnan(values[nanos]).all():
                yield WindowBatch(start_ns=nanos, series=(series,), values=(values[nanos] / np.array(divisors))[np.newaxis])


def batch_table_rows(rows: Iterable[TableRow]) -> Iterator[WindowBatch]:
    """Gather the rows of a table, sorted by time, into windows; of rows of one series and time the first one counts."""
    together: dict[str, tuple[float, ...]] = {}
    start: int | None = None
    for row in rows:
        if start is not None and row.nanos != start:
            if row.nanos < start:
                raise DataError("expected rows in order of time")
            yield from _batches_of(start, together)
            together = {}
        start = row.nanos
        together.setdefault(row.series, row.values)
    if start is not None:
        yield from _batches_of(start, together)


def _batches_of(start: int, together: dict[str, tuple[float, ...]]) -> Iterator[WindowBatch]:
    nonempty = {series: values for series, values in together.items() if not np.isnan(values).all()}
    if nonempty:
        yield WindowBatch(start_ns=start, series=tuple(nonempty), values=np.array(list(nonempty.values()), dtype=np.float64))


def _spans(name: str) -> tuple[float, float]:
    match = _POOL_FILE.fullmatch(name)
    assert match is not None
    window, slide = (float(text[:-1]) * _UNITS[text[-1]] for text in match.groups())
    return window, slide
