"""Writes rows of windows as the datapool that training reads."""

import shutil
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from math import isnan
from pathlib import Path

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.datapool_layout import JOIN_COLUMNS, day_file, format_window_slide, series_folder
from mods_grpc.errors import DataError
from mods_grpc.features import AggregateRow
from mods_grpc.features.definitions import FEATURES, Feature, Kind

BUFFERED_CHARACTERS = 64 << 20
MISSING = '""'


class DatapoolWriter:
    """Writes rows as they come, through a buffer of at most `BUFFERED_CHARACTERS`.

    Attributes:
        rows: Rows written so far.
        files: Paths of the files that exist, the buffered ones not included.

    Args:
        root: A new or empty folder.
        window_seconds: Length of the windows.
        slide_seconds: Their slide.
        protocols: Protocols to write.
        by_series: Whether each series has its own folder.

    Raises:
        DataError: The folder is not empty.
        OSError: It can't be created.
    """

    def __init__(
        self, root: Path, window_seconds: int, slide_seconds: int, protocols: Collection[str], *, by_series: bool
    ) -> None:
        self.rows = 0
        self.files: set[Path] = set()
        self._root = root
        self._window_ns = window_seconds * NANOS_PER_SECOND
        self._window_slide = format_window_slide(window_seconds, slide_seconds)
        self._by_series = by_series
        self._features: dict[str, list[Feature]] = {protocol: [] for protocol in protocols}
        for feature in FEATURES:
            if feature.protocol in self._features:
                self._features[feature.protocol].append(feature)
        self._buffers: defaultdict[Path, list[str]] = defaultdict(list)
        self._buffered = 0
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise DataError(f"{root} is not empty; give a new folder")

    def write(self, row: AggregateRow) -> None:
        """Write a window's row to the file of each protocol."""
        start, end = (
            datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC) for ns in (row.start_ns, row.start_ns + self._window_ns)
        )
        times = f"{start:%Y-%m-%dT%H:%M:%S}.000Z\t{end:%Y-%m-%dT%H:%M:%S}.000Z"
        root = self._root / series_folder(row.series) if self._by_series else self._root
        for protocol, features in self._features.items():
            cells = "\t".join(_cell(row.values[feature.key], feature) for feature in features)
            path = day_file(root, protocol, start, self._window_slide)
            self._buffers[path].append(f"{times}\t{cells}\n")
            self._buffered += len(cells) + len(times)
        self.rows += 1
        if self._buffered > BUFFERED_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write the buffer to the files."""
        for path, lines in self._buffers.items():
            if path not in self.files:
                path.parent.mkdir(parents=True, exist_ok=True)
                columns = (*JOIN_COLUMNS, *(feature.column for feature in self._features[path.parts[-5]]))
                lines.insert(0, "\t".join(columns) + "\n")
                self.files.add(path)
            with path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        self._buffers.clear()
        self._buffered = 0

    def close(self, seen_protocols: Collection[str]) -> None:
        """Flush, and remove the files of protocols without any record: they were not monitored, so they are not zero."""
        self.flush()
        for protocol in self._features.keys() - set(seen_protocols):
            for folder in self._root.glob(f"*/{protocol}" if self._by_series else protocol):
                shutil.rmtree(folder)
            self.files = {path for path in self.files if path.parts[-5] != protocol}


def _cell(value: float, feature: Feature) -> str:
    if isnan(value):
        return MISSING
    return repr(value) if feature.measure.kind is Kind.MEAN else str(int(value))
