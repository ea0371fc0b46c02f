"""The main loop of a watch: read, save, process, wait."""

import logging
import time
from collections.abc import Callable, Iterator
from threading import Event

from mods_grpc.ids.sources.reader import SourceUnreachableError
from mods_grpc.ids.watch.checkpoint import CheckpointWriter
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowBatch

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
SAVE_INTERVAL_SECONDS = 10.0  # while records come
SAVE_IDLE_SECONDS = 60.0  # while none comes: a watch that is restarted meanwhile goes on to count for how long
MAX_PENDING = 64


def run_loop(
    feed: WindowFeed,
    pipeline: WatchPipeline,
    writer: CheckpointWriter,
    stop: Event,
    *,
    while_reading: Callable[[], None] = lambda: None,
    after_poll: Callable[[], None] = lambda: None,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Follow a live source until `stop` is set.

    Args:
        feed: Yields the windows of the source.
        pipeline: Processes them.
        writer: Saves the state of both.
        stop: Set by another thread or a signal handler.
        while_reading: Called at every poll, and after every `RECORDS_PER_YIELD` records of a long one.
        after_poll: Called when all that is there was read; may queue notices.
        poll_seconds: Pause between two polls of the source.

    Raises:
        ModsError: The server ended the stream for good.
        OSError: No alert can be written any more.
    """
    saved_records, saved_at = feed.records, time.monotonic()
    is_missing = False

    def poll_source() -> Iterator[list[WindowBatch]]:
        nonlocal is_missing
        try:
            yield from feed.poll()
            is_missing = False
        except (FileNotFoundError, SourceUnreachableError) as error:  # of the source alone
            if not is_missing:
                logger.warning("source_missing", extra={"path": str(error.filename), "error": error.strerror})
            is_missing = True

    def save_and_process() -> None:
        nonlocal saved_records, saved_at
        writer.save()
        saved_records, saved_at = feed.records, time.monotonic()
        pipeline.process()

    while not stop.is_set():
        for batches in poll_source():
            while_reading()
            pipeline.feed(batches)
            if pipeline.pending >= MAX_PENDING:
                save_and_process()
            if stop.is_set():
                break
        while_reading()
        after_poll()
        interval = SAVE_INTERVAL_SECONDS if feed.records != saved_records else SAVE_IDLE_SECONDS
        if pipeline.has_work or time.monotonic() - saved_at > interval:
            save_and_process()
        stop.wait(poll_seconds)
    writer.save()
