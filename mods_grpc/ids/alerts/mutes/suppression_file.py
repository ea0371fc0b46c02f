"""The file of suppression rules, in TOML.

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

    [[mute]]                   # all of it must be true of an alert
    id = "scanner"
    reason = "the weekly scan of our own"
    series = ["10.1.0.0/16"]
    feature = ["http_in"]      # the leading one
    entity = ["203.0.113.7"]   # or 445/tcp, /wp-login.php, example.com
    user_agent = ["Nessus*"]   # or another dimension of the evidence
    rule = ["host-scan"]       # fixed rules; then there is no feature
    hours = "22:00-06:00"
    days = ["sat", "sun"]
    zone = "utc"               # or "local"
    until = 2026-06-01T00:00:00Z

`series_patterns` says which series a pattern means, `mute_rules` which alerts a rule means.
"""

import re
import tomllib
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.mutes.mute_rules import (
    ALL_SERIES,
    WEEKDAYS,
    EntityPattern,
    Hours,
    MuteRule,
    Zone,
    parse_entity,
    parse_value,
)
from mods_grpc.ids.alerts.mutes.suppression import MaintenanceWindow, MutedRule, Suppression
from mods_grpc.ids.evidence.evidence import Dimension

_TABLES = ("planned", "rule", "mute")
_REPEATS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}
_SERIES_EXAMPLES = 'networks or names of series such as ["10.20.0.0/16", "lab-*"]'
_VALUE_EXAMPLES = 'values or patterns such as ["http_in"]'
_HOURS = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_DIMENSIONS = tuple(map(str, Dimension))
_CRITERIA = ("series", "feature", "entity", "rule", "hours", "days", *_DIMENSIONS)
_MUTE_KEYS = {*_CRITERIA, "id", "reason", "zone", "until"}
_HEADER = re.compile(r"\s*\[\[?\s*([\w-]+)\s*\]\]?\s*(#.*)?")
_PATTERN_CHARACTERS = re.compile(r"([*?\[])")

Rule = TypeVar("Rule")


class _KeyedError(ValueError):
    """A key with a value that it can't have, or that is not allowed."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def read_suppression(path: Path) -> Suppression:
    """Read the rules from a file.

    Raises:
        DataError: The file is not as described above; the message says where.
        OSError: It can't be read.
    """
    return parse_suppression(path.read_bytes(), path)


def parse_suppression(data: bytes, path: Path) -> Suppression:
    """Return the rules in the content of a file.

    Raises:
        DataError: The content is not as described above; the message says where in the file `path`.
    """
    try:
        text = data.decode()
        content = tomllib.loads(text)
        _reject_unknown_keys(content, {"minimum_severity", "allow", *_TABLES}, "")
        suppression = Suppression(
            allow=_check_patterns(content, "allow", "allow", _SERIES_EXAMPLES) if "allow" in content else (),
            minimum_severity=parse_severity(content.get("minimum_severity", "low")),
            maintenance=_read_tables(text, path, content, "planned", _read_maintenance),
            muted_rules=_read_tables(text, path, content, "rule", _read_muted_rule),
            mutes=_read_tables(text, path, content, "mute", _read_mute),
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a TOML file in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: expected TOML, as docs/how-to/suppress-planned-work.md shows: {error}") from error
    except _KeyedError as error:
        raise DataError(f"{path}{_format_line(find_key_line(text, None, 0, error.key))}: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error
    _reject_repeated_ids(text, path, suppression.mutes)
    return suppression


def parse_severity(name: object) -> Severity:
    """Return the severity of a name.

    Raises:
        ValueError: No severity has the name.
    """
    severities = {severity.name.lower(): severity for severity in Severity}
    if not isinstance(name, str) or name not in severities:
        raise ValueError(f"expected a severity of {', '.join(severities)}, found {name!r}")
    return severities[name]


def find_key_line(text: str, table: str | None, index: int, key: str) -> int | None:
    """Return the number of the line with a key, from 1; of the header of its table if the key is not there.

    Args:
        text: The file.
        table: Name of the array of tables; None for the keys before all tables.
        index: Which of its tables, from 0.
        key: The key.

    Returns:
        None if it is not certain, as where a text of several lines looks like a header.
    """
    here, number_of_table = None, -1
    header = None
    is_key = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""").match
    for number, line in enumerate(text.splitlines(), 1):
        if (match := _HEADER.fullmatch(line)) is not None:
            here = match[1]
            number_of_table += here == table
            if here == table and number_of_table == index:
                header = number
        elif here == table and (table is None or number_of_table == index) and is_key(line):
            return number
    return header


def format_mute(fields: Mapping[str, str | datetime | Iterable[str]]) -> str:
    """Return a `[[mute]]` table with keys in the order given; lists are patterns already.

    Raises:
        DataError: A text can't be written in UTF-8.
    """
    lines = ["[[mute]]"]
    for key, value in fields.items():
        match value:
            case str():
                written = _quote(value)
            case datetime():
                written = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            case _:
                written = f"[{', '.join(map(_quote, value))}]"
        lines.append(f"{key} = {written}")
    return "\n".join(lines) + "\n"


def escape_pattern(value: str) -> str:
    """Return the pattern that means a value and nothing else."""
    return _PATTERN_CHARACTERS.sub(r"[\1]", value)


def _quote(text: str) -> str:
    """Return a text as a basic string of TOML."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{text!r} can't be written to a TOML file in UTF-8") from error
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(each if each.isprintable() else _escape(each) for each in escaped) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _read_tables(
    text: str, path: Path, content: Mapping[str, Any], key: str, read: Callable[[Mapping[str, Any]], Rule]
) -> tuple[Rule, ...]:
    tables = content.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(entry, dict) for entry in tables):
        raise _KeyedError(key, f"{key}: expected tables that begin with [[{key}]]")
    rules = []
    for index, table in enumerate(tables):
        try:
            rules.append(read(table))
        except (ValueError, TypeError) as error:
            name = error.key if isinstance(error, _KeyedError) else ""
            line = find_key_line(text, key, index, name) if _count_headers(text, key) == len(tables) else None
            raise DataError(f"{path}{_format_line(line)}: {error}") from error
    return tuple(rules)


def _count_headers(text: str, table: str) -> int:
    return sum((match := _HEADER.fullmatch(line)) is not None and match[1] == table for line in text.splitlines())


def _format_line(line: int | None) -> str:
    return "" if line is None else f":{line}"


def _read_maintenance(entry: Mapping[str, Any]) -> MaintenanceWindow:
    _reject_unknown_keys(entry, {"name", "start", "end", "repeat", "series"}, "planned")
    if absent := [key for key in ("start", "end") if key not in entry]:
        raise ValueError(f"planned: the key {' and '.join(absent)} is missing")
    repeat = entry.get("repeat")
    if repeat is not None and (not isinstance(repeat, str) or repeat not in _REPEATS):
        raise _KeyedError("repeat", f"planned.repeat: expected {' or '.join(_REPEATS)}, found {repeat!r}")
    start, end = _check_time(entry, "start", "planned"), _check_time(entry, "end", "planned")
    interval = None if repeat is None else _REPEATS[repeat]
    if not start < end or (interval is not None and end - start > interval):
        raise _KeyedError("start", f"planned: expected start before end, and end before the repetition, found {start} and {end}")
    series = _check_patterns(entry, "series", "planned.series", _SERIES_EXAMPLES) if "series" in entry else ALL_SERIES
    return MaintenanceWindow(name=str(entry.get("name", "planned work")), start=start, end=end, repeat=interval, series=series)


def _read_muted_rule(entry: Mapping[str, Any]) -> MutedRule:
    _reject_unknown_keys(entry, {"name", "hosts", "groups"}, "rule")
    if not isinstance(entry.get("name"), str):
        raise _KeyedError("name", f"rule.name: expected the name of a fixed rule, found {entry.get('name')!r}")
    keys = [key for key in ("hosts", "groups") if key in entry]
    patterns = {key: _check_patterns(entry, key, f"rule.{key}", _SERIES_EXAMPLES) for key in keys}
    return MutedRule(name=entry["name"], **patterns)


def _read_mute(entry: Mapping[str, Any]) -> MuteRule:
    _reject_unknown_keys(entry, _MUTE_KEYS, "mute")
    if not any(key in entry for key in _CRITERIA):
        raise ValueError("mute: expected at least one of series, feature, entity, rule, hours, days and a dimension")
    if "rule" in entry and "feature" in entry:
        raise _KeyedError("feature", "mute.feature: alerts of fixed rules have no feature; leave out rule or feature")
    texts = {}
    for key in ("id", "reason"):
        texts[key] = entry.get(key, "")
        if not isinstance(texts[key], str) or (key == "id" and key in entry and not texts[key].strip()):
            raise _KeyedError(key, f"mute.{key}: expected text, found {texts[key]!r}")
    lists = {
        key: _check_patterns(entry, key, f"mute.{key}", _SERIES_EXAMPLES if key == "series" else _VALUE_EXAMPLES)
        for key in ("series", "feature", "rule", "entity", *_DIMENSIONS)
        if key in entry
    }
    return MuteRule(
        id=texts["id"] or f"{zlib.crc32(repr(sorted(entry.items())).encode()):08x}",
        reason=texts["reason"],
        series=lists.get("series", ALL_SERIES),
        features=lists.get("feature", ()),
        rules=lists.get("rule", ()),
        entities=tuple(_parse_all(key, lists[key]) for key in ("entity", *_DIMENSIONS) if key in lists),
        hours=_read_hours(entry),
        until=_check_time(entry, "until", "mute") if "until" in entry else None,
    )


def _parse_all(key: str, texts: Iterable[str]) -> tuple[EntityPattern, ...]:
    try:
        return tuple(parse_entity(text) if key == "entity" else parse_value(Dimension(key), text) for text in texts)
    except ValueError as error:
        raise _KeyedError(key, f"mute.{key}: {error}") from error


def _read_hours(entry: Mapping[str, Any]) -> Hours | None:
    if "hours" not in entry and "days" not in entry:
        if "zone" in entry:
            raise _KeyedError("zone", "mute.zone: expected hours or days with it")
        return None
    zones = [str(zone) for zone in Zone]
    if entry.get("zone") not in zones:
        raise _KeyedError(
            "zone", f'mute.zone: expected "utc" or "local", whose clock hours and days are of, found {entry.get("zone")!r}'
        )
    days = entry.get("days", list(WEEKDAYS))
    if not isinstance(days, list) or not days or not all(day in WEEKDAYS for day in days if isinstance(day, str)):
        raise _KeyedError("days", f"mute.days: expected a list of {', '.join(WEEKDAYS)}, found {days!r}")
    if not all(isinstance(day, str) for day in days):
        raise _KeyedError("days", f"mute.days: expected a list of {', '.join(WEEKDAYS)}, found {days!r}")
    text = entry.get("hours", "00:00-24:00")
    match = _HOURS.fullmatch(text) if isinstance(text, str) else None
    begin, end = (timedelta(), timedelta()) if match is None else _to_spans(*map(int, match.groups()))
    if match is None or max(begin, end) > timedelta(days=1) or begin == end or begin == timedelta(days=1):
        raise _KeyedError("hours", f'mute.hours: expected a span of the day such as "22:00-06:00", found {text!r}')
    return Hours(zone=Zone(entry["zone"]), begin=begin, end=end, days=frozenset(map(WEEKDAYS.index, days)))


def _to_spans(hour: int, minute: int, last_hour: int, last_minute: int) -> tuple[timedelta, timedelta]:
    return timedelta(hours=hour, minutes=minute), timedelta(hours=last_hour, minutes=last_minute)


def _reject_repeated_ids(text: str, path: Path, mutes: Iterable[MuteRule]) -> None:
    seen: set[str] = set()
    for index, mute in enumerate(mutes):
        if mute.id in seen:
            line = _format_line(find_key_line(text, "mute", index, "id"))
            raise DataError(f"{path}{line}: mute.id: another rule is called {mute.id!r}, or says the same without an id")
        seen.add(mute.id)


def _check_time(entry: Mapping[str, Any], key: str, table: str) -> datetime:
    value = entry[key]
    if not isinstance(value, datetime):
        raise _KeyedError(key, f"{table}.{key}: expected a date and time such as 2026-03-01T01:00:00Z, found {value!r}")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _check_patterns(entry: Mapping[str, Any], key: str, name: str, examples: str) -> tuple[str, ...]:
    values = entry[key]
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise _KeyedError(key, f"{name}: expected a list of {examples}, found {values!r}")
    if not values and name.startswith("mute."):
        raise _KeyedError(key, f"{name}: expected a list of {examples}, found an empty one, which means nothing")
    return tuple(values)


def _reject_unknown_keys(table: Mapping[str, Any], allowed: set[str], name: str) -> None:
    if unknown := sorted(table.keys() - allowed):
        place = f"{name}: " if name else ""
        raise _KeyedError(unknown[0], f"{place}unknown key {', '.join(unknown)}; expected {', '.join(sorted(allowed))}")
