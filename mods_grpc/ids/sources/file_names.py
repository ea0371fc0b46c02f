"""What the name of a log file says: which log it belongs to, who wrote it, and where in the order of its rotations it stands.

Examples: `conn.00:00:00-01:00:00-logger-1.log.gz`, `eve.json-20240418.gz`, `eve.1.json.2.gz`, `conn.log.labeled`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath

from mods_grpc.ids.logs.log_names import ZEEK_LOGS, is_repeating, protocol_of
from mods_grpc.ids.sources.text_file import SUFFIXES

MAX_CACHED = 20_000
_JSON = (".json", ".jsonl", ".ndjson")
EXTENSIONS = (".log", ".txt", ".tsv", *_JSON)
_LABELED = (".labeled", ".labelled")
_OLD = (".old", "-old", ".save", ".bak", ".orig")
_PARTIAL = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", ".swx", ".lock", "~")

_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = (
    rf"(?:19|20)\d\d{_MONTH}{_DAY}(?:[0-2]\d(?:[0-5]\d){{0,2}})?"  # 20240418, 2024041800
    rf"|(?:19|20)\d\d[-_.]{_MONTH}(?:[-_.]{_DAY})?"  # 2024-04-18, 2024-04
    rf"|{_DAY}[-_.]?{_MONTH}[-_.]?(?:19|20)\d\d"  # 18042024
    r"|\d\d-\d\d-\d\d(?:[-_]\d\d[-.]\d\d[-.]\d\d)?"  # 24-04-18_00.00.00, 00-00-00-01-00-00
    r"|(?:19|20)\d\d[-_.]?W\d\d"  # 2024-W16
)
_CLOCK = r"\d\d:\d\d(?::\d\d)?"
_EPOCH = r"1\d{9}(?:\d{3})?"
_SEQUENCE = r"(?<=[-_.])\d{5,}"
_FRACTION = r"\.\d{3}(?:\d{3})?"  # of a second; shorter numbers are those of threads
_MORE = rf"(?:[-_.T+]\d\d[.:h]\d\d(?:[.:m]\d\d(?:{_FRACTION})?)?|[-_T+]{{1,2}}\d{{2,14}})"
_STAMP = re.compile(rf"(?<!\d)(?:{_DATE}|{_CLOCK}|{_EPOCH}|{_SEQUENCE}){_MORE}*(?:Z|UTC)?(?!\d)")
_SEPARATORS = "-_.+ "
_LOGGER = re.compile(r"(?:^|[-_.=])((?:logger|manager|proxy|worker)(?:-?\d+)*(?:-\d+)?)$")
_ARCHIVER_FIELD = re.compile(r"__(?:[a-z_]+=[^,_]*(?:_[^,_=]+)*,?)*__$")
_LOG_SUFFIX = re.compile(r"log_suffix=([^,]*?)(?=,|__|$)")
_NUMBERED = re.compile(r"(.*[^\d.])\.(\d{1,3})(?:\.(\d{1,3}))?")
_EVE = re.compile(r"eve(?![a-z])", re.IGNORECASE)
_FOLDER_OF_DATES = re.compile(r"(?:\w+=)?(?:(?:19|20)\d\d|[0-3]\d)")
_ARCHIVES = set(
    "archive archived archives backup backups current eve json log log-queue logs old olddir rotated spool statsbydate".split()
)
_PROTOCOL = re.compile(rf"(?:^|[_\W])({'|'.join(ZEEK_LOGS)})(?=[_\W]|$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogName:
    """The parts of a log file's name.

    Attributes:
        stream: Name of the log, such as `conn`.
        writer: The one of several writers of the log, such as `logger-1` or a thread's number; else empty.
        stamp: Digits of the time in the name, from the year down, or T and those of the time of day; empty if there is none.
        number: Number of rotations since the file was written, as logrotate gives it; 0 if there is none.
        has_extension: Whether the name ends as that of a log does.
        is_json: Whether the name ends as that of a JSON file does.
        is_labeled: Whether labels were added to the log.
    """

    stream: str
    writer: str
    stamp: str
    number: int
    has_extension: bool
    is_json: bool
    is_labeled: bool

    @property
    def rotated(self) -> bool:
        """Whether the name is one that a rotation gives."""
        return bool(self.stamp or self.number)

    @property
    def is_numbered(self) -> bool:
        """Whether the writer is a number that may be of a rotation instead, as in `eve.1.json`."""
        return self.writer.isdigit() and not self.rotated

    @property
    def protocol(self) -> str | None:
        """Protocol in the name of the log; None if there is none."""
        return protocol_of(self.stream)

    @property
    def is_eve(self) -> bool:
        """Whether the name is of Suricata's EVE log."""
        return _EVE.match(self.stream) is not None

    @property
    def log(self) -> str:
        """Name of the log of one writer."""
        if not self.writer:
            return self.stream
        return f"{self.stream}.{self.writer}" if self.writer.isdigit() else f"{self.writer}/{self.stream}"


def is_partial(name: str) -> bool:
    """Return whether a name is of a hidden file or one that is still being written, copied or compressed."""
    return name.startswith((".", "#")) or name.endswith(_PARTIAL)


@lru_cache(maxsize=MAX_CACHED)
def parse_name(name: str) -> LogName:
    """Return the parts of a file's name, whatever it is."""
    rest, _ = _strip(name, SUFFIXES)
    rest, stamp, number, writer = _strip_rotation(rest)
    rest, is_labeled = _strip(rest, _LABELED)
    has_extension, is_json = False, rest.endswith(_JSON)
    while (shorter := _strip(rest, EXTENSIONS))[1]:
        rest, has_extension = shorter[0], True
    if match := _LOG_SUFFIX.search(rest):
        writer = match[1]
    rest = _ARCHIVER_FIELD.sub("", rest)
    if match := _STAMP.search(rest):
        stamp = stamp or _digits(match[0])
        before, after = rest[: match.start()].strip(_SEPARATORS), _STAMP.sub("", rest[match.end() :]).strip(_SEPARATORS)
        rest = before or after
        if before and after:
            rest, writer = (f"{before}.{after}", writer) if after.isdigit() else (before, writer or after)
    if not writer and (match := _LOGGER.search(rest)) and match.start():
        rest, writer = rest[: match.start()].strip(_SEPARATORS), match[1]
    if match := _NUMBERED.fullmatch(rest):
        # Suricata's threads number their files, whatever they are called, Zeek's streaming logs their rotations
        if _EVE.match(match[1]) or (has_extension and protocol_of(match[1]) is None):
            rest, writer, number = match[1], writer or match[2], number or int(match[3] or 0)
        elif has_extension and match[3] is None:
            rest, number = match[1], number or int(match[2])
    stream = rest or name
    return LogName(
        stream=stream,
        writer=writer,
        stamp=stamp,
        number=number,
        has_extension=has_extension or is_labeled,
        is_json=is_json,
        is_labeled=is_labeled,
    )


def folder_writer(folder: PurePath) -> str:
    """Return the part of a folder's path that says who wrote the logs in it: all but dates, and names such as `current`."""
    return "/".join(part for part in folder.parts if not (part.lower() in _ARCHIVES or _is_date(part)))


def folder_stamp(folder: PurePath) -> str:
    """Return the digits of the time in a folder's path."""
    return "".join(_digits(part.rpartition("=")[2]) for part in folder.parts if _is_date(part))


def repeated_log(stream: str) -> str | None:
    """Return the log whose records a log repeats or sums up by its nature, as `conn` for `open_conn`; None if there is none."""
    match = _PROTOCOL.search(stream) if is_repeating(stream) else None
    return match[1] if match else None


def usual_name(log: str) -> str:
    """Return what the file of a log is usually called."""
    return f"{log}.json" if _EVE.match(log) else f"{log}.log"


def other_format_of(name: LogName) -> str | None:
    """Return the log that a log is another format of, such as `conn` for `json_streaming_conn`; None if it is of none."""
    for pattern in (r"json_streaming_(.+)", r"(.+)[-_]json", r"json[-_](.+)"):
        if match := re.fullmatch(pattern, name.stream):
            return match[1]
    return name.stream if name.is_labeled else None


def _strip(name: str, suffixes: tuple[str, ...]) -> tuple[str, bool]:
    for suffix in suffixes:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], True
    return name, False


def _strip_rotation(name: str) -> tuple[str, str, int, str]:
    """Return a name without what a rotation appended after its extension, the digits of the time, the number, and a thread.

    Suricata puts the number of a thread before the last part of a name, as in `eve.json.1.1713484800`.
    """
    stamp, number, thread = "", 0, ""
    ends = (*EXTENSIONS, *_LABELED)
    while not name.endswith(ends):
        shorter, is_old = _strip(name, _OLD)
        if is_old:
            number = number or 1
        elif match := re.search(r"\.(\d{1,5})$", name):
            shorter = name[: match.start()]
            if stamp and _EVE.match(name):
                thread = match[1]
            else:
                number = int(match[1]) or 1
        elif (match := re.search(rf"[-_.](?:{_STAMP.pattern})$", name)) and any(end in name for end in ends):
            shorter, stamp = name[: match.start()], _digits(match[0])
        else:
            break
        if not any(end in shorter for end in ends) and not is_old:
            return name, "", 0, ""
        name = shorter
    return name, stamp, number, thread


def _is_date(part: str) -> bool:
    return (_FOLDER_OF_DATES.fullmatch(part) or _STAMP.fullmatch(part.rpartition("=")[2])) is not None


def _digits(stamp: str) -> str:
    """Return the digits of a time, from the year down, or T and those of the time of day."""
    stamp = stamp.strip(_SEPARATORS)
    if re.fullmatch(_EPOCH, stamp):
        return datetime.fromtimestamp(int(stamp[:10]), UTC).strftime("%Y%m%d%H%M%S")
    digits = re.sub(r"\D", "", stamp)
    if re.match(rf"\d\d-{_MONTH}-{_DAY}(?!\d)", stamp):
        return f"20{digits}"
    return f"T{digits}" if re.match(r"\d\d:\d\d|\d\d-\d\d-\d\d(?!\d)", stamp) else digits
