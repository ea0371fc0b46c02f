"""Rows of windows written as the datapool that training reads: `protocol/YYYY/MM/DD/w01h-s10m.tsv`.

Where there are several series, each has a folder of its own with a datapool in it, named by the series with what a
file name can't hold percent-encoded: `10.1.2.0%2F24/conn/2026/01/05/w01h-s10m.tsv`. So any of them is read by naming its
folder.
"""

import shutil
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from hashlib import blake2b
from math import isnan
from pathlib import Path
from urllib.parse import quote

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features import FEATURES, AggregateRow, Feature, Kind, header

BUFFERED_CHARACTERS = 64 << 20
MISSING = '""'
_NAME_CHARACTERS = 120
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def window_slide(window_seconds: int, slide_seconds: int) -> str:
    """Return the name of the files of a window and slide: `w01h-s10m`."""
    return f"w{_span(window_seconds)}-s{_span(slide_seconds)}"


def _span(seconds: int) -> str:
    unit, length = next((unit, length) for unit, length in _UNITS if seconds % length == 0)
    return f"{seconds // length:02d}{unit}"


def folder_name(series: str) -> str:
    """Return a name that any file system takes, different for different series."""
    name = quote(series, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _NAME_CHARACTERS:
        name = name[: _NAME_CHARACTERS - 17] + "~" + blake2b(series.encode(), digest_size=8).hexdigest()
    return name


class DatapoolWriter:
    """Writes rows as they come; what is buffered is bounded.

    Args:
        root: A new or empty folder.
        window_seconds: Length of the windows.
        slide_seconds: Their slide.
        protocols: Protocols to write.
        by_series: Whether each series has its own folder.

    Raises:
        DataError: The folder holds something, or can't be made.
    """

    def __init__(
        self, root: Path, window_seconds: int, slide_seconds: int, protocols: Collection[str], *, by_series: bool
    ) -> None:
        self.rows = 0
        self.files: set[Path] = set()
        self._root = root
        self._window_ns = window_seconds * NANOS_PER_SECOND
        self._name = window_slide(window_seconds, slide_seconds) + ".tsv"
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
        """Write a row of every protocol."""
        start, end = (
            datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC) for ns in (row.start_ns, row.start_ns + self._window_ns)
        )
        times = f"{start:%Y-%m-%dT%H:%M:%S}.000Z\t{end:%Y-%m-%dT%H:%M:%S}.000Z"
        root = self._root / folder_name(row.series) if self._by_series else self._root
        for protocol, features in self._features.items():
            cells = "\t".join(_cell(row.values[feature.key], feature) for feature in features)
            path = root / protocol / f"{start:%Y/%m/%d}" / self._name
            self._buffers[path].append(f"{times}\t{cells}\n")
            self._buffered += len(cells) + len(times)
        self.rows += 1
        if self._buffered > BUFFERED_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        for path, lines in self._buffers.items():
            if path not in self.files:
                path.parent.mkdir(parents=True, exist_ok=True)
                lines.insert(0, "\t".join(header(path.parts[-5])) + "\n")
                self.files.add(path)
            with path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        self._buffers.clear()
        self._buffered = 0

    def close(self, seen: Collection[str]) -> None:
        """Write the rest, and remove the protocols of which there was no record: they were not watched, so not zero."""
        self.flush()
        for protocol in self._features.keys() - set(seen):
            for folder in self._root.glob(f"*/{protocol}" if self._by_series else protocol):
                shutil.rmtree(folder)
            self.files = {path for path in self.files if path.parts[-5] != protocol}


def _cell(value: float, feature: Feature) -> str:
    if isnan(value):
        return MISSING
    return repr(value) if feature.measure.kind is Kind.MEAN else str(int(value))
