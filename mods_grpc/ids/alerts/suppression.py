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

EVERYTHING = ("*",)
_REPEATS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedWork:
    """A span of time in which some series may behave as they like; `repeat` is the time from one to the next."""

    name: str
    start: datetime
    end: datetime
    repeat: timedelta | None = None
    series: tuple[str, ...] = EVERYTHING

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

    planned: tuple[PlannedWork, ...] = ()
    allow: tuple[str, ...] = ()
    minimum_severity: Severity = Severity.LOW

    def reason(self, series: str, start: datetime, end: datetime, severity: Severity) -> str | None:
        """Say why a window of a series is not told, or None if it is."""
        if severity < self.minimum_severity:
            return f"below {self.minimum_severity.name.lower()}"
        if _matches(series, self.allow):
            return "allowed"
        for work in self.planned:
            if _matches(series, work.series) and work.covers(start, end):
                return work.name
        return None


def read_suppression(path: Path) -> Suppression:
    """Read the file.

    Raises:
        DataError: It says something else than what is described above; the message says where.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        _only(found, {"minimum_severity", "allow", "planned"})
        return Suppression(
            planned=tuple(_planned(entry) for entry in found.get("planned", [])),
            allow=_patterns(found.get("allow", [])),
            minimum_severity=parse_severity(found.get("minimum_severity", "low")),
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        told = f"misses {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path.name}: {told}") from error


def parse_severity(text: str) -> Severity:
    """Read the name of a severity.

    Raises:
        ValueError: There is none of that name.
    """
    known = {severity.name.lower(): severity for severity in Severity}
    if text not in known:
        raise ValueError(f"expected a severity of {', '.join(known)}, found {text!r}")
    return known[text]


def _planned(entry: Mapping[str, Any]) -> PlannedWork:
    _only(entry, {"name", "start", "end", "repeat", "series"})
    repeat = entry.get("repeat")
    if repeat is not None and repeat not in _REPEATS:
        raise ValueError(f"planned.repeat: expected {' or '.join(_REPEATS)}, found {repeat!r}")
    start, end = _time(entry["start"]), _time(entry["end"])
    step = None if repeat is None else _REPEATS[repeat]
    if not start < end or (step is not None and end - start > step):
        raise ValueError(f"planned: expected start before end, and end before the repetition, found {start} and {end}")
    return PlannedWork(
        name=str(entry.get("name", "planned work")),
        start=start,
        end=end,
        repeat=step,
        series=_patterns(entry["series"]) if "series" in entry else EVERYTHING,
    )


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"expected a date and time such as 2026-03-01T01:00:00Z, found {value!r}")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _patterns(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"expected a list of patterns, found {values!r}")
    return tuple(values)


def _only(found: Mapping[str, Any], known: set[str]) -> None:
    if unknown := found.keys() - known:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; expected {', '.join(sorted(known))}")


def _matches(series: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(series, pattern) for pattern in patterns)
