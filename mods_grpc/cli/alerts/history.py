"""Reads stored alerts from files, groups them by episode, and selects the episodes that are asked for."""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mods_grpc.cli.alerts.summaries import KINDS, Summary, list_entities, list_features, name_kind, name_series, summarize
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.feedback import Feedback, FeedbackVerdict
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice
from mods_grpc.ids.alerts.series_patterns import matches
from mods_grpc.ids.alerts.stored_alerts import MAX_LINE_BYTES, StoredAlert, read_stored_alert
from mods_grpc.ids.sources.text_file import TextFile

_NEVER = datetime.min.replace(tzinfo=UTC)
_ALWAYS = datetime.max.replace(tzinfo=UTC)
UNREVIEWED = "unreviewed"
"""The review of an episode about which nobody said anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which episodes are asked for; what is None or empty selects all.

    Attributes:
        series: Pattern of a series, or a network.
        feature: Feature with a part in one of its alerts.
        entity: Host, name, port or uid that one of its alerts names; or a network, or a pattern of the shell.
        since, until: It was seen in this time, half open, UTC.
        severity: Least severity of its worst alert.
        kinds: Some of `KINDS`.
        is_open: Whether it must be open.
        review: `UNREVIEWED` or the verdict.
    """

    series: str | None = None
    feature: str | None = None
    entity: str | None = None
    since: datetime = _NEVER
    until: datetime = _ALWAYS
    severity: Severity = Severity.LOW
    kinds: Container[str] = KINDS
    is_open: bool = False
    review: str | None = None

    def chooses(self, item: AlertOrNotice) -> bool:
        """Return whether an alert or a notice is about what is asked for; for an episode one such is enough."""
        if name_kind(item) not in self.kinds:
            return False
        if self.series is not None and (isinstance(item, Notice) or not matches(name_series(item), [self.series])):
            return False
        if self.feature is not None and self.feature not in list_features(item):
            return False
        entity = self.entity
        return entity is None or any(value == entity or matches(value, [entity]) for value in list_entities(item))

    def includes(self, episode: "StoredEpisode") -> bool:
        """Return whether an episode is asked for."""
        return (
            any(each.is_chosen for each in episode.alerts)
            and episode.severity >= self.severity
            and episode.last_seen > self.since
            and episode.first.start < self.until
            and (episode.is_open or not self.is_open)
            and self.review in (None, episode.review)
        )


@dataclass(kw_only=True, slots=True)
class StoredEpisode:
    """The alerts of one episode, or a notice and that which clears it.

    Attributes:
        alerts: At least one, in the order of their times.
        feedback: What was said of it, see `join_feedback`; None if nothing was, or it was withdrawn.
    """

    alerts: list[Summary] = field(default_factory=list)
    feedback: Feedback | None = None

    @property
    def first(self) -> Summary:
        """The alert by which it is known: the first, as far as it is stored."""
        return next((each for each in self.alerts if each.parent_id is None), self.alerts[0])

    @property
    def further(self) -> list[Summary]:
        """The other alerts, without the end."""
        return [each for each in self.alerts if each is not self.first and not each.is_end]

    @property
    def end(self) -> Summary | None:
        """What says that it is over; None as long as nothing does."""
        return next((each for each in self.alerts if each.is_end), None)

    @property
    def is_open(self) -> bool:
        """Whether nothing says that it is over."""
        return self.end is None

    @property
    def severity(self) -> Severity:
        """The worst severity of its alerts."""
        return max(each.severity for each in self.alerts)

    @property
    def strength(self) -> float:
        """The largest strength of its alerts."""
        return max(each.strength for each in self.alerts)

    @property
    def last_seen(self) -> datetime:
        """The end of what its alerts are about."""
        return max(each.end for each in self.alerts)

    @property
    def review(self) -> str:
        """`UNREVIEWED`, or what was said of it."""
        return UNREVIEWED if self.feedback is None else self.feedback.verdict


@dataclass(kw_only=True, slots=True)
class Damage:
    """Lines that are no alerts, and what ended a file early, by file."""

    lines: Counter[Path] = field(default_factory=Counter)
    files: dict[Path, str] = field(default_factory=dict)

    def describe(self, names: Mapping[Path, str]) -> list[str]:
        """Return a sentence for each file, with the names by which they were given."""
        of_lines = [
            f"{names.get(path, path)}: {number:,} line{'s' * (number > 1)} left out: damaged, or not of the format jsonl"
            for path, number in self.lines.items()
        ]
        return of_lines + [
            f"{names.get(path, path)}: is damaged, and was read up to there: {reason}" for path, reason in self.files.items()
        ]


def read_alerts(paths: Sequence[Path], damage: Damage | None = None, *, containing: bytes = b"") -> Iterator[StoredAlert]:
    """Yield what files hold, each id once.

    Args:
        paths: The files.
        damage: Gets what can't be read.
        containing: Lines without it are passed over.

    Raises:
        OSError: A file can't be opened.
    """
    damage = Damage() if damage is None else damage
    seen: set[str] = set()
    for path in paths:
        with TextFile(path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
                    _skip_line(file)
                if not line.strip() or containing not in line:
                    continue
                try:
                    stored = read_stored_alert(line.decode("utf-8", "replace"))
                except DataError:
                    damage.lines[path] += 1
                    continue
                if stored.id not in seen:
                    seen.add(stored.id)
                    yield stored
            if file.damage:
                damage.files[path] = file.damage


def read_episodes(
    paths: Sequence[Path], feedback: Iterable[Feedback], chooses: Callable[[AlertOrNotice], bool], damage: Damage
) -> list[StoredEpisode]:
    """Return the episodes of files, in the order of their first lines.

    Args:
        paths: The files.
        feedback: What counts of what was said of alerts.
        chooses: Whether an alert or a notice is asked for, see `Summary.is_chosen`.
        damage: Gets what can't be read.

    Raises:
        OSError: A file can't be opened.
    """
    episodes: dict[str, StoredEpisode] = {}
    for stored in read_alerts(paths, damage):
        summary = summarize(stored, is_chosen=chooses(stored.item))
        episodes.setdefault(summary.parent_id or summary.id, StoredEpisode()).alerts.append(summary)
    said: defaultdict[str, list[Feedback]] = defaultdict(list)
    firsts = {each.id: first_id for first_id, episode in episodes.items() for each in episode.alerts}
    for entry in feedback:
        said[entry.first_id or firsts.get(entry.id, entry.id)].append(entry)
    for first_id, episode in episodes.items():
        episode.alerts.sort(key=lambda each: (each.end, each.is_end))
        episode.feedback = join_feedback(said[first_id])
    return list(episodes.values())


def join_feedback(entries: Sequence[Feedback]) -> Feedback | None:
    """Return which of what was said of the alerts of one episode counts: if one of them was confirmed, it was right."""
    return max(entries, key=lambda entry: (entry.verdict is FeedbackVerdict.CONFIRMED, entry.time), default=None)


def order_by_rank(episodes: Sequence[StoredEpisode]) -> list[StoredEpisode]:
    """Return episodes, the most severe and strongest first."""
    return sorted(episodes, key=lambda each: (-each.severity, -each.strength, -each.first.start.timestamp(), each.first.id))


def order_by_time(episodes: Sequence[StoredEpisode]) -> list[StoredEpisode]:
    """Return episodes, the newest first."""
    return sorted(episodes, key=lambda each: (-each.first.start.timestamp(), each.first.id))


def _skip_line(file: TextFile) -> None:
    while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass
