"""Positions in logs, at which reading is resumed whatever the files are called by then, because their text identifies them."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from mods_grpc.errors import DataError
from mods_grpc.ids.logs.zeek import TsvHeader

POSITION_VERSION = 2
HEAD_BYTES = 2_048  # covers Zeek's header with the time of opening and the first lines, or the first JSON lines


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Hash of the first bytes of a file's text, which stays the same when the file is renamed, moved or compressed."""

    length: int
    digest: str

    @classmethod
    def of(cls, head: bytes) -> "FileIdentity":
        """Return the identity of a file that begins with `head`."""
        head = head[:HEAD_BYTES]
        return cls(len(head), blake2b(head, digest_size=16).hexdigest())

    def matches(self, head: bytes) -> bool:
        """Return whether a file that begins with `head` can be the same file, perhaps grown since."""
        return len(head) >= self.length and FileIdentity.of(head[: self.length]) == self

    def is_whole(self, head: bytes) -> bool:
        """Return whether a file that begins with `head` is the same and as long, or longer than what identifies it."""
        return len(head) == self.length and FileIdentity.of(head) == self


@dataclass(frozen=True, slots=True)
class FilePosition:
    """A position in a log; everything before it was read.

    Attributes:
        identity: The first bytes of the file.
        offset: Bytes of text before the position, so it is valid for compressed files too.
        header: The header that applies to the next line.
        before: The last bytes before the position; None if they are not checked. They tell the file from another one that
            begins alike, such as a log that was truncated and grew again.
        began_ns: When the first record of the file was logged, nanoseconds since 1970; 0 if there was none.
        newest_ns: When the newest record before the position was logged.
        previous: How far the file before was read, which may get a last line after the next file was opened.
        finished: Files of the log that were read before, the last ones.
        inode: Device and number of the file, by which it is recognised while it has no text; None if they are not known.
        is_lost: Whether it was said that records after the position were or may have been lost.
    """

    identity: FileIdentity
    offset: int
    header: TsvHeader
    before: FileIdentity | None = None
    began_ns: int = 0
    newest_ns: int = 0
    previous: "FilePosition | None" = None
    finished: tuple[FileIdentity, ...] = ()
    inode: tuple[int, int] | None = None
    is_lost: bool = False

    @property
    def read(self) -> tuple[FileIdentity, ...]:
        """The files that were read, in whole or in part."""
        previous = self.previous.read if self.previous else ()
        return (*self.finished, *previous, *([self.identity] if self.offset else []))

    def to_json(self) -> dict[str, Any]:
        """Return the position as values for JSON."""
        return {
            "head": _identity_to_json(self.identity),
            "offset": self.offset,
            "header": {name: getattr(self.header, name) for name in self.header.__slots__},
            "before": None if self.before is None else _identity_to_json(self.before),
            "times": [self.began_ns, self.newest_ns],
            "previous": None if self.previous is None else self.previous.to_json(),
            "finished": [_identity_to_json(identity) for identity in self.finished],
            "inode": self.inode,
            "lost": self.is_lost,
        }

    @classmethod
    def from_json(cls, value: Any) -> "FilePosition":
        """Return the position that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: The value is damaged.
        """
        before, previous, inode = value["before"], value["previous"], value["inode"]
        began_ns, newest_ns = value["times"]
        return cls(
            _identity_from_json(value["head"]),
            int(value["offset"]),
            TsvHeader(**value["header"]),
            None if before is None else _identity_from_json(before),
            int(began_ns),
            int(newest_ns),
            None if previous is None else cls.from_json(previous),
            tuple(_identity_from_json(identity) for identity in value["finished"]),
            None if inode is None else (int(inode[0]), int(inode[1])),
            bool(value.get("lost", False)),
        )


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The position in each log, by the log's name.

    Attributes:
        files: The positions.
        since_ns: Files of other logs that began after this time, nanoseconds since 1970, are new since the position was taken.
        repeating: Logs that are not read, each with the one that has its records too.
    """

    files: dict[str, FilePosition] = field(default_factory=dict)
    since_ns: int = 0
    repeating: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the position as JSON text."""
        logs = {name: place.to_json() for name, place in self.files.items()}
        return json.dumps({"version": POSITION_VERSION, "since": self.since_ns, "logs": logs, "repeating": self.repeating})

    @classmethod
    def from_json(cls, saved: str | bytes) -> "LogPosition":
        """Parse what `to_json` returned.

        Raises:
            DataError: Not such a position, or one of another version.
        """
        try:
            value = json.loads(saved)
            version, logs = value["version"], value["logs"]
            if version == POSITION_VERSION:
                files = {str(name): FilePosition.from_json(place) for name, place in logs.items()}
                repeating = {str(name): str(original) for name, original in value.get("repeating", {}).items()}
                return cls(files, int(value["since"]), repeating)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise DataError("not a position in logs") from None
        raise DataError(f"a position in logs of version {version}, expected {POSITION_VERSION}; start without it")


def _identity_to_json(identity: FileIdentity) -> list[Any]:
    return [identity.length, identity.digest]


def _identity_from_json(value: Any) -> FileIdentity:
    length, digest = value
    return FileIdentity(int(length), str(digest))
