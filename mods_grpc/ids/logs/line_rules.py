"""Rules for the fields of log lines, the same for every parser, and the error of a line that breaks one."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from math import floor, isfinite
from time import time_ns

from mods_grpc.features.locality import canonical_address

MAX_LINE_BYTES = 1 << 20
MAX_COUNT = 1 << 50  # a petabyte; higher values come from broken counters
MAX_PORT = 65_535
MAX_DURATION_SECONDS = 10 * 366 * 86_400
MIN_TIME_NS = 946_684_800 * 10**9  # 2000-01-01; earlier times come from clocks that were never set
MAX_FUTURE_SECONDS = 86_400
LONG_DURATION_NS = 86_400 * 10**9  # a connection this long has its end time checked too

CONTROL_CHARACTER = r"[\x00-\x1f\x7f]"
DECIMAL = r"\d{1,10}(?:\.\d{1,9})?"
_MAX_DIGITS = 16
_MAX_ADDRESS_CHARACTERS = 45 + 1 + 15  # with a zone
_CONTROL, _DECIMAL = re.compile(CONTROL_CHARACTER), re.compile(DECIMAL, re.ASCII)


class MalformedLineError(ValueError):
    """A line that is not a record. `reason` is one of a few words, never a part of the line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(kw_only=True, slots=True)
class ReadCounters:
    """Numbers of lines by what they were: each is a record, ignored or malformed.

    `newest_ns` is the time of the newest record, nanoseconds since 1970; 0 before the first.
    """

    lines: int = 0
    records_by_protocol: dict[str, int] = field(default_factory=dict)
    ignored: int = 0  # headers, other logs, other events
    malformed: dict[str, int] = field(default_factory=dict)  # by reason
    damaged_fields: dict[str, int] = field(default_factory=dict)  # by name: fields left out of records, which count
    damaged_files: dict[str, int] = field(default_factory=dict)  # by what is wrong; what could be read of them counts
    first_damaged: dict[str, str] = field(default_factory=dict)  # by what is wrong, the name of the first such file
    newest_ns: int = 0

    def accept(self, protocol: str, logged_ns: int, number: int = 1) -> None:
        """Count `number` records of a protocol, the newest of which was logged at a time, nanoseconds since 1970."""
        self.records_by_protocol[protocol] = self.records_by_protocol.get(protocol, 0) + number
        self.newest_ns = max(self.newest_ns, logged_ns)

    @property
    def records(self) -> int:
        """Number of records, of all protocols."""
        return sum(self.records_by_protocol.values())

    def reject(self, reason: str, number: int = 1) -> None:
        """Count `number` malformed lines."""
        if number:
            self.malformed[reason] = self.malformed.get(reason, 0) + number

    def reject_file(self, name: str, reason: str) -> None:
        """Count a file that can't be read to its end."""
        self.damaged_files[reason] = self.damaged_files.get(reason, 0) + 1
        self.first_damaged.setdefault(reason, name)

    @property
    def rejected(self) -> int:
        """Number of malformed lines, of all reasons."""
        return sum(self.malformed.values())


def max_record_time_ns() -> int:
    """Return the latest time that a record may have: a day from now, nanoseconds since 1970."""
    return time_ns() + MAX_FUTURE_SECONDS * 10**9


def to_time_ns(seconds: float, latest_ns: int | None) -> int:
    """Return a time of seconds since 1970 in nanoseconds, rounded to the microsecond.

    Raises:
        MalformedLineError: The time is before 2000 or after `latest_ns` (None for a day from now).
    """
    if not isfinite(seconds):
        raise MalformedLineError("time")
    nanos = floor(seconds * 1e6 + 0.5) * 1000
    if not MIN_TIME_NS <= nanos <= (max_record_time_ns() if latest_ns is None else latest_ns):
        raise MalformedLineError("time")
    return nanos


def to_duration_ns(seconds: float) -> int:
    """Return a duration in nanoseconds, rounded to the microsecond.

    Raises:
        MalformedLineError: The duration is negative, not finite or above ten years.
    """
    if not 0 <= seconds <= MAX_DURATION_SECONDS:
        raise MalformedLineError("duration")
    return floor(seconds * 1e6 + 0.5) * 1000


def parse_decimal(value: str) -> float:
    """Parse a decimal number without a sign.

    Raises:
        MalformedLineError: Not such a number.
    """
    if not _DECIMAL.fullmatch(value):
        raise MalformedLineError("number")
    return float(value)


def parse_count(cell: str) -> int:
    """Parse a counter.

    Raises:
        MalformedLineError: Not a whole number from 0 to 2^50.
    """
    if not (cell.isdecimal() and cell.isascii()) or len(cell) > _MAX_DIGITS or (value := int(cell)) > MAX_COUNT:
        raise MalformedLineError("count")
    return value


def check_count(value: object) -> int:
    """Return a counter unchanged.

    Raises:
        MalformedLineError: Not a whole number from 0 to 2^50.
    """
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise MalformedLineError("count")
    return value


def check_port(value: object) -> int:
    """Return a port unchanged.

    Raises:
        MalformedLineError: Not a whole number from 0 to 65,535.
    """
    if type(value) is not int or not 0 <= value <= MAX_PORT:
        raise MalformedLineError("port")
    return value


def parse_port(cell: str) -> int:
    """Parse a port.

    Raises:
        MalformedLineError: Not a whole number from 0 to 65,535.
    """
    if not (cell.isdecimal() and cell.isascii()) or len(cell) > _MAX_DIGITS or (value := int(cell)) > MAX_PORT:
        raise MalformedLineError("port")
    return value


def check_address(value: object) -> str:
    """Return the one spelling of an address, as `canonical_address` does.

    Raises:
        MalformedLineError: Not an IPv4 or IPv6 address.
    """
    canonical = _cached_address(value) if isinstance(value, str) else None
    if canonical is None:
        raise MalformedLineError("address")
    return canonical


@lru_cache(maxsize=100_000)
def _cached_address(value: str) -> str | None:
    return canonical_address(value) if len(value) <= _MAX_ADDRESS_CHARACTERS else None


def is_address(value: str) -> bool:
    """Return whether a text is an IPv4 or IPv6 address."""
    return _cached_address(value) is not None


def check_text(value: object) -> str:
    """Return a text unchanged.

    Raises:
        MalformedLineError: Not a text, or one with control characters, which logs escape.
    """
    if not isinstance(value, str) or (not value.isprintable() and _CONTROL.search(value)):
        raise MalformedLineError("text")
    return value


def check_flag(value: object) -> bool:
    """Return a truth value unchanged.

    Raises:
        MalformedLineError: Not a truth value.
    """
    if not isinstance(value, bool):
        raise MalformedLineError("flag")
    return value
