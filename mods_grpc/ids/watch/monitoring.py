"""What a watch does at intervals: it collects what was read, for the notices, and tells the service manager that it is alive."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from mods_grpc.client.results import ModelInfo
from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.alerts.sinks.sink import Sink
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import ReadFacts, WatchedFeature
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.sources.log_files import LogListing
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.pipeline import AmendState, WatchPipeline, add_to_state
from mods_grpc.ids.watch.service_manager import ServiceManager
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns

CHECK_SECONDS = 10.0
MAX_ARCHIVE_FOLDERS = 32
LIVE_SUFFIXES = {".log", ".json"}  # of files that a sensor writes now


class WaitingWatch:
    """A watch that does not have its model yet, because the server can't be reached.

    Args:
        sensor: Namespace of the series.
        sink: Receives the notice that nothing is judged.
        saved: The saved state of the pipeline; None if there is none.

    Attributes:
        blindness: Raises the notice.
    """

    def __init__(self, sensor: str, sink: Sink, saved: dict[str, Any] | None) -> None:
        self._sink = sink
        self.blindness = Blindness(sensor, (), window_seconds=0.0)
        if saved is not None:
            self.blindness.restore(saved["blindness"])
            sink.recover(saved["marks"])

    def wait_for_server(self, now_ns: int, amend: AmendState) -> None:
        """Write the notice if nothing was judged for too long; as `WatchPipeline.wait_for_server`."""
        notices = self.blindness.wait_for_server(now_ns)
        if notices:
            amend(lambda saved: add_to_state(saved, notices, self.blindness))
        for notice in notices:
            self._sink.write(notice)


class Ticker:
    """Checks for notices whenever the logs were read to their end, and tells the service manager that the watch is alive.

    Args:
        pipeline: Raises and writes the notices.
        facts: Returns what was read so far.
        service: The service manager.
        retry_alerts: Tries again to write alerts that wait.
        follow: Takes up what else may have changed, such as rules and feedback; called often.

    Attributes:
        polled_at: When the logs were last read to their end, seconds since 1970; None before the first time.
    """

    def __init__(
        self,
        pipeline: WatchPipeline,
        facts: Callable[[], ReadFacts],
        service: ServiceManager,
        retry_alerts: Callable[[], None],
        follow: Callable[[], None] = lambda: None,
    ) -> None:
        self._pipeline, self._facts, self._service, self._retry_alerts = pipeline, facts, service, retry_alerts
        self._follow = follow
        self._checked_at: float | None = None
        self.polled_at: float | None = None

    def while_reading(self) -> None:
        """Say that the watch is alive; called often, also while it reads much."""
        self._service.set_alive()

    def after_poll(self) -> None:
        """Check for notices; called when all that is there was read."""
        self.polled_at = time.time()
        self._service.set_ready()
        self._follow()
        now = time.monotonic()
        if self._checked_at is None or now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._retry_alerts()
            self._pipeline.check(time.time_ns(), self._facts())
            self._service.set_status(self._format_status())

    def _format_status(self) -> str:
        counters, notices = self._pipeline.counters, self._pipeline.open_notices
        impaired = f"; monitoring is impaired: {', '.join(notice.message for notice in notices)}" if notices else ""
        return f"{counters.windows:,} windows, {counters.alerts:,} alerts{impaired}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchParts:
    """The parts of a watch that the metrics are read from.

    Attributes:
        model: The model.
        counters: Of the lines that were read.
        feed: Of the windows.
        pipeline: Of the verdicts, alerts and notices.
        undelivered: Returns the number of alerts and notices that wait for each destination.
        saved_at: Returns when the checkpoint was saved last, seconds since 1970; None before the first time.
        polled_at: Returns when the logs were last read to their end, seconds since 1970; None before the first time.
    """

    model: ModelInfo
    counters: ReadCounters
    feed: WindowFeed
    pipeline: WatchPipeline
    undelivered: Callable[[], Mapping[str, int]]
    saved_at: Callable[[], float | None]
    polled_at: Callable[[], float | None]


def watched_features(model: ModelInfo, columns: WindowColumns | None) -> tuple[WatchedFeature, ...]:
    """Return the features of a model with the protocols that they are computed from; without columns those that it names."""
    protocols = [feature.protocol for feature in model.features] if columns is None else columns.protocols
    return tuple(
        WatchedFeature(
            name=feature.name,
            protocol=protocol,
            training_minimum=feature.training_minimum,
            training_maximum=feature.training_maximum,
        )
        for feature, protocol in zip(model.features, protocols, strict=True)
    )


def collect_facts(
    counters: ReadCounters,
    feed: WindowFeed,
    unreadable: Mapping[Path, str],
    lost: Mapping[str, int],
    unwritable: Mapping[str, str] | None = None,
    gone: Mapping[Path, str] | None = None,
) -> ReadFacts:
    """Return what was read so far, and note in the feed which logs can't be read.

    Args:
        counters: Of the lines.
        feed: Of the windows.
        unreadable: By file or folder that can't be read, the error.
        lost: By log, how often records of it were lost.
        unwritable: By output that can't be written, the error; None for none.
        gone: By folder that is gone while others have the same logs, what is there instead; None for none.
    """
    dropped = feed.aggregator.counters
    feed.unreadable = protocols_of(unreadable)
    return ReadFacts(
        records_by_protocol=dict(counters.records_by_protocol),
        malformed=counters.rejected,
        late=dropped.late,
        remote=dropped.remote,
        unflagged_remote=dict(dropped.unflagged_remote),
        public_local=frozenset(dropped.public_local),
        logs=feed.logs,
        zero_logs=feed.zero_logs,
        unset=feed.unset_fields(),
        unreadable={str(path): reason for path, reason in {**(gone or {}), **unreadable}.items()},
        unreadable_protocols=feed.unreadable,
        lost=dict(lost),
        rules_over_limit=feed.rules_over_limit,
        unwritable=dict(unwritable or {}),
        reached_ns=feed.watermark.value_ns,
    )


def make_recorded_look(reader: LogReader, feed: WindowFeed) -> Callable[[], tuple[int, ReadFacts]]:
    """Return a function that returns the event time that recorded logs have reached, and what was read so far.

    A protocol of which other files can be read is not unreadable.
    """
    unreadable = {file.path: file.detail or file.reason for file in reader.listing.unreadable}
    unreadable_protocols = protocols_of(unreadable) - recorded_protocols(reader.listing)

    def look() -> tuple[int, ReadFacts]:
        facts = collect_facts(reader.counters, feed, unreadable, {})
        feed.unreadable = unreadable_protocols
        return feed.watermark.value_ns, replace(facts, unreadable_protocols=unreadable_protocols)

    return look


def recorded_protocols(listing: LogListing) -> frozenset[str]:
    """Return the protocols that have a log of their own, if only an empty one."""
    return frozenset(PurePath(log).name.partition(".")[0] for log in listing.logs) & frozenset(PROTOCOLS)


def has_shared_log(listing: LogListing) -> bool:
    """Return whether one of the logs holds several protocols by its name."""
    return any(PurePath(log).name.partition(".")[0] not in PROTOCOLS for log in listing.logs)


def find_logs(folder: Path, archive: Path | None, protocols: Collection[str]) -> frozenset[str]:
    """Return the protocols that have a log of their own by name, if only an empty one, in a live folder or its archive.

    Args:
        folder: The live folder, or a file with the events of all protocols.
        archive: Folder of rotated logs; None for the parent of a live folder called `current`. Of its folders the newest
            `MAX_ARCHIVE_FOLDERS` are searched.
        protocols: The protocols.
    """
    if not folder.is_dir():
        return frozenset()
    if archive is None and folder.name == "current":
        archive = folder.absolute().parent
    archived = [] if archive is None else [archive, *sorted(filter(Path.is_dir, _list_folder(archive, {})), reverse=True)]
    inner = filter(Path.is_dir, _list_folder(folder, {}))
    files = (file for each in (folder, *inner, *archived[:MAX_ARCHIVE_FOLDERS]) for file in _list_folder(each, {}))
    named = ((file.name.partition(".")[0], file) for file in files)
    return frozenset(name for name, file in named if name in protocols and not (file.is_dir() or file.is_fifo()))


def find_unreadable(path: Path, protocols: Collection[str]) -> dict[Path, str]:
    """Return the logs in a live folder and the folders in it, or the one file, that can't be read, with the error.

    Folders that begin with a digit are archives by date.
    """
    unreadable: dict[Path, str] = {}
    for each in _list_folder(path, unreadable) if _is_folder(path) else [path]:
        is_live_folder = _is_folder(each) and not each.name[0].isdigit()
        inner = _list_folder(each, unreadable) if is_live_folder else [each]
        for file in inner:
            if file == path or (file.suffix in LIVE_SUFFIXES and file.name.split(".")[0] in protocols):
                _check_readable(file, unreadable)
    return unreadable


def protocols_of(paths: Iterable[Path]) -> frozenset[str]:
    """Return the protocols that files may hold, by their names; all of them for a folder or a log of several protocols."""
    protocols: set[str] = set()
    for path in paths:
        named = {protocol for protocol in PROTOCOLS if path.name.split(".")[0] == protocol}
        protocols |= named or set(PROTOCOLS)
    return frozenset(protocols)


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder, as far as it can be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _list_folder(folder: Path, unreadable: dict[Path, str]) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        unreadable[folder] = str(error.strerror)
        return []


def _check_readable(file: Path, unreadable: dict[Path, str]) -> None:
    try:
        if not file.is_dir():
            os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))  # a pipe without a writer would block
    except FileNotFoundError:
        return
    except OSError as error:
        unreadable[file] = str(error.strerror)
