"""Writes rows of windows as the datapool that training reads."""

import fcntl
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import Self

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.atomic_file import errors_named, sync_folder
from mods_grpc.data.datapool_layout import JOIN_COLUMNS, day_file, format_window_slide, series_folder, unfinished_folders
from mods_grpc.errors import DataError
from mods_grpc.features import AggregateRow
from mods_grpc.features.definitions import ADDITIVE_KINDS, FEATURES, Definition, Feature, Kind

BUFFERED_CHARACTERS = 64 << 20
MISSING = '""'
_REAL_KINDS = frozenset({Kind.MEAN, Kind.BALANCE})  # others are whole numbers
_WHOLE_TEXTS: Mapping[float, str] = {float(number): str(number) for number in range(4_096)}  # of nearly all cells, for speed
_NO_TEXTS: Mapping[float, str] = {}
_MAX_SYNCED_FILES = 1_000  # more are synced with the whole file system


@dataclass(frozen=True, slots=True)
class _Table:
    """The tables of one window and slide: their name, by protocol the columns and the keys with the texts of whole numbers."""

    window_slide: str
    offset_ns: int
    window_ns: int
    columns: Mapping[str, Sequence[str]]
    keys: Mapping[str, Sequence[tuple[str, Mapping[float, str]]]]


class DatapoolWriter:
    """Writes rows as they come, through a buffer of at most `BUFFERED_CHARACTERS`.

    Until `close` they go to a hidden folder, which is removed if the block ends without it. So a datapool is whole or not there;
    what a killed process left is removed by the next writer.

    Attributes:
        rows: Rows written so far.
        files: Paths of the files that exist, the buffered ones not included.
        leftover: The hidden folder, if a killed process had left one there; else None.

    Args:
        root: A new or empty folder.
        window_seconds: Length of the windows.
        slide_seconds: Their slide.
        definition: Columns to write, in the order of `FEATURES`, whatever their order in the definition.
        by_series: Whether each series has its own folder.
        with_panes: Whether to write the panes of the rows too, as tables of windows of one slide, such as `w10m-s10m.tsv`.

    Raises:
        DataError: The folder is not empty, or another process writes it.
        OSError: It can't be created.
    """

    def __init__(
        self,
        root: Path,
        window_seconds: int,
        slide_seconds: int,
        definition: Definition,
        *,
        by_series: bool,
        with_panes: bool = False,
    ) -> None:
        self.rows = 0
        self.files: set[Path] = set()
        self.leftover: Path | None = None
        self._by_series = by_series
        chosen = set(definition.features)
        features = [feature for feature in FEATURES if feature in chosen]
        self._protocols = {feature.protocol for feature in features}
        self._windows = _make_table(window_seconds, slide_seconds, 0, features)
        self._panes: _Table | None = None
        if with_panes:
            additive = [feature for feature in features if feature.measure.kind in ADDITIVE_KINDS]
            self._panes = _make_table(slide_seconds, slide_seconds, window_seconds - slide_seconds, additive)
        self._buffers: defaultdict[Path, list[str]] = defaultdict(list)
        self._columns: dict[Path, Sequence[str]] = {}  # of the files of the rows in the buffers
        self._paths: dict[tuple[str, date, bool], dict[str, Path]] = {}  # of these rows, by series, day, and whether of panes
        self._buffered = 0
        self._final = root.resolve()
        beside, inside = unfinished_folders(root)
        # a folder that is there may be a mount, the current folder, or one that can't be made again
        self._root, other = (inside, beside) if self._final.is_dir() else (beside, inside)
        if self._final.exists() and any(path != inside for path in self._final.iterdir()):
            raise DataError(f"{root} is not empty; give a new folder")
        if other.is_dir():
            os.close(self._claim(other))
            other.rmdir()
        self._lock = self._claim(self._root)

    def _claim(self, folder: Path) -> int:
        """Lock a hidden folder, created if needed; remove what a killed process left in it."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            self.leftover = folder
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DataError(f"{self._final}: another process is writing this datapool") from None
        for path in folder.iterdir():
            shutil.rmtree(path)
        return lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._lock >= 0:
            shutil.rmtree(self._root, ignore_errors=True)
            self._unlock()

    def _unlock(self) -> None:
        os.close(self._lock)
        self._lock = -1

    def write(self, row: AggregateRow) -> None:
        """Write a window's row to the file of each protocol, and its panes to those of panes."""
        self._write(self._windows, row.series, row.start_ns, row.values)
        if self._panes is not None:
            self._write(self._panes, row.series, row.start_ns, row.panes)
        self.rows += 1
        if self._buffered > BUFFERED_CHARACTERS:
            self.flush()

    def _write(self, table: _Table, series: str, start_ns: int, values: Mapping[str, float]) -> None:
        start_ns += table.offset_ns
        start, end = (datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC) for ns in (start_ns, start_ns + table.window_ns))
        times = f"{start:%Y-%m-%dT%H:%M:%S}.000Z\t{end:%Y-%m-%dT%H:%M:%S}.000Z"
        day = series, start.date(), table is self._panes
        if (paths := self._paths.get(day)) is None:
            root = self._root / series_folder(series) if self._by_series else self._root
            paths = {protocol: day_file(root, protocol, start, table.window_slide) for protocol in table.keys}
            self._paths[day] = paths
            self._columns |= {path: table.columns[protocol] for protocol, path in paths.items()}
        for protocol, keys in table.keys.items():
            cells = "\t".join([texts.get(values[key]) or _cell(values[key], texts) for key, texts in keys])
            self._buffers[paths[protocol]].append(f"{times}\t{cells}\n")
            self._buffered += len(cells) + len(times)

    def flush(self) -> None:
        """Write the buffer to the files."""
        for path, lines in self._buffers.items():
            if path not in self.files:
                path.parent.mkdir(parents=True, exist_ok=True)
                lines.insert(0, "\t".join((*JOIN_COLUMNS, *self._columns[path])) + "\n")
                self.files.add(path)
            with errors_named(path), path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        self._buffers.clear()
        self._paths.clear()
        self._columns.clear()
        self._buffered = 0

    def close(self, seen_protocols: Collection[str]) -> None:
        """Flush, and give the folder its name. Protocols without any record have no files: they were not monitored, so not zero.

        Raises:
            OSError: The files can't be written or synced to disk, or the folder can't be renamed.
        """
        self.flush()
        for protocol in self._protocols - set(seen_protocols):
            for folder in self._root.glob(f"*/{protocol}" if self._by_series else protocol):
                shutil.rmtree(folder)
            self.files = {path for path in self.files if path.parts[-5] != protocol}
        self._sync()
        if self._root.parent == self._final:
            for path in self._root.iterdir():
                path.rename(self._final / path.name)
            self._root.rmdir()
        else:
            self._root.rename(self._final)
        self.files = {self._final / path.relative_to(self._root) for path in self.files}
        sync_folder(self._final)
        sync_folder(self._final.parent)
        self._unlock()

    def _sync(self) -> None:
        """Sync the files and folders to disk."""
        if len(self.files) > _MAX_SYNCED_FILES:
            os.sync()
            return
        for path in self.files:
            with errors_named(path), path.open("rb") as file:
                os.fsync(file.fileno())
        for folder in {folder for path in self.files for folder in path.parents if folder.is_relative_to(self._root)} | {
            self._root
        }:
            sync_folder(folder)


def _make_table(window_seconds: int, slide_seconds: int, offset_seconds: int, features: Sequence[Feature]) -> _Table:
    """Make the tables of features, of windows that start `offset_seconds` after the rows."""
    by_protocol: defaultdict[str, list[Feature]] = defaultdict(list)
    for feature in features:
        by_protocol[feature.protocol].append(feature)
    return _Table(
        window_slide=format_window_slide(window_seconds, slide_seconds),
        offset_ns=offset_seconds * NANOS_PER_SECOND,
        window_ns=window_seconds * NANOS_PER_SECOND,
        columns={protocol: [feature.column for feature in of_one] for protocol, of_one in by_protocol.items()},
        keys={
            protocol: [(feature.key, _NO_TEXTS if feature.measure.kind in _REAL_KINDS else _WHOLE_TEXTS) for feature in of_one]
            for protocol, of_one in by_protocol.items()
        },
    )


def _cell(value: float, texts: Mapping[float, str]) -> str:
    if isnan(value):
        return MISSING
    return str(int(value)) if texts and value.is_integer() else repr(value)
