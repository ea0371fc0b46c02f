"""The datapool of MODS: `protocol/YYYY/MM/DD/w01h-s10m.tsv`, loose files or archives of them, one a day."""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError
from training.data.feature import Feature
from training.data.query import JOIN_COLUMNS, Selection
from training.data.rows import on_grid, order_rows, parse_numbers, parse_times, parse_window_slide, require_columns
from training.data.series import DataReport, Series, make_series
from training.data.time_range import DateTimes, Interval

MAX_FILE_BYTES = 256 * 1024 * 1024

_MEMBER = re.compile(r"(?:.*/)?([^/]+)/(\d{4})/(\d{2})/(\d{2})/(w\d+[smhd]-s\d+[smhd])\.tsv")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A file of the pool: a path, or an archive and the name of its member."""

    path: Path
    member: str
    day: np.datetime64

    def read(self) -> bytes:
        if not self.member:
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            if archive.getinfo(self.member).file_size > MAX_FILE_BYTES:
                raise DataError(f"{self}: above {MAX_FILE_BYTES} bytes")
            return archive.read(self.member)

    def __str__(self) -> str:
        return f"{self.path.name}:{self.member}" if self.member else "/".join(self.path.parts[-5:])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """What one protocol holds: values `(rows, features)`, and counts for the report."""

    times: DateTimes
    values: Floats
    files: int
    rows: int
    duplicates: int
    contradictions: int
    off_grid: int
    repeated: DateTimes


def read_datapool(
    root: Path, selection: Selection, interval: Interval, *, window_slide: str = "w01h-s10m", zero_fill: Iterable[str] = ()
) -> Series:
    """Read the selected columns of a range of time, outer-joined on the start of the window.

    Nothing is cached: what is returned depends on the arguments and the files alone.

    Args:
        root: A folder with protocol folders, archives, or both, at any depth.
        selection: The parsed query.
        interval: Rows whose window starts in it are read.
        window_slide: Which files: `w01h-s10m`, `w10m-s01m`, `w10m-s10m` or any other of that form.
        zero_fill: Features whose empty cells mean "no event" and become 0. Absent rows stay missing all the same.

    Raises:
        DataError: No such folder, protocol, column or data; or a cell that is not a number.
    """
    window_seconds, slide_seconds = parse_window_slide(window_slide)
    zeros = set(zero_fill)
    if unknown := zeros - {feature.name for feature in selection.features}:
        raise DataError(f"zero_fill: no feature {', '.join(sorted(unknown))} in the selection")
    sources = _index(root, window_slide)
    days = set(interval.days())
    parts: list[_Rows] = []
    for protocol in selection.protocols():
        if protocol not in sources:
            raise DataError(
                f"no protocol {protocol} with {window_slide} in {root}; there are {', '.join(sorted(sources)) or 'none'}"
            )
        chosen = [source for source in sources[protocol] if source.day in days]
        if not chosen:
            first, last = min(s.day for s in sources[protocol]), max(s.day for s in sources[protocol])
            raise DataError(f"no {protocol} data in {interval}; there is data from {first} to {last}")
        features = selection.of(protocol)
        parts.append(
            _read_protocol(chosen, features, interval, (window_seconds, slide_seconds), protocol in selection.checked_ends)
        )
    return _join(parts, selection, (window_seconds, slide_seconds), zeros)


def _join(parts: list[_Rows], selection: Selection, grid: tuple[int, int], zeros: set[str]) -> Series:
    times = np.unique(np.concatenate([part.times for part in parts]))
    values = np.full((len(times), len(selection.features)), np.nan)
    zero_filled = {}
    for protocol, part in zip(selection.protocols(), parts, strict=True):
        rows = np.searchsorted(times, part.times)
        for index, feature in enumerate(selection.of(protocol)):
            column = part.values[:, index]
            if feature.name in zeros:
                zero_filled[feature.name] = int(np.isnan(column).sum())
                column = np.nan_to_num(column, nan=0.0)
            values[rows, selection.features.index(feature)] = column / feature.divisor
    report = DataReport(
        files=sum(part.files for part in parts),
        rows=sum(part.rows for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        contradictions=sum(part.contradictions for part in parts),
        off_grid=sum(part.off_grid for part in parts),
        zero_filled=zero_filled,
    )
    return make_series(
        times,
        values,
        selection.features,
        window_seconds=grid[0],
        slide_seconds=grid[1],
        report=report,
        repeated=np.concatenate([part.repeated for part in parts]),
    )


def list_columns(root: Path, window_slide: str = "w01h-s10m") -> dict[str, list[str]]:
    """List the columns of numbers by protocol, both in order.

    Raises:
        DataError: No such folder, nothing in it, or a file that can't be read.
    """
    sources = _index(root, window_slide)
    if not sources:
        raise DataError(f"no files of {window_slide} in {root}")
    found = {}
    for protocol, files in sorted(sources.items()):
        columns = dict.fromkeys(column for source in files for column in _read_table(source).columns)
        found[protocol] = [column for column in columns if column not in JOIN_COLUMNS]
    return found


def _index(root: Path, window_slide: str) -> dict[str, list[_Source]]:
    """Find all files of one window and slide, by protocol, in order of day and name."""
    if not root.is_dir():
        raise DataError(f"no datapool folder {root}")
    found: defaultdict[str, list[_Source]] = defaultdict(list)
    candidates = [(path, "", path.as_posix()) for path in root.rglob(f"{window_slide}.tsv")]
    for path in root.rglob("*.zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                candidates += [(path, member, member) for member in archive.namelist()]
        except zipfile.BadZipFile as error:
            raise DataError(f"{path.name}: not a zip archive") from error
    for path, member, name in candidates:
        match = _MEMBER.fullmatch(name)
        if match and match[5] == window_slide:
            day = np.datetime64(f"{match[2]}-{match[3]}-{match[4]}", "D")
            found[match[1]].append(_Source(path=path, member=member, day=day))
    return {protocol: sorted(files, key=lambda s: (s.day, str(s.path), s.member)) for protocol, files in found.items()}


def _read_protocol(
    sources: list[_Source], features: list[Feature], interval: Interval, grid: tuple[int, int], check_ends: bool
) -> _Rows:
    """Read the files of one protocol. A column that only some days have is missing on the others."""
    tables = [_read_table(source) for source in sources]
    known = list(dict.fromkeys(column for table in tables for column in table.columns))
    require_columns([feature.column for feature in features], known, features[0].protocol)
    all_times, all_values, all_fitting = [], [], []
    for source, table in zip(sources, tables, strict=True):
        require_columns(["window_start"], list(table.columns), str(source))
        times = parse_times(table["window_start"], str(source))
        columns = [
            parse_numbers(table[feature.column], f"{source} {feature.column}")
            if feature.column in table.columns
            else np.full(len(times), np.nan)
            for feature in features
        ]
        all_times.append(times)
        all_values.append(np.stack(columns, axis=1))
        all_fitting.append(_fitting(table, times, str(source), grid, check_ends))
    times, values, fitting = np.concatenate(all_times), np.concatenate(all_values), np.concatenate(all_fitting)
    inside = interval.contains(times)
    distinct = order_rows(times[fitting & inside], values[fitting & inside])
    return _Rows(
        times=distinct.times,
        values=distinct.values,
        files=len(sources),
        rows=int(inside.sum()),
        duplicates=distinct.duplicates,
        contradictions=distinct.contradictions,
        off_grid=int((inside & ~fitting).sum()),
        repeated=distinct.repeated,
    )


def _fitting(table: pd.DataFrame, times: DateTimes, where: str, grid: tuple[int, int], check_ends: bool) -> NDArray[np.bool_]:
    """Tell which rows lie on the grid and, where asked for, end one window after they start."""
    window_seconds, slide_seconds = grid
    fitting = on_grid(times, slide_seconds)
    if check_ends:
        require_columns(["window_end"], list(table.columns), where)
        ends = parse_times(table["window_end"], where)
        fitting &= (ends - times) == np.timedelta64(window_seconds, "s")
    return fitting


def _read_table(source: _Source) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(source.read()), sep="\t", dtype=str, keep_default_na=False)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{source}: cannot be read as a table") from error
