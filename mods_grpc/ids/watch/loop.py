"""The loop of a watch: read, save, judge, wait; until it is told to stop."""

import logging
import time
from threading import Event

from mods_grpc.ids.watch.pipeline import CheckpointWriter, WatchPipeline
from mods_grpc.ids.windows.feed import WindowFeed

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
SAVE_INTERVAL_SECONDS = 10.0
MAX_PENDING = 64


def run_loop(
    feed: WindowFeed, pipeline: WatchPipeline, writer: CheckpointWriter, stop: Event, *, poll_seconds: float = POLL_SECONDS
) -> None:
    """Follow a live source until `stop` is set.

    Args:
        feed: Reads it.
        watch: Judges the windows.
        saver: Saves both.
        stop: Set from another thread or a signal handler.
        poll_seconds: Wait between two looks at the source.

    Raises:
        ModsError: The server ended the stream for good.
        OSError: An alert or the checkpoint can't be written.
    """
    saved_records, saved_at = feed.records, time.monotonic()
    missing = False

    def step() -> None:
        nonlocal saved_records, saved_at
        writer.save()
        saved_records, saved_at = feed.records, time.monotonic()
        pipeline.process()

    while not stop.is_set():
        try:
            for batches in feed.poll():
                pipeline.feed(batches)
                if pipeline.pending >= MAX_PENDING:
                    step()
                if stop.is_set():
                    break
            missing = False
        except FileNotFoundError as error:
            if not missing:
                logger.warning("source_missing path=%s", error.filename)
            missing = True
        if pipeline.pending or (feed.records != saved_records and time.monotonic() - saved_at > SAVE_INTERVAL_SECONDS):
            step()
        stop.wait(poll_seconds)
    writer.save()
