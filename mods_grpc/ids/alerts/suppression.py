"""Alert suppression: maintenance windows, muted series, minimum severity.

The rules are in a TOML file:

    minimum_severity = "medium"
    allow = ["lab-*", "10.20.0.0/16"]

    [[planned]]
    name = "weekly backup"
    start = 2026-03-01T01:00:00Z
    end = 2026-03-01T03:30:00Z
    repeat = "weekly"          # or "daily"; default: once
    series = ["10.1.0.0/16"]   # default: all

    [[rule]]                   # of one fixed rule, and of anomalies nothing
    name = "dns-subdomains"
    hosts = ["10.1.0.0/16"]    # default: all
    groups = ["mcafee.com"]    # default: all; patterns of a shell for ports, peers and domains

`series_patterns` says which series a pattern means.

A suppressed episode can still raise its alert later: when it outlasts the maintenance window, or reaches the minimum severity.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.series_patterns import matches

ALL_SERIES = ("*",)
_INSTANT = timedelta(microseconds=1)
_REPEATS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceWindow:
    """A span of time without alerts for some series. `repeat` is the time from one occurrence to the next; None for once."""

    name: str
    start: datetime
    end: datetime
    repeat: timedelta | None = None
    series: tuple[str, ...] = ALL_SERIES

    def covers(self, start: datetime, end: datetime) -> bool:
        """Return whether a window overlaps the maintenance window or one of its repetitions."""
        first, last = self.start, self.end
        if self.repeat is not None and end > first:
            # the last repetition that begins before the window ends, not with its end
            repetitions = (end - first - _INSTANT) // self.repeat
            first, last = first + repetitions * self.repeat, last + repetitions * self.repeat
        return first < end and start < last


@dataclass(frozen=True, kw_only=True, slots=True)
class MutedRule:
    """A fixed rule that raises no alert for some hosts and groups: patterns of series, and of ports, peers or domains."""

    name: str
    hosts: tuple[str, ...] = ALL_SERIES
    groups: tuple[str, ...] = ALL_SERIES

    def covers(self, rule: str, hosts: Iterable[str], group: str) -> bool:
        """Return whether it means what a rule counted for all of some hosts and a group."""
        return (
            rule == self.name
            and any(fnmatchcase(group, pattern) or matches(group, (pattern,)) for pattern in self.groups)
            and all(matches(host, self.hosts) for host in hosts)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Suppression:
    """The rules. `allow` holds patterns of muted series."""

    maintenance: tuple[MaintenanceWindow, ...] = ()
    muted_rules: tuple[MutedRule, ...] = ()
    allow: tuple[str, ...] = ()
    minimum_severity: Severity = Severity.LOW

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns of series, each once."""
        planned = [pattern for window in self.maintenance for pattern in window.series]
        return tuple(dict.fromkeys([*self.allow, *planned, *(pattern for rule in self.muted_rules for pattern in rule.hosts)]))

    def reason(self, series: str, start: datetime, end: datetime, severity: Severity) -> str | None:
        """Return why a window of a series raises no alert, None if it may raise one."""
        if severity < self.minimum_severity:
            return f"below {self.minimum_severity.name.lower()}"
        if matches(series, self.allow):
            return "allowed"
        return self._find_work(series, start, end)

    def is_muted(self, series: str, severity: Severity) -> bool:
        """Return whether a series raises no alert of a severity at any time."""
        return severity < self.minimum_severity or matches(series, self.allow)

    def is_planned(self, series: str, start: datetime, end: datetime) -> bool:
        """Return whether planned work of a series overlaps a time."""
        return self._find_work(series, start, end) is not None

    def _find_work(self, series: str, start: datetime, end: datetime) -> str | None:
        return next((w.name for w in self.maintenance if matches(series, w.series) and w.covers(start, end)), None)


def read_suppression(path: Path) -> Suppression:
    """Read the rules from a file.

    Raises:
        DataError: The file is not as described above; the message says where.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
        _reject_unknown_keys(content, {"minimum_severity", "allow", "planned", "rule"})
        return Suppression(
            maintenance=tuple(_read_maintenance(entry) for entry in _read_tables(content, "planned")),
            muted_rules=tuple(_read_muted_rule(entry) for entry in _read_tables(content, "rule")),
            allow=_check_patterns(content.get("allow", []), "allow"),
            minimum_severity=parse_severity(content.get("minimum_severity", "low")),
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a TOML file in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: expected TOML, as docs/how-to/suppress-planned-work.md shows: {error}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def parse_severity(name: object) -> Severity:
    """Return the severity of a name.

    Raises:
        ValueError: No severity has the name.
    """
    severities = {severity.name.lower(): severity for severity in Severity}
    if not isinstance(name, str) or name not in severities:
        raise ValueError(f"expected a severity of {', '.join(severities)}, found {name!r}")
    return severities[name]


def _read_maintenance(entry: Mapping[str, Any]) -> MaintenanceWindow:
    _reject_unknown_keys(entry, {"name", "start", "end", "repeat", "series"})
    if absent := [key for key in ("start", "end") if key not in entry]:
        raise ValueError(f"planned: the key {' and '.join(absent)} is missing")
    repeat = entry.get("repeat")
    if repeat is not None and (not isinstance(repeat, str) or repeat not in _REPEATS):
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
        series=_check_patterns(entry["series"], "planned.series") if "series" in entry else ALL_SERIES,
    )


def _read_tables(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    tables = content.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(entry, dict) for entry in tables):
        raise TypeError(f"{key}: expected tables that begin with [[{key}]]")
    return tables


def _read_muted_rule(entry: Mapping[str, Any]) -> MutedRule:
    _reject_unknown_keys(entry, {"name", "hosts", "groups"})
    if not isinstance(entry.get("name"), str):
        raise TypeError(f"rule.name: expected the name of a fixed rule, found {entry.get('name')!r}")
    patterns = {key: _check_patterns(entry[key], f"rule.{key}") for key in ("hosts", "groups") if key in entry}
    return MutedRule(name=entry["name"], **patterns)


def _check_time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"expected a date and time such as 2026-03-01T01:00:00Z, found {value!r}")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _check_patterns(values: object, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise TypeError(
            f'{key}: expected a list of networks or names of series such as ["10.20.0.0/16", "lab-*"], found {values!r}'
        )
    return tuple(values)


def _reject_unknown_keys(table: Mapping[str, Any], allowed: set[str]) -> None:
    if unknown := table.keys() - allowed:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; expected {', '.join(sorted(allowed))}")
