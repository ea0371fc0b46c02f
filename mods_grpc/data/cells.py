"""Times and numbers as cells of tables write them. One reading for training, the command line and recorded aggregates."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite, nan

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError

MISSING_CELLS = frozenset({"", "-", "(empty)", "na", "nan", "null", "none"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NANOS = 2**63
_MAX_DECIMAL_EXPONENT = 30
_SEPARATORS = ("", "T", " ")
_ISO_MILLISECONDS = len("2019-01-31T12:00:00.000Z")
# A plain number counts the unit since 1970 that puts it between the years 1973 and 5138, and seconds if it is smaller.
_NANOS_PER_UNIT = ((Decimal(10) ** 11, 10**9), (Decimal(10) ** 14, 10**6), (Decimal(10) ** 17, 10**3))
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WITH_COMMA = re.compile(r"[+-]?[\d.']*,[\d.,']*", re.ASCII)
_ISO = re.compile(
    r"(\d{4})([-/]?)(\d\d)\2(\d\d)"
    r"(?:[Tt ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)? ?(?:([Zz])|([+-]\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
# 20190131 and 201901312350: as seconds or milliseconds since 1970 they would be times in the 1970s.
_COMPACT_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])[0-5]\d)?", re.ASCII)


def parse_time(text: str, where: str) -> int:
    """Read a time as nanoseconds since 1970-01-01T00:00:00Z.

    The cell holds ISO 8601 down to nanoseconds, taken as UTC if it names no zone, with hyphens, slashes or nothing between year,
    month and day; or a number of seconds, milli-, micro- or nanoseconds since 1970.

    Args:
        text: The cell. Space and quotes around it are ignored.
        where: Table and line, for the error.

    Raises:
        DataError: It holds neither, a time outside the years 1678 to 2261, or digits that may be a date or a number: 20190131.
    """
    cell = text.strip().strip('"')
    if cell[4:8:3] == "--" and cell[10:11] in _SEPARATORS and len(cell) <= _ISO_MILLISECONDS:
        nanos = _plain_iso_nanos(cell)
    elif _COMPACT_DATE.fullmatch(cell):
        raise DataError(f"{where}: {cell} may be a date or a number since 1970; write a date as 2019-01-31")
    else:
        nanos = _number_nanos(cell) if _NUMBER.fullmatch(cell) else _iso_nanos(cell)
    if nanos is None or not -_MAX_NANOS <= nanos < _MAX_NANOS:
        raise DataError(f"{where}: expected a time such as 2019-01-31T12:00:00Z or 1548936000, found {text!r}")
    return nanos


def parse_number(text: str, column: str, where: str) -> float:
    """Read a finite number; NaN where the cell is missing (`MISSING_CELLS`, in any case).

    Args:
        text: The cell. Space and quotes around it are ignored.
        column: Name of the column, for the error.
        where: Table and line, for the error.

    Raises:
        DataError: It is something else.
    """
    cell = text.strip().strip('"')
    if _NUMBER.fullmatch(cell):
        number = float(cell)
        if isfinite(number):
            return number
    elif cell.lower() in MISSING_CELLS:
        return nan
    hint = "; a point separates decimals, and nothing separates thousands" if _WITH_COMMA.fullmatch(cell) else ""
    raise DataError(f"{where}: expected a number in column {column}, found {text[:40]!r}{hint}")


def _number_nanos(text: str) -> int | None:
    number = Decimal(text)
    if number.adjusted() > _MAX_DECIMAL_EXPONENT:
        return None
    factor = next((factor for limit, factor in _NANOS_PER_UNIT if abs(number) < limit), 1)
    return int(number * factor)


def _plain_iso_nanos(text: str) -> int | None:
    """Parse a common form of ISO 8601, several times as fast as `_iso_nanos`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _iso_nanos(text)
    return _nanos_of(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _iso_nanos(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, _, month, day, hour, minute, second, fraction, _, zone_hours, zone_minutes = match.groups("0")
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    if abs(int(zone_hours)) > 23 or int(zone_minutes) > 59:
        return None
    zone_seconds = 3_600 * abs(int(zone_hours)) + 60 * int(zone_minutes)
    offset = -zone_seconds if zone_hours.startswith("-") else zone_seconds
    return _nanos_of(moment) - offset * NANOS_PER_SECOND + int(fraction[:9].ljust(9, "0"))


def _nanos_of(moment: datetime) -> int:
    since_epoch = moment - _EPOCH
    seconds = since_epoch.days * DAY_SECONDS + since_epoch.seconds
    return seconds * NANOS_PER_SECOND + since_epoch.microseconds * 1_000
