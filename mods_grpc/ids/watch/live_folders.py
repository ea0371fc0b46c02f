"""Sees when a folder with live logs is gone, such as one whose disk is not mounted any more: its logs are not just silent."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mods_grpc.ids.sources.file_names import folder_stamp, parse_name
from mods_grpc.ids.watch.monitoring import LIVE_SUFFIXES

GONE_SECONDS = 300.0  # a sensor that is started anew may create its folder or file anew
MIN_SEEN_SECONDS = 3_600.0  # folders below the one that is followed may come and go, as after a crash of a logger
MAX_DEPTH = 2  # of such folders


@dataclass(kw_only=True, slots=True)
class _Seen:
    """When a folder was seen first with a log, its file system then, and since when it is gone; None while it is there."""

    since: float
    device: int | None = None
    gone_since: float | None = None


class LiveFolders:
    """Remembers the folders that had live logs.

    Args:
        path: The folder or file that is followed.
        clock: Returns seconds that only grow.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._seen = {path: _Seen(since=clock())}

    def find_gone(self) -> dict[Path, str]:
        """Return the folder or file that is followed, or those below it, that are gone for minutes, and what is there instead."""
        now = self._clock()
        for folder, device in _folders_with_logs(self._path):
            seen = self._seen.setdefault(folder, _Seen(since=now))
            seen.device, seen.gone_since = device, None
        gone: dict[Path, str] = {}
        for path, seen in self._seen.items():
            reason = _why_gone(path, seen.device)
            seen.gone_since = None if reason is None else now if seen.gone_since is None else seen.gone_since
            if reason is None or seen.gone_since is None or now - seen.gone_since < GONE_SECONDS:
                continue
            if path == self._path or seen.gone_since - seen.since >= MIN_SEEN_SECONDS:
                gone[path] = reason
        return {path: reason for path, reason in gone.items() if not gone.keys() & set(path.parents)}


def _folders_with_logs(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folders that have live logs, with the number of their file system."""
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = list(folder.iterdir()) if folder.is_dir() else []
            if any(entry.suffix in LIVE_SUFFIXES for entry in entries):
                yield folder, folder.stat().st_dev
            if depth < MAX_DEPTH:
                waiting += [(entry, depth + 1) for entry in entries if not folder_stamp(Path(entry.name)) and entry.is_dir()]
        except OSError:
            continue


def _why_gone(path: Path, device: int | None) -> str | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        # a file with a date in its name stands for those that follow it
        return None if parse_name(path.name).stamp and path.parent.is_dir() else "it is gone"
    except OSError:
        return None  # which is said as such
    return None if device in {None, status.st_dev} else "another file system without logs is there; its own is not mounted"
