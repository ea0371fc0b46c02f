"""Rules that mute alerts by series, leading feature, leading entity and time: `[[mute]]` in the file of suppression.

An alert is muted if all that a rule says is true of it. An entity is meant only if it stands for the alert: the dominant value of
a dimension of the leading feature. An alert that is spread over several values, or without evidence, is never muted by an entity.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.rule_alert import RuleAlert
from mods_grpc.ids.alerts.series_patterns import matches, refuse_address_pattern
from mods_grpc.ids.evidence.evidence import Dimension

ALL_SERIES = ("*",)
ADDRESSES = (Dimension.SOURCE, Dimension.DESTINATION)
NAMES = (Dimension.DOMAIN, Dimension.QUERY, Dimension.HOST, Dimension.SERVER_NAME)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_PORT = re.compile(r"[0-9*?]+/[a-z*]+")
_ADDRESS_START = re.compile(r".*[0-9:]")
_NAME = re.compile(r"(\*\.)?([^\s./:*?\[\]]+\.)+[^\W\d][^\s./:*?\[\]]*\.?")
_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)

Values = Mapping[Dimension, str]
"""The value of each dimension that stands for an alert."""


class Zone(StrEnum):
    """Whose clock hours and days are of."""

    UTC = "utc"
    LOCAL = "local"  # of this machine

    def resolve(self, wall: datetime) -> datetime:
        """Return the moment at which a clock of the zone shows a time without a zone."""
        return wall.replace(tzinfo=UTC) if self is Zone.UTC else wall.astimezone()

    def read_clock(self, when: datetime) -> datetime:
        """Return what a clock of the zone shows at a moment, without a zone."""
        return (when.astimezone(UTC) if self is Zone.UTC else when.astimezone()).replace(tzinfo=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hours:
    """A span of the day on some days of the week.

    Attributes:
        zone: Whose clock it is.
        begin, end: Since midnight; an end at or before the beginning is on the next day.
        days: Days on which the span begins, 0 for Monday.
    """

    zone: Zone
    begin: timedelta = timedelta()
    end: timedelta = _DAY
    days: frozenset[int] = frozenset(range(7))

    def covers(self, start: datetime, end: datetime) -> bool:
        """Return whether a time, from start to end, overlaps one of the spans."""
        first = datetime.combine(self.zone.read_clock(start), time()) - _DAY  # the span of the day before may go on
        last_day = self.zone.read_clock(end)
        length = self.end - self.begin + (_DAY if self.end <= self.begin else timedelta())
        days = min((last_day - first).days + 1, 9)  # a week and a day before it have them all
        for day in (first + number * _DAY for number in range(days)):
            begin = day + self.begin
            if day.weekday() in self.days and self.zone.resolve(begin) < end and start < self.zone.resolve(begin + length):
                return True
        return False


@dataclass(frozen=True, slots=True)
class EntityPattern:
    """A pattern of values of some dimensions; see `parse_entity` and `parse_value`."""

    pattern: str
    dimensions: tuple[Dimension, ...]

    def covers(self, values: Values) -> bool:
        """Return whether it means one of the values that stand for an alert."""
        return any(_means(dimension, self.pattern, values[dimension]) for dimension in self.dimensions if dimension in values)


@dataclass(frozen=True, kw_only=True, slots=True)
class MuteRule:
    """What is muted: alerts of which all of this is true.

    Attributes:
        id: Name of the rule, unique in its file.
        reason: Why; empty if not said.
        series: Patterns of series; for an alert of several, all of them are meant.
        features: Patterns of the leading feature; empty for any.
        entities: Alternatives, of each group one must be meant; empty for any.
        rules: Names of fixed rules, whose alerts alone are meant; empty for any alert.
        hours: When; None for always.
        until: Windows that begin from then on are not muted; None for no end.
    """

    id: str
    reason: str = ""
    series: tuple[str, ...] = ALL_SERIES
    features: tuple[str, ...] = ()
    entities: tuple[tuple[EntityPattern, ...], ...] = ()
    rules: tuple[str, ...] = ()
    hours: Hours | None = None
    until: datetime | None = None

    @property
    def name(self) -> str:
        """Its name beside those of other rules of suppression."""
        return f"mute {self.id}"

    def is_expired(self, now: datetime) -> bool:
        """Return whether it mutes nothing any more."""
        return self.until is not None and self.until <= now

    def covers(self, alert: Alert, values: Values) -> bool:
        """Return whether it mutes an alert, given its `dominant_values`."""
        return (
            not self.rules
            and self._is_in_force(alert.window_start, alert.window_end)
            and (self.series == ALL_SERIES or all(matches(series, self.series) for series in list_series(alert)))
            and (not self.features or any(fnmatchcase(lead, each) for lead in _lead(alert) for each in self.features))
            and (not self.entities or self._covers_values(values))
        )

    def covers_rule_alert(self, alert: RuleAlert, hosts: Iterable[Collection[str]]) -> bool:
        """Return whether it mutes what a fixed rule counted.

        Args:
            alert: The alert that it would raise. Its time is the end of its window.
            hosts: Of each own host that is concerned, the names that a pattern of series may mean.
        """
        return (
            not self.features
            and (not self.rules or alert.rule in self.rules)
            and self._is_in_force(alert.time - _INSTANT, alert.time)
            and all(any(matches(name, self.series) for name in names) for names in hosts)
            and (not self.entities or self._covers_values(_values_of_rule_alert(alert)))
        )

    def _is_in_force(self, start: datetime, end: datetime) -> bool:
        return (self.until is None or start < self.until) and (self.hours is None or self.hours.covers(start, end))

    def _covers_values(self, values: Values) -> bool:
        return all(any(each.covers(values) for each in group) for group in self.entities)


def list_series(alert: Alert) -> list[str]:
    """Return the series that an alert is about."""
    return [member.series for member in alert.members] or [alert.series]


def parse_entity(text: str) -> EntityPattern:
    """Return what a value means whose form says of which dimension it is: an address, port, path or name.

    Raises:
        ValueError: It has none of these forms.
    """
    if text.startswith("/"):
        return EntityPattern(text, (Dimension.PATH,))
    if _PORT.fullmatch(text):
        return EntityPattern(text, (Dimension.PORT,))
    if _ADDRESS_START.match(text) and refuse_address_pattern(text) is None:
        return EntityPattern(text, ADDRESSES)
    if _NAME.fullmatch(text):
        return EntityPattern(text, NAMES)
    raise ValueError(
        'expected an address or network, a port such as "445/tcp", a path that begins with / or a domain such as "example.com", '
        f"found {text!r}; for other values use the key of their dimension, such as user_agent"
    )


def parse_value(dimension: Dimension, text: str) -> EntityPattern:
    """Return what a value of a dimension means.

    Raises:
        ValueError: It can never be a value of the dimension.
    """
    if dimension in ADDRESSES and (expected := refuse_address_pattern(text)) is not None:
        raise ValueError(f"expected {expected}, found {text!r}")
    if dimension is Dimension.PORT and not _PORT.fullmatch(text):
        raise ValueError(f'expected a port with its protocol such as "445/tcp", found {text!r}')
    return EntityPattern(text, (dimension,))


def _means(dimension: Dimension, pattern: str, value: str) -> bool:
    if dimension in ADDRESSES:
        return matches(value, (pattern,))
    if dimension is Dimension.PATH:
        return fnmatchcase(value, pattern)
    value, pattern = value.lower(), pattern.lower()
    if dimension in NAMES:
        value, pattern = value.rstrip("."), pattern.rstrip(".")
        if dimension is Dimension.HOST:
            value = re.sub(r":\d+$", "", value)
        return fnmatchcase(value, pattern) or fnmatchcase(value, f"*.{pattern}")
    return fnmatchcase(value, pattern)


def _lead(alert: Alert) -> list[str]:
    """Return the name of the leading feature; nothing if an alert has none."""
    if alert.evidence is not None and alert.evidence.leading is not None:
        return [alert.evidence.leading.feature]
    return [max(alert.features, key=lambda each: each.share).feature] if alert.features else []


def dominant_values(alert: Alert) -> dict[Dimension, str]:
    """Return the values that stand for an alert, by dimension of its leading feature."""
    leading = None if alert.evidence is None else alert.evidence.leading
    dimensions = () if leading is None else leading.dimensions
    return {each.dimension: each.dominant.value for each in dimensions if each.dominant is not None}


def _values_of_rule_alert(alert: RuleAlert) -> dict[Dimension, str]:
    """Return the ends of what a rule counted, and the domain if it counts by domain."""
    values = {Dimension.SOURCE: alert.source_ip}
    if alert.destination_ip is not None:
        values[Dimension.DESTINATION] = alert.destination_ip
    if alert.destination_port is not None:
        values[Dimension.PORT] = f"{alert.destination_port}/tcp"
    if len(alert.top) <= 1 and _NAME.fullmatch(alert.group):
        values[Dimension.DOMAIN] = alert.group
    return values
