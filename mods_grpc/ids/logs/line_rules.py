"""Rules for the fields of log lines, the same for every parser, and the error of a line that breaks one."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from math import floor, isfinite
from time import time_ns
from typing import TypeVar

from mods_grpc.features.locality import canonical_address

MAX_LINE_BYTES = 1 << 20
MAX_COUNT = 1 << 50  # a petabyte; higher values come from broken counters
MAX_PORT = 65_535
MAX_DURATION_SECONDS = 10 * 366 * 86_400
MIN_TIME_NS = 946_684_800 * 10**9  # 2000-01-01; earlier times come from clocks that were never set
MAX_FUTURE_SECONDS = 86_400
LONG_DURATION_NS = 86_400 * 10**9  # a connection this long has its end time checked too

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DIGITS, _EPOCH_CHARACTERS = 10, 17  # of a time as Zeek writes it: seconds, a point, microseconds
_MAX_SECONDS = 1e11  # higher times since 1970 are in milliseconds, or in even smaller units
_MICROS_BY_UNIT = ((1e17, 1e-3), (1e14, 1.0), (1e11, 1e3))  # lower bound of a time in nano-, micro- and milliseconds

_MIN_ISO_CHARACTERS = len("20240419T000001")  # a date alone is no time
_ISO_ZONE = re.compile(r" ?(?:utc|gmt|z|([+-]\d\d:?\d\d))$", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,19}(?:\.\d{1,19})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_MAX_DIGITS = 16
_WHOLE = re.compile(r"(\d{1,16})\.0+", re.ASCII)
_FLAGS = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False}
_MAX_COMMON_CHARACTERS = 64
_MAX_ADDRESS_CHARACTERS = 45 + 1 + 15  # with a zone

_HEX_RUN = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")
_TSV_ESCAPE = re.compile(r"\\\\|(?:\\x[0-9a-fA-F]{2})+")
# Control characters, bytes that are not UTF-8, lone surrogates, and the characters for which Zeek can write bytes in JSON.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\U000f0000-\U000f00ff]")

_MAX_ASCII = 0x7F
_FIRST_ESCAPED_BYTE, _LAST_ESCAPED_BYTE = 0xDC80, 0xDCFF  # Python's surrogateescape
_FIRST_PRIVATE_BYTE = 0xF0000  # Zeek's JSON escape policy for bytes
_Value = TypeVar("_Value")


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


def to_time_ns(epoch: float, latest_ns: int | None) -> int:
    """Return a time since 1970 in nanoseconds, rounded to the microsecond.

    Args:
        epoch: The time in seconds; from 10^11 on in milliseconds, from 10^14 in microseconds, from 10^17 in nanoseconds.
        latest_ns: The latest valid time; None for a day from now.

    Raises:
        MalformedLineError: The time is before 2000 or after the latest.
    """
    if not isfinite(epoch):
        raise MalformedLineError("time")
    per_unit = 1e6 if epoch < _MAX_SECONDS else next(micros for bound, micros in _MICROS_BY_UNIT if epoch >= bound)
    return _check_range(floor(epoch * per_unit + 0.5) * 1000, latest_ns)


def _check_range(nanos: int, latest_ns: int | None) -> int:
    if not MIN_TIME_NS <= nanos <= (max_record_time_ns() if latest_ns is None else latest_ns):
        raise MalformedLineError("time")
    return nanos


def parse_time(text: str, latest_ns: int | None) -> int:
    """Parse a time: a number, as in `to_time_ns`, or ISO 8601, UTC if it has no zone; returns nanoseconds since 1970.

    A space may stand before the zone, and UTC or GMT for it.

    Raises:
        MalformedLineError: Not such a time, or one before 2000 or after `latest_ns`.
    """
    if len(text) == _EPOCH_CHARACTERS and text[0] == "1" and text[_EPOCH_DIGITS] == "." and text.isascii():  # faster, the same
        seconds, micros = text[:_EPOCH_DIGITS], text[_EPOCH_DIGITS + 1 :]
        if seconds.isdecimal() and micros.isdecimal():
            return _check_range(int(seconds + micros) * 1000, latest_ns)
    if text[4:5] != "-" and _NUMBER.fullmatch(text):
        return to_time_ns(float(text), latest_ns)
    if len(text) < _MIN_ISO_CHARACTERS:
        raise MalformedLineError("time")
    try:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            parsed = datetime.fromisoformat(_ISO_ZONE.sub(lambda match: match[1] or "Z", text.upper()))
        since = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise MalformedLineError("time") from None
    return _check_range((since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000, latest_ns)


def check_time(value: object, latest_ns: int | None) -> int:
    """Return a time, given as a number or text as in `parse_time`, in nanoseconds since 1970.

    Raises:
        MalformedLineError: Not such a time, or one before 2000 or after `latest_ns`.
    """
    if type(value) is float:
        return to_time_ns(value, latest_ns)
    if isinstance(value, str):
        return parse_time(value, latest_ns)
    try:
        return to_time_ns(_check_number(value), latest_ns)
    except MalformedLineError:
        raise MalformedLineError("time") from None


def to_duration_ns(seconds: float) -> int:
    """Return a duration in nanoseconds, rounded to the microsecond.

    Raises:
        MalformedLineError: The duration is negative, not finite or above ten years.
    """
    if not 0 <= seconds <= MAX_DURATION_SECONDS:
        raise MalformedLineError("duration")
    return floor(seconds * 1e6 + 0.5) * 1000


def parse_duration(text: str) -> int:
    """Parse a duration in seconds; returns nanoseconds.

    Raises:
        MalformedLineError: Not a number from 0 to ten years.
    """
    if not _NUMBER.fullmatch(text):
        raise MalformedLineError("duration")
    return to_duration_ns(float(text))


def check_duration(value: object) -> int:
    """Return a duration in seconds, given as a number or text, in nanoseconds.

    Raises:
        MalformedLineError: Not a number from 0 to ten years.
    """
    return parse_duration(value) if isinstance(value, str) else to_duration_ns(_check_number(value))


def _check_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedLineError("number")
    try:
        return float(value)
    except OverflowError:
        raise MalformedLineError("number") from None


def parse_count(text: str) -> int:
    """Parse a counter.

    Raises:
        MalformedLineError: Not a whole number from 0 to 2^50.
    """
    if text.isdecimal() and text.isascii() and len(text) <= _MAX_DIGITS and (value := int(text)) <= MAX_COUNT:
        return value
    return _parse_decimal_whole(text, MAX_COUNT, "count")


def check_count(value: object) -> int:
    """Return a counter, given as a number or text.

    Raises:
        MalformedLineError: Not a whole number from 0 to 2^50.
    """
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    return parse_count(value) if isinstance(value, str) else _check_decimal_whole(value, MAX_COUNT, "count")


def parse_port(text: str) -> int:
    """Parse a port.

    Raises:
        MalformedLineError: Not a whole number from 0 to 65,535.
    """
    if text.isdecimal() and text.isascii() and len(text) <= _MAX_DIGITS and (value := int(text)) <= MAX_PORT:
        return value
    return _parse_decimal_whole(text, MAX_PORT, "port")


def check_port(value: object) -> int:
    """Return a port, given as a number or text.

    Raises:
        MalformedLineError: Not a whole number from 0 to 65,535.
    """
    if type(value) is int and 0 <= value <= MAX_PORT:
        return value
    return parse_port(value) if isinstance(value, str) else _check_decimal_whole(value, MAX_PORT, "port")


def _parse_decimal_whole(text: str, highest: int, reason: str) -> int:
    """Parse a whole number with a fraction of zeros, as typed `double`."""
    match = _WHOLE.fullmatch(text)
    if match is None or (value := int(match[1])) > highest:
        raise MalformedLineError(reason)
    return value


def _check_decimal_whole(value: object, highest: int, reason: str) -> int:
    """Return a whole number that is a float, as pandas writes the numbers of a column where some are missing."""
    if not isinstance(value, float) or not value.is_integer() or not 0 <= value <= highest:
        raise MalformedLineError(reason)
    return int(value)


def check_address(value: object) -> str:
    """Return the one spelling of an address, as `canonical_address` does.

    Raises:
        MalformedLineError: Not an IPv4 or IPv6 address.
    """
    # what is too long for an address would fill the cache
    canonical = _cached_address(value) if isinstance(value, str) and len(value) <= _MAX_ADDRESS_CHARACTERS else None
    if canonical is None:
        raise MalformedLineError("address")
    return canonical


@lru_cache(maxsize=100_000)
def _cached_address(value: str) -> str | None:
    return canonical_address(value)


def parse_text(cell: str) -> str:
    r"""Return the text of a TSV cell, in the one spelling of `check_text`. TSV has `\\` for a backslash."""
    return cell if "\\" not in cell and cell.isprintable() else _spell(_TSV_ESCAPE.sub(_unescape, cell))


def check_text(value: object) -> str:
    r"""Return a text in its one spelling, whatever the format of the log.

    Printable characters stand for themselves, also where the log has `\x2d`. Control characters and bytes that are not UTF-8
    are written `\x07`, whether the log has the character or the escape.

    Raises:
        MalformedLineError: Not a text, nor a whole number.
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise MalformedLineError("text")
    return value if "\\" not in value and value.isprintable() else _spell(_HEX_RUN.sub(_unescape, value))


def parse_common_text(cell: str) -> str:
    """Return the text of a TSV cell as `parse_text` does, of which there are few: equal ones are one object, to save memory."""
    return _cached_cell(cell) if len(cell) <= _MAX_COMMON_CHARACTERS else parse_text(cell)


def check_common_text(value: object) -> str:
    """Return a text as `check_text` does, of which there are few: equal ones are one object, to save memory.

    Raises:
        MalformedLineError: Not a text, nor a whole number.
    """
    return _cached_text(value) if isinstance(value, str) and len(value) <= _MAX_COMMON_CHARACTERS else check_text(value)


# what is long, or after all of many values, costs no memory for long
_cached_cell = lru_cache(maxsize=4_096)(parse_text)
_cached_text = lru_cache(maxsize=4_096)(check_text)


def _unescape(match: re.Match[str]) -> str:
    if match[0] == "\\\\":
        return "\\"
    return bytes.fromhex(match[0].replace("\\x", "")).decode("utf-8", "backslashreplace")


def _spell(text: str) -> str:
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    is_byte = code <= _MAX_ASCII or _FIRST_ESCAPED_BYTE <= code <= _LAST_ESCAPED_BYTE or code >= _FIRST_PRIVATE_BYTE
    return f"\\x{code & 0xFF:02x}" if is_byte else f"\\u{code:04x}"


def parse_flag(text: str) -> bool:
    """Parse a truth value.

    Raises:
        MalformedLineError: Not T, F, true or false.
    """
    try:
        return _FLAGS[text]
    except KeyError:
        raise MalformedLineError("flag") from None


def check_flag(value: object) -> bool:
    """Return a truth value, given as such or as text.

    Raises:
        MalformedLineError: Not a truth value.
    """
    if isinstance(value, str):
        return parse_flag(value)
    if not isinstance(value, bool):
        raise MalformedLineError("flag")
    return value


def read_optional(name: str, read: Callable[[object], _Value], value: object, damaged_fields: dict[str, int]) -> _Value | None:
    """Read a field that a record can do without: None where the log has none, or one that is damaged, which is counted."""
    if value is None:
        return None
    try:
        return read(value)
    except MalformedLineError:
        damaged_fields[name] = damaged_fields.get(name, 0) + 1
        return None
