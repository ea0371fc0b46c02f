"""Names, quantities and times as the sentences of alerts write them."""

import math
from datetime import UTC, datetime, timedelta

from mods_grpc.alarm_rules.reason import POWERS_FROM, format_number
from mods_grpc.ids.evidence.evidence import Unit

MULTIPLES_OF_BYTES = ("kB", "MB", "GB", "TB", "PB")


def shorten(text: str, width: int) -> str:
    """Write a name on one line, in at most so many characters: what can't be printed is escaped, the middle left out."""
    text = "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)
    if len(text) <= width:
        return text or "(empty)"
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def format_quantity(value: float, unit: Unit) -> str:
    """Write a number of records, bytes or seconds in few characters, such as `61`, `61 MB` and `61 s`."""
    match unit:
        case Unit.BYTES:
            return _scale_bytes(value) or f"{format_number(round_finite(value))} B"
        case Unit.SECONDS:
            return f"{format_number(value)} s"
    return format_number(round_finite(value))


def format_value(value: float, *, is_bytes: bool) -> str:
    """Write the value of a feature, such as `19,686` and `77,000,000 (77 MB)`."""
    scaled = _scale_bytes(value) if is_bytes else ""
    return f"{format_number(value)} ({scaled})" if scaled else format_number(value)


def _scale_bytes(value: float) -> str:
    """Return bytes in a multiple, such as `77 MB`; empty below 1 kB."""
    if not 1000 <= value < POWERS_FROM * 1000:
        return ""
    power = min(len(MULTIPLES_OF_BYTES), int(math.log10(value) / 3 + 1e-9))
    return f"{format_number(value / 1000**power)} {MULTIPLES_OF_BYTES[power - 1]}"


def round_finite(value: float) -> float:
    """Round to a whole number, but for what is not 0 and would become it, and what is not finite."""
    return float(round(value)) if math.isfinite(value) and (abs(value) > 0.5 or value == 0) else value


def format_percent(share: float) -> str:
    """Write a share as percent, rounded up."""
    return f"{max(1, math.ceil(100 * share - 1e-9)) if math.isfinite(share) else 100} %"


def format_window(start: datetime, end: datetime, *, day: datetime | None = None) -> str:
    """Write a window in UTC, such as `2024-04-19 10:20-10:30 UTC`; without its date if that is the day of `day`."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    first = "" if day is not None and day.astimezone(UTC).date() == start.date() else f"{start.date()} "
    if start.date() == end.date():
        return f"{first}{_format_clock(start)}-{_format_clock(end)} UTC"
    if end - end.replace(hour=0, minute=0, second=0, microsecond=0) == timedelta(0) and (end - start).days == 0:
        return f"{first}{_format_clock(start)}-24:00 UTC"
    return f"{first}{_format_clock(start)} to {end.date()} {_format_clock(end)} UTC"


def format_moment(when: datetime, *, day: datetime | None = None) -> str:
    """Write a moment in UTC, such as `2024-04-19 10:20 UTC`; without its date if that is the day of `day`."""
    when = when.astimezone(UTC)
    date = "" if day is not None and day.astimezone(UTC).date() == when.date() else f"{when.date()} "
    return f"{date}{_format_clock(when)} UTC"


def _format_clock(when: datetime) -> str:
    return f"{when:%H:%M:%S}" if when.second or when.microsecond else f"{when:%H:%M}"


def format_duration(span: timedelta) -> str:
    """Write a span in its two largest units, such as `2 h 10 min`, `3 d` and `45 s`."""
    seconds = max(0, round(span.total_seconds()))
    parts = []
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:,} {name}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts) or "0 s"
