"""Replays recorded logs, as fast as possible or at a given speed, with the same windows, verdicts and alerts as live."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Event

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowBatch


class ReplayProgress:
    """Progress of reading recorded logs, in bytes as they are on disk.

    Attributes:
        total: Bytes of all files.

    Args:
        reader: The reader.
    """

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.total = 0
        for file in reader.listing.files:
            with suppress(OSError):
                self.total += file.path.stat().st_size

    def __call__(self) -> int:
        """Return the number of bytes read so far."""
        return min(self._reader.bytes_read, self.total)


def replay(
    batches: Iterable[list[WindowBatch]],
    pipeline: WatchPipeline,
    stop: Event,
    *,
    speed: float | None = None,
    look: Callable[[], tuple[int, ReadFacts]] | None = None,
    progress: Callable[[], None] | None = None,
) -> None:
    """Score recorded windows and raise their alerts.

    Args:
        batches: Lists of batches; an empty list only updates the progress.
        pipeline: Processes them.
        stop: Ends the replay when set.
        speed: How many times as fast as it happened; None for as fast as possible.
        look: Returns the event time that the logs have reached, nanoseconds since 1970, and what was read so far; None where
            windows are read in place of logs.
        progress: Called after each list.

    Raises:
        ModsError: The server ended the stream for good.
        OSError: No alert can be written any more.
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
        _check(pipeline, group, look)
        if progress is not None:
            progress()
    pipeline.finish()
    _check(pipeline, [], look)


def _check(pipeline: WatchPipeline, group: list[WindowBatch], look: Callable[[], tuple[int, ReadFacts]] | None) -> None:
    """Raise and clear notices, in event time."""
    now_ns, facts = look() if look is not None else (group[-1].start_ns if group else 0, None)
    if now_ns:
        pipeline.check(now_ns, facts)
        pipeline.process()


def read_windows(feed: WindowFeed) -> Iterator[list[WindowBatch]]:
    """Yield the windows of a recorded log until its end."""
    yield from feed.poll()
    yield from feed.flush()
