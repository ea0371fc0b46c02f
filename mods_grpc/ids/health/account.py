"""The account of what was read: files, lines and records, what was dropped and why, and the windows that came of it.

Nothing is counted twice or left out:

    lines = records + ignored + malformed
    records + carried = added + late + before_begin + ahead + remote + over_series_limit + unwanted + rules_only + waiting
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.units import DAY_SECONDS, SECONDS_PER_UNIT
from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.sources.log_files import COMPRESSION, COPY, NOT_A_FILE, NOT_A_LOG, OTHER_LOG, PARTIAL, LeftOutFile, LogListing
from mods_grpc.ids.windows.unset_fields import UnsetField

MAX_NAMES = 3
MAX_EXAMPLE_BYTES = 200
_MAX_LOGS = 64
_NOW_SECONDS = 60  # a record this new is of now
_AGE_UNITS = ((DAY_SECONDS, "days"), (3_600, "h"), (60, "min"), (1, "s"))

_DROPPED = {
    "remote": "with neither end local",
    "late": "late",
    "before_begin": "before --from",
    "ahead": "ahead of all others",
    "over_series_limit": "over the limit of series",
    "unwanted": "of protocols that no feature needs",
}


_REASON_WORDS = {
    COPY: ("copy", "copies"),
    OTHER_LOG: ("of another log", "of other logs"),
    NOT_A_LOG: ("other file", "other files"),
    COMPRESSION: ("of a compression that can't be read", "of a compression that can't be read"),
}
"""Words for one file and for several that were left out; other reasons stand for themselves."""


@dataclass(frozen=True, slots=True)
class RejectedExample:
    """The first malformed line of a reason: the name of its file, and its beginning."""

    file: str
    text: str


class RejectedLines:
    """What malformed lines look like: the first one of each reason, and how many there are by file name.

    Call `add` for each malformed line.
    """

    def __init__(self) -> None:
        self.examples: dict[str, RejectedExample] = {}
        self.by_log: dict[str, int] = {}

    def add(self, path: Path, reason: str, line: bytes) -> None:
        """Count a malformed line."""
        if reason not in self.examples:
            text = line[:MAX_EXAMPLE_BYTES].decode("utf-8", "replace").rstrip("\r\n")
            self.examples[reason] = RejectedExample(path.name, text)
        log = path.name.partition(".")[0]
        if log in self.by_log or len(self.by_log) < _MAX_LOGS:
            self.by_log[log] = self.by_log.get(log, 0) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What was read and what became of it.

    Attributes:
        files_read: Number of files.
        left_out: Files that were not read.
        unused: Files and folders that were given and held nothing to read.
        overlapping: Pairs of files that share some of their records, which count twice.
        damaged_files: Files that were not read to their end, by what is wrong.
        first_damaged: The name of the first such file.
        lines: Lines read.
        records_by_protocol: Records, by protocol.
        ignored: Headers, other logs and other events.
        malformed: Lines that are not records, by reason.
        malformed_by_log: The same by the name of the log, as far as the reader says.
        examples: The first malformed line of each reason.
        damaged_fields: Fields left out of records, by name.
        unset: Fields that columns are made from and that no record had, or none of the last, or that some logs lack.
        carried: Records held since before the account began.
        waiting: Records read and not yet given to the aggregation.
        added: Records that count. The other records, by why they do not: `late`, `before_begin`, `ahead` (held until now),
            `remote_by_protocol`, `over_series_limit` and `unwanted`; see `AggregatorCounters` for these and the rest.
        rules_only: Records that no feature needs, only fixed rules.
        rules_late: Records that a rule did not count because they came too late.
        rules_over_limit: Own hosts that a rule dropped in a pane, because there were more than it has room for.
        rules_joined: Ports, peers and domains that no alert of a rule names, because their host had too many open episodes.
        rule_alerts: Alerts of fixed rules, by rule.
        rules_suppressed: Alerts of fixed rules that the suppression mutes, by rule.
        rules_learning: Alerts of fixed rules that were held back while it was not known whether own hosts are exposed, by rule.
        rules_exposed: Alerts of fixed rules that were held back because own hosts are exposed, by rule.
        blind_rules: Fields that fixed rules need and that no record had; their columns are the names of the rules.
        oldest_ns, newest_ns: Time of the oldest record that was added and of the newest one, nanoseconds since 1970; 0 for none.
        windows: Windows computed, of all series.
        judged: How many of them the model judged; None where no model judges.
        suppressed: Anomalous windows that raised no alert because the suppression mutes it.
        withheld: Anomalous windows that raised no further alert because their episode had raised too many.
        rolled_up: Alerts that were not raised because they joined another with the same cause.
        suppressed_by: What each rule of suppression muted: windows, and ports, peers or domains of fixed rules.
    """

    files_read: int = 0
    left_out: Sequence[LeftOutFile] = ()
    unused: Sequence[str] = ()
    overlapping: Sequence[tuple[Path, Path]] = ()
    damaged_files: Mapping[str, int] = field(default_factory=dict)
    first_damaged: Mapping[str, str] = field(default_factory=dict)
    lines: int = 0
    records_by_protocol: Mapping[str, int] = field(default_factory=dict)
    ignored: int = 0
    malformed: Mapping[str, int] = field(default_factory=dict)
    malformed_by_log: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, RejectedExample] = field(default_factory=dict)
    damaged_fields: Mapping[str, int] = field(default_factory=dict)
    unset: Sequence[UnsetField] = ()
    carried: int = 0
    waiting: int = 0
    added: int = 0
    late: int = 0
    before_begin: int = 0
    ahead: int = 0
    remote_by_protocol: Mapping[str, int] = field(default_factory=dict)
    unflagged_remote: Mapping[str, int] = field(default_factory=dict)
    public_local: frozenset[str] = frozenset()
    over_series_limit: int = 0
    partly_over_limit: int = 0
    unwanted: int = 0
    rules_only: int = 0
    rules_late: int = 0
    rules_over_limit: int = 0
    rules_joined: int = 0
    rule_alerts: Mapping[str, int] = field(default_factory=dict)
    rules_suppressed: Mapping[str, int] = field(default_factory=dict)
    rules_learning: Mapping[str, int] = field(default_factory=dict)
    rules_exposed: Mapping[str, int] = field(default_factory=dict)
    blind_rules: Sequence[UnsetField] = ()
    oldest_ns: int = 0
    newest_ns: int = 0
    windows: int = 0
    judged: int | None = None
    suppressed: int = 0
    withheld: int = 0
    rolled_up: int = 0
    suppressed_by: Mapping[str, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Number of records, of all protocols."""
        return sum(self.records_by_protocol.values())

    @property
    def rejected(self) -> int:
        """Number of malformed lines, of all reasons."""
        return sum(self.malformed.values())

    @property
    def remote(self) -> int:
        """Number of records with neither end local."""
        return sum(self.remote_by_protocol.values())

    @property
    def dropped(self) -> dict[str, int]:
        """Records that do not count, by why; the most frequent first, none of 0."""
        return _by_number({name: getattr(self, name) for name in _DROPPED})

    def since(self, earlier: "Account") -> "Account":
        """Return the account of what happened after an earlier one of the same reader and aggregator."""
        changed: dict[str, Any] = {"carried": earlier.ahead + earlier.waiting, "windows": self.windows - earlier.windows}
        if self.judged is not None:
            changed["judged"] = self.judged - (earlier.judged or 0)
        for each in fields(self):
            now, before = getattr(self, each.name), getattr(earlier, each.name)
            if each.name in _NUMBERS:
                changed[each.name] = now - before
            elif each.name in _NUMBERS_BY_NAME:
                numbers = {name: number - before.get(name, 0) for name, number in now.items()}
                changed[each.name] = {name: number for name, number in numbers.items() if number}
        return replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """Return the account as values for JSON."""
        left_out = [
            {"reason": reason, "number": len(names), "first": names[:MAX_NAMES]}
            for reason, names in _group_left_out(self.left_out).items()
        ]
        return {
            "files_read": self.files_read,
            "left_out": left_out,
            "unused": list(self.unused),
            "overlapping": [[str(one), str(other)] for one, other in self.overlapping],
            "damaged_files": dict(self.damaged_files),
            "lines": self.lines,
            "records": self.records,
            "records_by_protocol": dict(self.records_by_protocol),
            "ignored": self.ignored,
            "malformed": dict(self.malformed),
            "damaged_fields": dict(self.damaged_fields),
            "unset": [unset.to_json() for unset in self.unset],
            "carried": self.carried,
            "waiting": self.waiting,
            "added": self.added,
            "late": self.late,
            "before_begin": self.before_begin,
            "ahead": self.ahead,
            "remote": self.remote,
            "remote_by_protocol": dict(self.remote_by_protocol),
            "over_series_limit": self.over_series_limit,
            "partly_over_limit": self.partly_over_limit,
            "unwanted": self.unwanted,
            "rules_only": self.rules_only,
            "rules_late": self.rules_late,
            "rules_over_limit": self.rules_over_limit,
            "rules_joined": self.rules_joined,
            "rule_alerts": dict(self.rule_alerts),
            "rules_suppressed": dict(self.rules_suppressed),
            "rules_learning": dict(self.rules_learning),
            "rules_exposed": dict(self.rules_exposed),
            "blind_rules": [unset.to_json() for unset in self.blind_rules],
            "oldest": format_nanos(self.oldest_ns) if self.oldest_ns else None,
            "newest": format_nanos(self.newest_ns) if self.newest_ns else None,
            "windows": self.windows,
            **({} if self.judged is None else {name: getattr(self, name) for name in _OF_JUDGED}),
            "suppressed_by": dict(self.suppressed_by),
        }


_OF_JUDGED = ("judged", "suppressed", "withheld", "rolled_up")  # there where a model judges
_NUMBERS = (
    *("lines", "ignored", "added", "late", "before_begin"),
    *("over_series_limit", "partly_over_limit", "unwanted", "suppressed", "withheld", "rolled_up"),
    *("rules_only", "rules_late", "rules_over_limit", "rules_joined"),
)
_NUMBERS_BY_NAME = (
    *("damaged_files", "records_by_protocol", "malformed", "malformed_by_log", "damaged_fields"),
    *("remote_by_protocol", "unflagged_remote"),
    *("rule_alerts", "rules_suppressed", "rules_learning", "rules_exposed", "suppressed_by"),
)


def make_account(
    read: ReadCounters,
    counted: AggregatorCounters,
    *,
    files_read: int,
    left_out: Sequence[LeftOutFile] = (),
    unused: Sequence[str] = (),
    overlapping: Sequence[tuple[Path, Path]] = (),
    rejected: RejectedLines | None = None,
    unset: Sequence[UnsetField] = (),
    ahead: int,
    waiting: int = 0,
    windows: int,
    judged: int | None = None,
    suppressed: int = 0,
    withheld: int = 0,
    rolled_up: int = 0,
) -> Account:
    """Make the account of a reader and an aggregator; it does not change when they read on."""
    return Account(
        files_read=files_read,
        left_out=tuple(left_out),
        unused=tuple(unused),
        overlapping=tuple(overlapping),
        damaged_files=dict(read.damaged_files),
        first_damaged=dict(read.first_damaged),
        lines=read.lines,
        records_by_protocol=dict(read.records_by_protocol),
        ignored=read.ignored,
        malformed=dict(read.malformed),
        malformed_by_log={} if rejected is None else dict(rejected.by_log),
        examples={} if rejected is None else dict(rejected.examples),
        damaged_fields=dict(read.damaged_fields),
        unset=tuple(unset),
        waiting=waiting,
        added=counted.added,
        late=counted.late,
        before_begin=counted.before_begin,
        ahead=ahead,
        remote_by_protocol=dict(counted.remote_by_protocol),
        unflagged_remote=dict(counted.unflagged_remote),
        public_local=frozenset(counted.public_local),
        over_series_limit=counted.over_series_limit,
        partly_over_limit=counted.partly_over_limit,
        unwanted=counted.unwanted,
        oldest_ns=counted.oldest_ns,
        newest_ns=read.newest_ns,
        windows=windows,
        judged=judged,
        suppressed=suppressed,
        withheld=withheld,
        rolled_up=rolled_up,
    )


def find_unused(paths: Sequence[Path], listing: LogListing) -> list[str]:
    """Return those of files and folders that hold nothing but other files: no log to read, none that repeats another."""
    others = {OTHER_LOG, NOT_A_LOG, NOT_A_FILE, PARTIAL}
    used = [file.path for file in listing.files] + [file.path for file in listing.left_out if file.reason not in others]
    return [str(path) for path in paths if not any(file == path or path in file.parents for file in used)]


def format_account(account: Account, now_ns: int | None = None) -> str:
    """Format an account as lines for people, what was lost first. Numbers of 0 are left out.

    Args:
        account: The account.
        now_ns: Nanoseconds since 1970, to say how long ago the newest record was; None to say its time alone.
    """
    lines = []
    if account.dropped:
        parts = [f"{number:,} {_DROPPED[name]}" for name, number in account.dropped.items()]
        lines.append(f"dropped {', '.join(parts)}, of {count_noun(account.records, 'record')}")
    if account.malformed:
        lines.append(f"malformed {count_noun(account.rejected, 'line')}: {_list_numbers(account.malformed)}")
    if account.damaged_files:
        parts = [
            f"{count_noun(number, reason)} ({account.first_damaged.get(reason, '')}{', …' if number > 1 else ''})"
            for reason, number in _by_number(account.damaged_files).items()
        ]
        lines.append(f"not read to the end: {', '.join(parts)}")
    if account.damaged_fields:
        lines.append(f"fields left out of records: {_list_numbers(account.damaged_fields)}")
    if account.partly_over_limit:
        lines.append(f"{count_noun(account.partly_over_limit, 'record')} over the limit of series at one end")
    if account.rules_over_limit:
        lines.append(f"{count_noun(account.rules_over_limit, 'host')} more than the rules have room for")
    if account.rules_joined:
        lines.append(f"{count_noun(account.rules_joined, 'group')} (ports, peers, domains) that no alert of a rule names")
    if account.left_out:
        lines.append(f"left out {format_left_out(account.left_out)}")
    lines.append(_format_read(account, now_ns))
    return "".join(f"{line}\n" for line in lines)


def format_left_out(left_out: Iterable[LeftOutFile]) -> str:
    """Return how many files were left out and why, with the first names: `42 of other logs (ftp.log, weird.log, …)`."""
    groups = sorted(_group_left_out(left_out).items(), key=lambda group: -len(group[1]))
    parts = []
    for reason, names in groups:
        first = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
        parts.append(f"{len(names):,} {_name_reason(reason, len(names))} ({first})")
    return ", ".join(parts)


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `2,000 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_nanos(nanos: int) -> str:
    """Format a time in UTC as ISO 8601, to the second."""
    return f"{datetime.fromtimestamp(nanos // NANOS_PER_SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_age(now_ns: int, nanos: int) -> str:
    """Return how long ago a time is, such as `3 h ago`, or how far ahead."""
    seconds = (now_ns - nanos) / NANOS_PER_SECOND
    if abs(seconds) < _NOW_SECONDS:
        return "now"
    length = abs(seconds)
    unit, name = next((unit, name) for unit, name in _AGE_UNITS if length >= 2 * unit or unit == 1)
    return f"{length / unit:.0f} {name} {'ago' if seconds > 0 else 'ahead'}"


def format_short_span(seconds: float) -> str:
    """Write a span as flags take it: `10m`, `1h`, `90s`."""
    for unit, length in reversed(SECONDS_PER_UNIT.items()):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def _format_read(account: Account, now_ns: int | None) -> str:
    text = f"read {count_noun(account.records, 'record')}"
    if account.records:
        text += f" ({_list_numbers(account.records_by_protocol)})"
    text += f" in {count_noun(account.lines, 'line')} of {count_noun(account.files_read, 'file')}"
    if account.newest_ns:
        age = "" if now_ns is None else f", {format_age(now_ns, account.newest_ns)}"
        text += f"; newest {format_nanos(account.newest_ns)}{age}"
    return text


def _name_reason(reason: str, number: int) -> str:
    return _REASON_WORDS.get(reason, (reason, reason))[number > 1]


def _list_numbers(numbers: Mapping[str, int]) -> str:
    ordered = _by_number(numbers)
    return ", ".join(f"{number:,} {name}" for name, number in ordered.items()) if len(ordered) > 1 else next(iter(ordered), "")


def _by_number(numbers: Mapping[str, int]) -> dict[str, int]:
    """Return the numbers above 0, the highest first."""
    return {name: number for name, number in sorted(numbers.items(), key=lambda item: (-item[1], item[0])) if number > 0}


def _group_left_out(left_out: Iterable[LeftOutFile]) -> dict[str, list[str]]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for file in left_out:
        link = " " if file.reason == COPY else ": "
        names[file.reason].append(f"{file.path.name}{link}{file.detail}" if file.detail else file.path.name)
    return {reason: sorted(group) for reason, group in names.items()}
