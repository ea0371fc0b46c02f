"""The datapool of MODS as a series: one file per protocol and day, as loose files or in zip archives."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mods_grpc.array_types import Bools, Floats
from mods_grpc.data.datapool_layout import (
    DEFAULT_WINDOW_SLIDE,
    JOIN_COLUMNS,
    WINDOW_END,
    WINDOW_START,
    DatapoolFile,
    find_unfinished,
    format_window_slide,
    parse_path,
    parse_window_slide,
)
from mods_grpc.data.distinct_rows import merge_duplicates
from mods_grpc.data.tables import TextTable
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError
from training.data.feature import FeatureColumn
from training.data.query import Query
from training.data.series import DataReport, Series, make_series
from training.data.time_range import DateTimes, Interval, is_on_grid, to_whole_seconds

MAX_FILE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class _DayFile:
    """A file of the pool: a path, or an archive and the name of its member (empty for a loose file)."""

    path: Path
    member: str
    day: np.datetime64

    def read(self) -> TextTable:
        """Read the table.

        Raises:
            DataError: It can't be read, is malformed or too large.
        """
        try:
            data = self._read_bytes()
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self}: cannot be read as a table") from error
        return TextTable.read(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline=""), str(self))

    def _read_bytes(self) -> bytes:
        if not self.member:
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            if archive.getinfo(self.member).file_size > MAX_FILE_BYTES:
                raise DataError(f"{self}: above {MAX_FILE_BYTES} bytes")
            return archive.read(self.member)

    def __str__(self) -> str:
        return f"{self.path.name}:{self.member}" if self.member else "/".join(self.path.parts[-5:])


@dataclass(frozen=True, kw_only=True, slots=True)
class _ProtocolRows:
    """The rows of one protocol: values `(rows, features)`, and counts for the report."""

    times: DateTimes
    values: Floats
    files: int
    rows: int
    duplicates: int
    contradictions: int
    off_grid: int
    repeated: DateTimes


def read_datapool(
    root: Path, query: Query, interval: Interval, *, window_slide: str = "", zero_fill: Iterable[str] = ()
) -> Series:
    """Read the columns of a query in a range of time, outer-joined on the start of the window.

    Nothing is cached: the result depends on the arguments and the files alone.

    Args:
        root: A folder with protocol folders, archives, or both, at any depth.
        query: The parsed query.
        interval: Rows whose window starts in it are read.
        window_slide: Which files to read, such as `w01h-s10m` or `w10m-s01m`; empty where all are of one window and slide.
        zero_fill: Features whose empty cells mean "no event" and become 0. Absent rows stay missing.

    Raises:
        DataError: No such folder, protocol, column or data; or a malformed file.
    """
    window_slide = window_slide or _find_window_slide(root)
    window_seconds, slide_seconds = parse_window_slide(window_slide)
    zeros = set(zero_fill)
    if unknown := zeros - {feature.name for feature in query.features}:
        raise DataError(f"zero_fill: no feature {', '.join(sorted(unknown))} in the query")
    sources = _find_files(root, window_slide)
    days = set(interval.days())
    parts: list[_ProtocolRows] = []
    for protocol in query.protocols():
        if protocol not in sources:
            available = ", ".join(sorted(sources)) or _name_other_slides(root)
            again = "--data-select-query chooses other columns; a table that is older than a column lacks it: aggregate again"
            other = again if sources else "--window-slide chooses another"
            raise DataError(f"no protocol {protocol} with {window_slide} in {root}; there are {available}; {other}")
        selected = [source for source in sources[protocol] if source.day in days]
        if not selected:
            first, last = min(s.day for s in sources[protocol]), max(s.day for s in sources[protocol])
            raise DataError(f"no {protocol} data in {interval}; there is data from {first} to {last}")
        features = query.features_of(protocol)
        parts.append(
            _read_protocol(selected, features, interval, (window_seconds, slide_seconds), protocol in query.checked_ends)
        )
    return _join_protocols(parts, query, (window_seconds, slide_seconds), zeros)


def read_pane_tables(root: Path, query: Query, series: Series, *, zero_fill: Iterable[str] = ()) -> Series | None:
    """Read columns of a query in windows of one slide, from the tables beside those of a series, a day more at both ends.

    Args:
        root: The folder of the datapool that the series is from.
        query: The query that the series was read with.
        series: The series as read.
        zero_fill: As for `read_datapool`.

    Returns:
        The additive features of protocols that have such tables; None if there are none.

    Raises:
        DataError: As `read_datapool`.
    """
    window_slide = format_window_slide(series.slide_seconds, series.slide_seconds)
    available = _find_files(root, window_slide)
    features = tuple(feature for feature in query.features if feature.is_additive and feature.protocol in available)
    if not features or series.window_seconds == series.slide_seconds:
        return None
    day = np.timedelta64(DAY_SECONDS, "s")
    end = series.times[-1] + np.timedelta64(series.window_seconds, "s") + day
    return read_datapool(
        root,
        replace(query, features=features),
        Interval(start=series.times[0] - day, end=end),
        window_slide=window_slide,
        zero_fill=set(zero_fill) & {feature.name for feature in features},
    )


def _join_protocols(parts: list[_ProtocolRows], query: Query, grid: tuple[int, int], zeros: set[str]) -> Series:
    times = np.unique(np.concatenate([part.times for part in parts]))
    values = np.full((len(times), len(query.features)), np.nan)
    zero_filled = {}
    for protocol, part in zip(query.protocols(), parts, strict=True):
        rows = np.searchsorted(times, part.times)
        for index, feature in enumerate(query.features_of(protocol)):
            column = part.values[:, index]
            if feature.name in zeros:
                zero_filled[feature.name] = int(np.isnan(column).sum())
                column = np.nan_to_num(column, nan=0.0)
            values[rows, query.features.index(feature)] = column / feature.divisor
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
        query.features,
        window_seconds=grid[0],
        slide_seconds=grid[1],
        report=report,
        repeated=np.concatenate([part.repeated for part in parts]),
    )


def list_columns(root: Path, window_slide: str = "", *, newest: bool = False) -> dict[str, list[str]]:
    """List the columns of values by protocol, both in order.

    Args:
        root: The folder of the datapool, or of several in folders.
        window_slide: As for `read_datapool`.
        newest: Whether to read the newest file of each protocol alone.

    Raises:
        DataError: No such folder, nothing in it, or a file that can't be read.
    """
    window_slide = window_slide or _find_window_slide(root)
    sources = _find_files(root, window_slide)
    if not sources:
        raise DataError(f"no files of {window_slide} in {root}; there are {_name_other_slides(root)}")
    by_protocol = {}
    for protocol, files in sorted(sources.items()):
        columns = dict.fromkeys(column for file in (files[-1:] if newest else files) for column in file.read().header)
        by_protocol[protocol] = [column for column in columns if column not in JOIN_COLUMNS]
    return by_protocol


def _find_window_slide(root: Path) -> str:
    """Return the window and slide of a datapool's files, such as `w01h-s10m`.

    Raises:
        DataError: No such folder, no files, or files of several.
    """
    names = sorted(_find_window_slides(root))
    if len(names) == 2:
        names = _leave_out_panes(names)
    if not names:
        example = f"conn/2026/01/05/{DEFAULT_WINDOW_SLIDE}.tsv"
        missing = f"no files such as {example} in {root}; give the folder that `mods-grpc aggregate` wrote"
        raise DataError(_describe_missing(root, missing))
    if len(names) > 1:
        raise DataError(f"{root} holds files of {', '.join(names)}; choose one with --window-slide")
    return names[0]


def _leave_out_panes(names: list[str]) -> list[str]:
    """Leave out the one of two that holds the panes of the other: windows as long as the other's slide."""
    grids = {name: parse_window_slide(name) for name in names}
    slides = [slide for window, slide in grids.values() if window > slide]
    return [name for name, (window, slide) in grids.items() if [window] != slides or window != slide]


def _find_window_slides(root: Path) -> set[str]:
    return {file.window_slide for _, _, file in _list_files(root)}


def _name_other_slides(root: Path) -> str:
    slides = sorted(_find_window_slides(root))
    return f"none, but files of {', '.join(slides)}" if slides else "none"


def _describe_missing(root: Path, message: str) -> str:
    """Return why a datapool is not there, or `message`."""
    if (unfinished := find_unfinished(root)) is None:
        return message
    return f"{root} is not whole, only {unfinished} is there; wait for the `mods-grpc aggregate` that writes it, or run it again"


def _list_files(root: Path) -> Iterator[tuple[Path, str, DatapoolFile]]:
    """Yield the files of a datapool: path, member of an archive (empty for a loose file), and what its name says."""
    if not root.is_dir():
        raise DataError(_describe_missing(root, f"no datapool folder {root}"))
    candidates = [(path, "", path.as_posix()) for path in root.rglob("*.tsv")]
    for path in root.rglob("*.zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                candidates += [(path, member, member) for member in archive.namelist()]
        except zipfile.BadZipFile as error:
            raise DataError(f"{path.name}: not a zip archive") from error
    for path, member, name in candidates:
        if (file := parse_path(name)) is not None:
            yield path, member, file


def _find_files(root: Path, window_slide: str) -> dict[str, list[_DayFile]]:
    """Find all files of one window and slide, by protocol, in order of day and name."""
    by_protocol: defaultdict[str, list[_DayFile]] = defaultdict(list)
    for path, member, file in _list_files(root):
        if file.window_slide == window_slide:
            by_protocol[file.protocol].append(_DayFile(path=path, member=member, day=np.datetime64(file.day, "D")))
    return {protocol: sorted(files, key=lambda f: (f.day, str(f.path), f.member)) for protocol, files in by_protocol.items()}


def _read_protocol(
    files: list[_DayFile], features: list[FeatureColumn], interval: Interval, grid: tuple[int, int], check_ends: bool
) -> _ProtocolRows:
    """Read the files of one protocol. A column that only some days have is missing on the others."""
    tables = [file.read() for file in files]
    available = list(dict.fromkeys(column for table in tables for column in table.header))
    if absent := [feature.column for feature in features if feature.column not in available]:
        raise DataError(f"{features[0].protocol}: no column {', '.join(absent)}; there are {', '.join(available)}")
    all_times, all_values, all_on_grid = [], [], []
    for table in tables:
        times = to_whole_seconds(table.times(WINDOW_START), table.name)
        columns = [
            table.numbers(feature.column) if feature.column in table.header else np.full(len(times), np.nan)
            for feature in features
        ]
        all_times.append(times)
        all_values.append(np.stack(columns, axis=1))
        all_on_grid.append(_rows_on_grid(table, times, grid, check_ends))
    times, values, on_grid = np.concatenate(all_times), np.concatenate(all_values), np.concatenate(all_on_grid)
    inside = interval.contains(times)
    distinct = merge_duplicates(times[on_grid & inside].astype(np.int64), values[on_grid & inside])
    return _ProtocolRows(
        times=distinct.times.astype("datetime64[s]"),
        values=distinct.values,
        files=len(files),
        rows=int(inside.sum()),
        duplicates=distinct.duplicates,
        contradictions=distinct.contradictions,
        off_grid=int((inside & ~on_grid).sum()),
        repeated=distinct.repeated.astype("datetime64[s]"),
    )


def _rows_on_grid(table: TextTable, times: DateTimes, grid: tuple[int, int], check_ends: bool) -> Bools:
    """Return which rows start on the grid and, if `check_ends`, end one window after their start."""
    window_seconds, slide_seconds = grid
    on_grid = is_on_grid(times, slide_seconds)
    if check_ends:
        ends = to_whole_seconds(table.times(WINDOW_END), table.name)
        on_grid &= (ends - times) == np.timedelta64(window_seconds, "s")
    return on_grid
