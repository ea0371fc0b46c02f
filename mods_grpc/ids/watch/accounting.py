"""The account of a watch: logged at an interval, on request and at the end, with the doubts about it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mods_grpc.client import ModelInfo, VerdictStatus
from mods_grpc.ids.alerts.feedback_summary import FeedbackSummary
from mods_grpc.ids.health.account import Account, RejectedLines, format_age, format_left_out, format_nanos, make_account
from mods_grpc.ids.health.doubts import Doubt, Expectation, find_doubts, is_doubtful
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.rules.engine import RuleEngine
from mods_grpc.ids.sources.log_files import LeftOutFile
from mods_grpc.ids.watch.pipeline import WatchCounters
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.unset_fields import MIN_DOUBTED_RECORDS, UnsetField

logger = logging.getLogger(__name__)


def take_account(
    read: ReadCounters,
    feed: WindowFeed,
    judged: WatchCounters,
    *,
    files_read: int,
    left_out: Sequence[LeftOutFile] = (),
    unused: Sequence[str] = (),
    overlapping: Sequence[tuple[Path, Path]] = (),
    rejected: RejectedLines | None = None,
    rules: RuleEngine | None = None,
    suppressed_by: Mapping[str, int] | None = None,
) -> Account:
    """Return the account of what was read and judged until now.

    Args:
        read: The counters of the reader of the feed.
        feed: Computes the windows.
        judged: The counters of the pipeline that judges them.
        files_read: Number of files.
        left_out: Files that were not read.
        unused: Files and folders that were given and held nothing to read.
        overlapping: Pairs of files that share some of their records.
        rejected: The malformed lines.
        rules: The fixed rules; None for no rules.
        suppressed_by: What each rule of suppression muted; None for no rules.
    """
    account = make_account(
        read,
        feed.aggregator.counters,
        files_read=files_read,
        left_out=left_out,
        unused=unused,
        overlapping=overlapping,
        rejected=rejected,
        unset=feed.lacking_fields(MIN_DOUBTED_RECORDS),
        ahead=feed.watermark.pending,
        waiting=read.records - feed.records,
        windows=judged.windows,
        judged=judged.by_status.get(VerdictStatus.SCORED, 0),
        suppressed=judged.suppressed,
        withheld=judged.withheld,
        rolled_up=judged.rolled_up,
    )
    account = replace(account, suppressed_by=dict(suppressed_by or {}))
    if rules is None:
        return account
    return replace(
        account,
        rules_only=rules.counters.extra,
        rules_late=rules.counters.late,
        rules_over_limit=sum(rules.over_limit.values()),
        rules_joined=rules.joined,
        rule_alerts={name: number for name, number in rules.counters.alerts.items() if number},
        rules_suppressed=rules.suppressed,
        rules_learning=rules.learning,
        rules_exposed=rules.exposed,
        blind_rules=tuple(
            UnsetField(protocol=protocol, attribute=attribute, records=number, columns=names)
            for protocol, attribute, number, names in rules.list_unset()
            if number >= MIN_DOUBTED_RECORDS
        ),
    )


def make_expectation(
    model: ModelInfo,
    protocols: tuple[str, ...],
    *,
    local_networks: Sequence[str],
    lateness_seconds: float,
    now_ns: int,
    is_live: bool = False,
    has_logs: bool = True,
) -> Expectation:
    """Return what a model expects of logs: records of all its protocols, and windows enough to judge some.

    Args:
        model: The model.
        protocols: Protocols of its features.
        local_networks: Local networks that were given.
        lateness_seconds: Allowed lateness.
        now_ns: The time now, nanoseconds since 1970.
        is_live: Whether the logs still grow.
        has_logs: Whether logs are read, and not windows that were recorded.
    """
    return Expectation(
        protocols=protocols,
        needed=protocols,
        needed_by="the model needs",
        local_networks=tuple(local_networks),
        window_seconds=model.window_seconds,
        slide_seconds=model.slide_seconds,
        lateness_seconds=lateness_seconds,
        window_rows=model.window_rows,
        now_ns=now_ns,
        is_live=is_live,
        has_logs=has_logs,
    )


class AccountLog:
    """Logs the account of a watch. Each event is about what happened since the one before, the last one about the whole run.

    Args:
        take: Returns the account until now.
        expect: Returns what was asked for, given the time now in nanoseconds since 1970.
        interval_seconds: Time between two events.
        summarise: Returns how many alerts were false alarms, as far as that was said; None if that is not asked for.
        clock: Returns seconds that only grow.
        wall_clock: Returns nanoseconds since 1970.
    """

    def __init__(
        self,
        take: Callable[[], Account],
        expect: Callable[[int], Expectation],
        interval_seconds: float,
        *,
        summarise: Callable[[], FeedbackSummary | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._take, self._expect = take, expect
        self._interval_seconds = interval_seconds
        self._summarise = summarise
        self._clock, self._wall_clock = clock, wall_clock
        self._start = self._last = take()  # counters that a checkpoint restored begin above 0
        self._started_ns = self._last_ns = wall_clock()
        self._due = clock() + interval_seconds
        self._is_requested = False  # no Event, whose lock a signal handler could find held

    def request(self) -> None:
        """Have the next `tick` log the account of the whole run; may be called by a signal handler."""
        self._is_requested = True

    def tick(self) -> None:
        """Log the account if it is due or was requested."""
        if self._is_requested:
            self._is_requested = False
            self._log(self._take().since(self._start), self._started_ns)
        if self._clock() >= self._due:
            now = self._take()
            self._log(now.since(self._last), self._last_ns)
            self._last, self._last_ns = now, self._wall_clock()
            self._due = self._clock() + self._interval_seconds

    def finish(self) -> bool:
        """Log the account of the whole run; return whether it can't be trusted."""
        return is_doubtful(self._log(self._take().since(self._start), self._started_ns))

    def _log(self, account: Account, since_ns: int) -> list[Doubt]:
        now_ns = self._wall_clock()
        doubts = find_doubts(account, self._expect(now_ns))
        logger.info(
            "account",
            extra={"since": format_nanos(since_ns), **account_fields(account, now_ns), **feedback_fields(self._summarise())},
        )
        for doubt in doubts:
            fields = {"code": doubt.code, "what": doubt.message}
            if doubt.is_severe:
                logger.error("doubt", extra=fields)
            else:
                logger.warning("doubt", extra=fields)
        return doubts


def account_fields(account: Account, now_ns: int) -> dict[str, str | int]:
    """Return the fields of the log event of an account; those of 0 are left out."""
    fields: dict[str, str | int] = {
        "files": account.files_read,
        "lines": account.lines,
        "records": account.records,
        **{f"records_{protocol}": number for protocol, number in sorted(account.records_by_protocol.items())},
        "windows": account.windows,
        "judged": account.judged or 0,
    }
    optional: dict[str, str | int] = {
        **account.dropped,
        "malformed": account.rejected,
        **{f"malformed_{reason.replace(' ', '_')}": number for reason, number in sorted(account.malformed.items())},
        "damaged_fields": sum(account.damaged_fields.values()),
        "damaged_files": sum(account.damaged_files.values()),
        "partly_over_limit": account.partly_over_limit,
        "rules_only": account.rules_only,
        "rules_late": account.rules_late,
        "rules_over_limit": account.rules_over_limit,
        "rules_joined": account.rules_joined,
        **_name_rules(account.rule_alerts),
        "suppressed": account.suppressed,
        "withheld": account.withheld,
        "rolled_up": account.rolled_up,
        "suppressed_by": ", ".join(f"{number} {name}" for name, number in account.suppressed_by.items() if number),
        **_name_rules(account.rules_suppressed, "_suppressed"),
        **_name_rules(account.rules_learning, "_learning"),
        **_name_rules(account.rules_exposed, "_exposed"),
        "left_out": format_left_out(account.left_out),
    }
    if account.newest_ns:
        fields["newest"] = format_nanos(account.newest_ns)
        fields["newest_age"] = format_age(now_ns, account.newest_ns)
    return fields | {name: value for name, value in optional.items() if value}


def feedback_fields(summary: FeedbackSummary | None) -> dict[str, float]:
    """Return the fields of a summary of feedback; none before the first alert or feedback."""
    if summary is None or not summary.alerts + summary.false_alarms + summary.confirmed:
        return {}
    fields = {
        "false_alarms": summary.false_alarms,
        "confirmed": summary.confirmed,
        "unmarked": summary.unmarked,
        "false_alarms_per_day": round(summary.false_alarms_per_day, 3),
        "false_alarms_per_day_at_most": round(summary.upper_per_day, 3),
    }
    return fields if summary.budget_per_day is None else fields | {"false_alarm_budget": round(summary.budget_per_day, 3)}


def _name_rules(numbers: Mapping[str, int], suffix: str = "") -> dict[str, int]:
    return {f"rule_{name.replace('-', '_')}{suffix}": number for name, number in numbers.items()}
