"""What the first lines of a file say: what log it is, and when its first records were written."""

import json
import re
from collections.abc import Collection, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice, takewhile
from os import SEEK_END
from pathlib import Path
from statistics import median_low
from typing import Final

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import PROTOCOLS, Record
from mods_grpc.features.watermark import MAX_SKEW_SECONDS
from mods_grpc.ids.logs.envelopes import OpenedLine, open_envelope
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.log_names import protocol_of_log
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.text_file import TextFile

HEAD_LINES_BYTES = 1 << 16
HEAD_BUFFER_BYTES = 1 << 13
RECORDS = 8
MAX_CACHED = 20_000
_TEXT_LINES = 8
_MIN_COLUMNS = 5  # of a table without a header
_COLUMN_SEPARATORS = (b",", b";", b"|")
_EPOCH = re.compile(rb"1\d{9}\b")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")

MIXED: Final = "mixed"
OTHER: Final = "other"
NAMELESS: Final = "nameless"


@dataclass(frozen=True, slots=True)
class FileHead:
    """What the first lines of a file say.

    Attributes:
        digest: Hash of the text up to the first line that is not of a header; empty if there is no such line.
        is_text: Whether the lines are of text for people, not of a log that a program reads, nor of a damaged one or a table.
        is_json: Whether the first line that is not of a header is JSON.
        keys: Protocol, uid and time in milliseconds of the first records, as far as they have a uid.
        start_ns: When the first records were written, nanoseconds since 1970; None if there is no record.
    """

    digest: bytes
    is_text: bool
    is_json: bool
    keys: tuple[tuple[str, str, int], ...]
    start_ns: int | None


def file_head(path: Path) -> FileHead:
    """Return what the first lines of a file say, which is read once as long as it does not change.

    Raises:
        OSError: The file can't be read.
    """
    status = path.stat()
    return _read_file_head(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=MAX_CACHED)
def _read_file_head(path: Path, *_: int) -> FileHead:
    parser, text, digest = LineParser(path.name), blake2b(digest_size=16), b""
    lines: list[bytes] = []
    records: list[Record] = []
    for line in head_lines(path):
        if not digest:
            text.update(line)
            digest = b"" if line.startswith(b"#") or not line.strip() else text.digest()
        if len(lines) < _TEXT_LINES and line.strip():
            lines.append(line)
        with suppress(MalformedLineError):
            if (record := parser.parse(line)) is not None:
                records.append(record)
        if len(records) == RECORDS:
            break
    is_text = bool(lines) and all(map(_is_text, lines)) and not _is_table(lines)
    is_json = any(line.startswith(b"{") for line in lines[:1])
    keys = tuple(key for key in map(record_key, records) if key is not None)
    return FileHead(digest, is_text, is_json, keys, _start_ns(records))


def record_key(record: Record) -> tuple[str, str, int] | None:
    """Return what two logs have in common of a record that Zeek wrote to both: protocol, uid, and time in milliseconds."""
    return (record.protocol, record.uid, record.ts // 10**6) if record.uid else None


def _is_text(line: bytes) -> bool:
    """Return whether a line is complete text, and none of a log or of what is left of one."""
    if not line.endswith(b"\n") or b"\t" in line or b'{"' in line or _EPOCH.match(line):
        return False
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return line[:1] not in b'#{["' and _CONTROL.search(line.rstrip(b"\r\n")) is None


def _is_table(lines: list[bytes]) -> bool:
    counts = [[line.count(separator) for line in lines] for separator in _COLUMN_SEPARATORS]
    return any(min(count) >= _MIN_COLUMNS - 1 for count in counts)


def read_kind(path: Path) -> str | None:
    """Return the protocol of a log by its first lines.

    Returns:
        The protocol; `mixed` for lines of several logs, as of EVE or combined JSON; `other` for another log; `nameless` for JSON
        that does not say of which log it is; None for no log.

    Raises:
        OSError: The file can't be read.
    """
    parser = LineParser("")  # whatever the name says
    logs: set[str] = set()
    kind = None
    for line in head_lines(path):
        if line.startswith(b"#path"):
            logs.add(line.decode("utf-8", "replace").split()[-1])
        elif line.startswith(b"{") and (event := _parse_json(line)) is not None:
            opened = _open_envelope(event)
            kind = kind or NAMELESS
            if opened is not None and "event_type" in opened.event:
                return MIXED
            if opened is not None and opened.log is not None:
                logs.add(opened.log)
        try:
            if parser.parse(line) is not None and not parser.header.path:
                return MIXED
        except MalformedLineError:
            continue
        if parser.header.names:
            kind = OTHER
    if not logs:
        return kind
    if len(logs) > 1 or not path.name.startswith(tuple(logs)):
        return MIXED  # named otherwise than the log in it: lines of other logs may follow
    return protocol_of_log(next(iter(logs))) or OTHER


def first_record_ns(path: Path, protocols: Collection[str] = PROTOCOLS, latest_ns: int | None = None) -> int | None:
    """Return when the first records of a file were written, nanoseconds since 1970.

    It is the earliest time of a few of them, unless that is more than an hour before their median, as a wrong time would be.

    Args:
        path: The file.
        protocols: Protocols of interest.
        latest_ns: Records after this time are malformed; None for a day from now.

    Returns:
        The time; None if there is no record among the first lines, or the file can't be read.
    """
    try:
        return _start_ns([record for _, record in islice(head_records(path, protocols, latest_ns), RECORDS)])
    except OSError:
        return None


def _start_ns(records: list[Record]) -> int | None:
    times = [record.logged_ns for record in records]
    return max(min(times), median_low(times) - MAX_SKEW_SECONDS * NANOS_PER_SECOND) if times else None


def head_records(
    path: Path, protocols: Container[str] = PROTOCOLS, latest_ns: int | None = None
) -> Iterator[tuple[bytes, Record]]:
    """Yield the records among the first lines of a file, each with its line.

    Raises:
        OSError: The file can't be read.
    """
    parser = LineParser(path.name, protocols, latest_ns)
    for line in head_lines(path):
        try:
            record = parser.parse(line)
        except MalformedLineError:
            continue
        if record is not None:
            yield line, record


def newest_record_ns(path: Path, latest_ns: int | None = None) -> int:
    """Return when the newest of the last records of a file was written, nanoseconds since 1970; 0 if it is not known.

    Args:
        path: The file; of a compressed one the time is not known.
        latest_ns: Records after this time are malformed; None for a day from now.
    """
    return max((record.logged_ns for _, record in last_records(path, latest_ns)), default=0)


def last_records(path: Path, latest_ns: int | None = None) -> list[tuple[bytes, Record]]:
    """Return the records among the last 64 KiB of a plain file, each with its line; none of a compressed or unreadable one."""
    parser, records = LineParser(path.name, latest_ns=latest_ns), []
    for line in last_lines(path, HEAD_LINES_BYTES):
        with suppress(MalformedLineError):
            if (record := parser.parse(line)) is not None:
                records.append((line, record))
    return records


def last_lines(path: Path, size: int) -> list[bytes]:
    """Return the header of a plain file and the lines in its last bytes; nothing of a compressed or unreadable one."""
    with suppress(OSError), TextFile(path, buffer_bytes=HEAD_BUFFER_BYTES) as file:
        if file.is_plain:
            header = takewhile(lambda line: line.startswith(b"#"), head_lines(path))
            file.seek(max(0, file.seek(0, SEEK_END) - size))
            return [*header, *file.read(size).splitlines()]
    return []


def head_lines(path: Path) -> Iterator[bytes]:
    """Yield the first lines of a file, 64 KiB at most.

    Raises:
        OSError: The file can't be read.
    """
    left = HEAD_LINES_BYTES
    with TextFile(path, buffer_bytes=HEAD_BUFFER_BYTES) as file:
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            yield line


def _open_envelope(event: dict[str, object]) -> OpenedLine | None:
    try:
        return open_envelope(event)
    except MalformedLineError:
        return None


def _parse_json(line: bytes) -> dict[str, object] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
