"""Replays recorded logs, as fast as possible or at a given speed, with the same windows, verdicts and alerts as live."""

import heapq
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features import PROTOCOLS, Record
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.sources.reader import LogReader, with_write_times
from mods_grpc.ids.sources.rotation import FileIdentity, LogFile, classify, find_logs, read_head
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowBatch


class MergedReader:
    """Merges several logs or folders, in the order in which their lines were written.

    Args:
        readers: The readers to merge.
    """

    def __init__(self, readers: Sequence[LogReader]) -> None:
        self._readers = readers

    def poll(self) -> Iterator[Record]:
        """Yield all records."""
        if len(self._readers) == 1:
            return self._readers[0].poll()
        streams = [with_write_times(iter(reader.poll()), lambda record: record.logged_ns) for reader in self._readers]
        return (record for _, record in heapq.merge(*streams, key=lambda timed: timed[0]))


class ReplayProgress:
    """Progress of reading recorded logs, in bytes of text.

    Attributes:
        total: Bytes of all logs.

    Args:
        paths: Files and folders.
        readers: The reader of each.
    """

    def __init__(self, paths: Sequence[Path], readers: Sequence[LogReader]) -> None:
        self._readers = readers
        self._offsets: list[dict[FileIdentity, int]] = []
        self.total = 0
        for path in paths:
            offsets: dict[FileIdentity, int] = {}
            for files in _files_by_stream(path).values():
                offset = 0
                for file in files:
                    offsets[FileIdentity.of(read_head(file.path))] = offset
                    offset += _text_bytes(file.path)
                self.total += offset
            self._offsets.append(offsets)

    def __call__(self) -> int:
        """Return the number of bytes read so far."""
        done = 0
        for reader, offsets in zip(self._readers, self._offsets, strict=True):
            done += sum(offsets.get(place.identity, 0) + place.offset for place in reader.position().files.values())
        return min(done, self.total)


def replay(
    batches: Iterable[list[WindowBatch]],
    pipeline: WatchPipeline,
    stop: Event,
    *,
    speed: float | None = None,
    facts: Callable[[], ReadFacts] | None = None,
    progress: Callable[[], None] | None = None,
) -> None:
    """Score recorded windows and raise their alerts.

    Args:
        batches: Lists of batches; an empty list only updates the progress.
        pipeline: Processes them.
        stop: Ends the replay when set.
        speed: How many times as fast as it happened; None for as fast as possible.
        facts: Returns what was read so far; None where windows are read in place of logs.
        progress: Called after each list.

    Raises:
        ModsError: The server ended the stream for good.
        OSError: An alert can't be written.
    """
    started_at, first_ns = time.monotonic(), None
    for group in batches:
        if speed is not None and group:
            first_ns = group[0].start_ns if first_ns is None else first_ns
            due = started_at + (group[-1].start_ns - first_ns) / NANOS_PER_SECOND / speed
            stop.wait(max(0.0, due - time.monotonic()))
        if stop.is_set():
            return
        pipeline.feed(group)
        pipeline.process()
        if group:
            pipeline.check(group[-1].start_ns, None if facts is None else facts())
            pipeline.process()
        if progress is not None:
            progress()


def read_windows(feed: WindowFeed) -> Iterator[list[WindowBatch]]:
    """Yield the windows of a recorded log until its end."""
    yield from feed.poll()
    yield from feed.flush()


def _files_by_stream(path: Path) -> dict[str, list[LogFile]]:
    if path.is_dir():
        return find_logs(path, PROTOCOLS, recursive=True)
    file = classify(path, PROTOCOLS, explicit=True)
    return {file.log: [file]} if file is not None else {}


def _text_bytes(path: Path) -> int:
    """Return the size of a file's text; for gzip the one in its trailer, which is modulo 4 GiB."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.stat().st_size
        file.seek(-4, 2)
        return int(struct.unpack("<I", file.read(4))[0])
