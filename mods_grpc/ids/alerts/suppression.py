"""Which alerts nobody wants: planned work, series that are known to behave oddly, and what is too mild.

A TOML file:

    minimum_severity = "medium"
    allow = ["lab-*", "10.20.*"]

    [[planned]]
    name = "weekly backup"
    start = 2026-03-01T01:00:00Z
    end = 2026-03-01T03:30:00Z
    repeat = "weekly"          # or "daily"; left out: once
    series = ["10.1.*"]        # left out: all

What is suppressed is not lost for good: an episode that outlasts the planned work, or grows beyond the minimum, is told
then.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Severity

ALL_SERIES = ("*",)
_REPEATS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceWindow:
    """A span of time in which some series may behave as they like; `repeat` is the time from one to the next."""

    name: str
    start: datetime
    end: datetime
    repeat: timedelta | None = None
    series: tuple[str, ...] = ALL_SERIES

    def covers(self, start: datetime, end: datetime) -> bool:
        """Tell whether a window touches the work, or one of its repetitions."""
        first, last = self.start, self.end
        if self.repeat is not None and end > first:
            # the last repetition that begins before the window ends
            turns = (end - first) // self.repeat
            first, last = first + turns * self.repeat, last + turns * self.repeat
        return first < end and start < last


@dataclass(frozen=True, kw_only=True, slots=True)
class Suppression:
    """What is not told. `allow` holds patterns of series names as a shell writes them."""

    maintenance: tuple[MaintenanceWindow, ...] = ()
    allow: tuple[str, ...] = ()
    minimum_severity: Severity = Severity.LOW

    def reason(self, series: str, start: datetime, end: datetime, severity: Severity) -> str | None:
        """Say why a window of a series is not told, or None if it is."""
        if severity < self.minimum_severity:
            return f"below {self.minimum_severity.name.lower()}"
        if _matches(series, self.allow):
            return "allowed"
        for work in self.maintenance:
            if _matches(series, work.series) and work.covers(start, end):
                return work.name
        return None


def read_suppression(path: Path) -> Suppression:
    """Read the file.

    Raises:
        DataError: It says something else than what is described above; the message says where.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        _reject_unknown_keys(content, {"minimum_severity", "allow", "planned"})
        return Suppression(
            maintenance=tuple(_read_maintenance(entry) for entry in content.get("planned", [])),
            allow=_check_patterns(content.get("allow", [])),
            minimum_severity=parse_severity(content.get("minimum_severity", "low")),
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        reason = f"misses {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path.name}: {reason}") from error


def parse_severity(name: str) -> Severity:
    """Read the name of a severity.

    Raises:
        ValueError: There is none of that name.
    """
    severities = {severity.name.lower(): severity for severity in Severity}
    if name not in severities:
        raise ValueError(f"expected a severity of {', '.join(severities)}, found {name!r}")
    return severities[name]


def _read_maintenance(entry: Mapping[str, Any]) -> MaintenanceWindow:
    _reject_unknown_keys(entry, {"name", "start", "end", "repeat", "series"})
    repeat = entry.get("repeat")
    if repeat is not None and repeat not in _REPEATS:
        raise ValueError(f"planned.repeat: expected {' or '.join(_REPEATS)}, found {repeat!r}")
    start, end = _check_time(entry["start"]), _check_time(entry["end"])
    interval = None if repeat is None else _REPEATS[repeat]
    if not start < end or (interval is not None and end - start > interval):
        raise ValueError(f"planned: expected start before end, and end before the repetition, found {start} and {end}")
    return MaintenanceWindow(
        name=str(entry.get("name", "planned work")),
        start=start,
        end=end,
        repeat=interval,
        series=_check_patterns(entry["series"]) if "series" in entry else ALL_SERIES,
    )


def _check_time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"expected a date and time such as 2026-03-01T01:00:00Z, found {value!r}")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _check_patterns(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"expected a list of patterns, found {values!r}")
    return tuple(values)


def _reject_unknown_keys(table: Mapping[str, Any], allowed: set[str]) -> None:
    if unknown := table.keys() - allowed:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; expected {', '.join(sorted(allowed))}")


def _matches(series: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(series, pattern) for pattern in patterns)
