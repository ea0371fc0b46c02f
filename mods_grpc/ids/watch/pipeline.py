"""The pipeline of a watch: windows in, alerts and notices out, each raised once, across restarts of watch and server.

Windows are saved before they are sent for scoring, with the state before them and the marks of the sinks. After a crash the watch
resumes there: it scores the same windows again, with the same result, and the sinks skip alerts that they already hold. Notices
are saved before they are written, too.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from mods_grpc.alarm_rules.extent import HOLD_P
from mods_grpc.alarm_rules.total_budget import MAX_FACTOR
from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Severity
from mods_grpc.ids.alerts.episodes import Episodes
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.alerts.notice import Notice, NoticeState, notice_from_json, notice_to_json
from mods_grpc.ids.alerts.ranking import AlertRanking
from mods_grpc.ids.alerts.roll_up.roll_up import RollUp
from mods_grpc.ids.alerts.rule_alert import RuleAlert
from mods_grpc.ids.alerts.sentences.sentence import describe_alert
from mods_grpc.ids.alerts.sinks.sink import Sink
from mods_grpc.ids.evidence.evidence import Evidence
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.rules.engine import RuleEngine
from mods_grpc.ids.watch.review import FeedbackTracker
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import LastPanes, WindowBatch
from mods_grpc.ids.windows.window_evidence import WindowEvidence

logger = logging.getLogger(__name__)

AmendState = Callable[[Callable[[dict[str, Any]], None]], None]

MAX_REJECTION_REASONS = 100  # that are logged


@dataclass(kw_only=True, slots=True)
class WatchCounters:
    """Numbers so far: windows by status, anomalous windows, and alerts by phase of the episode and by severity.

    `suppressed` are anomalous windows that raised no alert because the suppression mutes it, `withheld` those that raised none
    because their episode had raised too many, and `rolled_up` alerts that were not raised because they joined another; they are
    in none of the other numbers of alerts. `first_judged_ns` and `last_judged_ns` are the starts of the first and the last window
    that was judged, nanoseconds since 1970; 0 if there is none.
    """

    by_status: dict[str, int] = field(default_factory=dict)
    anomalous: int = 0
    suppressed: int = 0
    rolled_up: int = 0
    withheld: int = 0
    by_phase: dict[AlertPhase, int] = field(default_factory=lambda: dict.fromkeys(AlertPhase, 0))
    by_severity: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))
    first_judged_ns: int = 0
    last_judged_ns: int = 0

    @property
    def windows(self) -> int:
        """Windows that were scored or rejected."""
        return sum(self.by_status.values())

    @property
    def alerts(self) -> int:
        """Alerts raised: one per episode, and one for each other thing that came to lead it; updates and ends not included."""
        return self.by_phase[AlertPhase.START]


def add_to_state(saved: dict[str, Any], notices: list[Notice], blindness: Blindness) -> None:
    """Add notices that are about to be written to the saved state of a pipeline."""
    saved["notices"] += [notice_to_json(notice) for notice in notices]
    saved["blindness"] |= blindness.waiting_state()


class WatchPipeline:
    """Scores windows and raises alerts.

    Args:
        scorer: Returns the verdicts of windows.
        episodes: Turns verdicts into alerts.
        sink: Receives the alerts and notices.
        blindness: Raises notices that monitoring is impaired.
        roll_up: Makes one alert of those with one cause; None to raise each.
        rules: Raises the alerts of fixed rules; None for no rules.
        evidence: Says which entities made a window, and is told when it need not any more; None where there are no records.
        kinds: The kind of each feature of the model, such as `count`, for sentences.
        aggregates: The aggregate that each feature is, such as `conn|in_count_uid`; None where that is not known.
        look_again: Returns the evidence of an alert from the logs, where counts that were kept are not exact; None not to look.
        observe: Called with the verdicts and alerts of each batch, and with each alert of a rule, for a live view.
        show_notices: Called with the open notices whenever they change, for a live view.
        log_notices: Whether to log notices too, as where the sink does not print them for people.

    Attributes:
        is_connected: Whether the server was reached at the last attempt.
        rules: What raises the alerts of fixed rules.
        feedback: Counts the alerts, and takes up what is said of them; None for nothing of it.
    """

    def __init__(
        self,
        scorer: ScoringClient,
        episodes: Episodes,
        sink: Sink,
        blindness: Blindness,
        *,
        roll_up: RollUp | None = None,
        rules: RuleEngine | None = None,
        evidence: WindowEvidence | None = None,
        kinds: Mapping[str, str] | None = None,
        aggregates: Mapping[str, str] | None = None,
        look_again: Callable[[Alert], Evidence | None] | None = None,
        observe: Callable[[Sequence[Verdict], Sequence[Alert | RuleAlert]], None] | None = None,
        show_notices: Callable[[list[Notice]], None] | None = None,
        log_notices: bool = True,
    ) -> None:
        self.counters = WatchCounters()
        self.is_connected = False
        self._scorer = scorer
        self._episodes = episodes
        self._ranking = AlertRanking()
        self._sink = sink
        self._blindness = blindness
        self._roll_up = roll_up
        self.rules = rules
        self._evidence = evidence
        self._kinds = kinds
        self._aggregates = aggregates or {}
        self._look_again = look_again
        self.feedback: FeedbackTracker | None = None
        self._observe = observe
        self._show_notices = show_notices
        self._log_notices = log_notices
        self._pending: list[WindowBatch] = []
        self._notices: list[Notice] = []
        self._rejection_reasons: set[str] = set()
        self._is_reprocessing = False  # whether windows or notices from before a crash are pending
        self._marks: Any = None  # the mark of the sink before those windows

    def open(self) -> None:
        """Open the stream. Call `restore` before, if there is a checkpoint.

        Raises:
            ModsError: The server rejected the stream.
        """
        significance = self._scorer.open()
        self.is_connected = True
        budget = self._episodes.options.false_alarms_per_day or self._scorer.false_alarms_per_day
        self._episodes.options = replace(self._episodes.options, significance=significance, false_alarms_per_day=budget)
        if significance > HOLD_P:
            hint = "no window above it alarms; ask for fewer false alarms"
            logger.warning("level_capped", extra={"level": significance, "highest": HOLD_P, "hint": hint})
        self._blindness.set_level(significance, self._scorer.smallest_p)

    @property
    def suppression(self) -> Suppression:
        """The rules of suppression, with what they muted."""
        return self._episodes.options.suppression

    def set_suppression(self, suppression: Suppression) -> None:
        """Replace the rules of suppression, of anomalies and of fixed rules; what the rules muted goes on."""
        hits = self.suppression.hits
        hits.watch(suppression.names, datetime.now(UTC))
        suppression = replace(suppression, hits=hits)
        self._episodes.options = replace(self._episodes.options, suppression=suppression)
        if self.rules is not None:
            self.rules.set_suppression(suppression)

    @property
    def budget_per_day(self) -> float:
        """Acceptable false alarms per day, over all series that there are."""
        if (total := self._scorer.total) is not None:
            return total.total
        return self._episodes.options.budget * self._scorer.series_count

    def forgive(self, series: str) -> None:
        """Undo what an alert of a series that was confirmed did to its level."""
        self._scorer.forgive(series)

    def close(self) -> None:
        """End the stream and close the sink."""
        self._scorer.close()
        self._sink.close()

    @property
    def pending(self) -> int:
        """Number of batches that wait to be scored."""
        return len(self._pending)

    @property
    def has_work(self) -> bool:
        """Whether batches, notices or alerts of rules wait for `process`."""
        return bool(self._pending or self._notices or (self.rules is not None and self.rules.pending))

    @property
    def open_episodes(self) -> int:
        """Number of open episodes."""
        return len(self._episodes)

    @property
    def open_notices(self) -> list[Notice]:
        """The open notices, the oldest first."""
        return self._blindness.open_notices

    def feed(self, batches: Iterable[WindowBatch]) -> None:
        """Queue batches for `process`. Save the state between the two calls."""
        self._pending += batches

    def process(self) -> None:
        """Write the queued notices and alerts of rules, score the queued batches and raise their alerts.

        Raises:
            ModsError: The server ended the stream for good.
            OSError: The sink gave up.
        """
        self._write_notices()
        self._write_rule_alerts()
        while self._pending:
            verdicts = self._scorer.score(self._pending[0])
            self.is_connected = True
            self._blindness.observe(self._pending[0], verdicts)
            self._follow_total()
            raised = [alert for verdict in verdicts for alert in self._episodes.update(verdict)]
            alerts = [self._complete(alert) for alert in self._join_alike(verdicts, raised)]
            for alert in alerts:
                self._sink.write(alert)
            if self.feedback is not None:
                self.feedback.count(self._pending[0].start_ns, alerts)
            self._count(self._pending[0].start_ns, verdicts, alerts)
            if self._observe is not None:
                self._observe(verdicts, alerts)
            if self._evidence is not None:
                self._evidence.finish(self._pending[0].start_ns)
            del self._pending[0]
        self._is_reprocessing = False

    def finish(self) -> None:
        """Name the series that joined an alert and that it did not name yet, because no more windows come.

        Raises:
            OSError: The sink gave up.
        """
        alerts = [] if self._roll_up is None else [self._complete(alert) for alert in self._roll_up.flush()]
        for alert in alerts:
            self._sink.write(alert)
        self._count_alerts(alerts)
        if alerts and self._observe is not None:
            self._observe([], alerts)

    def _join_alike(self, verdicts: list[Verdict], alerts: list[Alert]) -> list[Alert]:
        """Return the alerts to raise for the windows of one start."""
        judged = [verdict for verdict in verdicts if verdict.status is VerdictStatus.SCORED]
        if self._roll_up is None or not judged:
            return alerts
        anomalous = {verdict.series for verdict in judged if verdict.anomalous}
        return self._roll_up.update(
            judged[0].observe_time,
            alerts,
            anomalous=anomalous,
            open_series=self._episodes.open_series,
            judged=len(judged),
        )

    def _follow_total(self) -> None:
        """Take over the share that a series has in the budget of all, if there is one: it changes as series come and go."""
        if (total := self._scorer.total) is not None:
            self._episodes.options = replace(self._episodes.options, significance=total.level, false_alarms_per_day=total.share)
            self._blindness.set_level(total.level * MAX_FACTOR, self._scorer.smallest_p)

    def _complete(self, alert: Alert) -> Alert:
        """Return an alert with its sentence, and with what is known of all alerts together."""
        total = self._scorer.total
        rank = self._ranking.rank(alert) if alert.phase is AlertPhase.START else None
        alert = replace(
            alert,
            aggregates=self._list_aggregates(alert),
            rank=rank,
            total_false_alarms_per_day=None if total is None else total.total,
        )
        if self._look_again is not None and alert.evidence is not None and not alert.evidence.is_exact and not alert.members:
            alert = replace(alert, evidence=self._look_again(alert) or alert.evidence)
        return replace(alert, reason=describe_alert(alert, self._kinds))

    def _list_aggregates(self, alert: Alert) -> tuple[tuple[str, str], ...]:
        names = [each.feature for each in alert.features if each.feature in self._aggregates]
        return tuple((name, self._aggregates[name]) for name in names)

    def check(self, now_ns: int, facts: ReadFacts | None) -> None:
        """Queue the notices that are raised or cleared now; arguments as of `Blindness.update`."""
        self._queue_notices(self._blindness.update(now_ns, facts))

    def wait_for_server(self, now_ns: int, amend: AmendState) -> None:
        """Write the notice that is raised now while the server can't be reached; called while `process` waits for it.

        Args:
            now_ns: Nanoseconds since 1970.
            amend: Changes the state that was saved last, because the present one can't be saved in the middle of a batch.

        Raises:
            OSError: The sink gave up.
        """
        self.is_connected = False
        notices = self._blindness.wait_for_server(now_ns)
        if notices:
            amend(lambda saved: add_to_state(saved, notices, self._blindness))
        self._queue_notices(notices)
        self._write_notices()

    def _queue_notices(self, notices: list[Notice]) -> None:
        self._notices += notices
        for notice in notices if self._log_notices else ():
            fields = {"code": str(notice.code), "subject": notice.subject, "what": notice.message, "hint": notice.hint}
            if notice.state is NoticeState.RAISED:
                logger.warning("monitoring_impaired", extra=fields)
            else:
                logger.info("monitoring_restored", extra={"code": str(notice.code), "subject": notice.subject})
        if notices and self._show_notices is not None:
            self._show_notices(self.open_notices)

    def _write_notices(self) -> None:
        while self._notices:
            self._sink.write(self._notices[0])
            del self._notices[0]

    def _write_rule_alerts(self) -> None:
        while self.rules is not None and self.rules.pending:
            alert = self.rules.pending[0]
            self._sink.write(alert)
            if self._observe is not None:
                self._observe([], [alert])
            del self.rules.pending[0]

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON. Consistent between calls of the other methods."""
        return {
            "pending": [windows.to_json() for windows in self._pending],
            "notices": [notice_to_json(notice) for notice in self._notices],
            "rules": None if self.rules is None else self.rules.state(),
            "blindness": self._blindness.state(),
            "history": self._scorer.state(),
            "episodes": self._episodes.state(),
            "roll_up": None if self._roll_up is None else self._roll_up.state(),
            "suppression_hits": self.suppression.hits.state(),
            "feedback": None if self.feedback is None else self.feedback.state(),
            "ranking": self._ranking.state(),
            "marks": self._marks if self._is_reprocessing else self._sink.mark(),
        }

    def restore(self, state: dict[str, Any], last_panes: LastPanes | None = None) -> None:
        """Replace the state by what `state` returned, and let the sink find the alerts that were written since.

        `last_panes` are as of `ScoringClient.restore`.

        The sink's marks are retained until the pending batches are processed: their alerts may have been written after the marks
        and would be raised twice after a second crash.
        """
        self._pending = [WindowBatch.from_json(saved) for saved in state["pending"]]
        self._notices = [notice_from_json(saved) for saved in state["notices"]]
        if self.rules is not None and state["rules"] is not None:
            self.rules.restore(state["rules"])
        self._is_reprocessing, self._marks = self.has_work, state["marks"]
        self._blindness.restore(state["blindness"])
        if self._show_notices is not None:
            self._show_notices(self.open_notices)
        self._scorer.restore(state["history"], last_panes)
        self._episodes.restore(state["episodes"])
        if self._roll_up is not None and state.get("roll_up") is not None:
            self._roll_up.restore(state["roll_up"])
        self.suppression.hits.restore(state.get("suppression_hits", {}))
        if self.feedback is not None and state.get("feedback") is not None:
            self.feedback.restore(state["feedback"])
        self._ranking.restore(state.get("ranking", []))
        self._sink.recover(state["marks"])

    def _count(self, start_ns: int, verdicts: list[Verdict], alerts: list[Alert]) -> None:
        if any(verdict.status is VerdictStatus.SCORED for verdict in verdicts):
            self.counters.first_judged_ns = self.counters.first_judged_ns or start_ns
            self.counters.last_judged_ns = start_ns
        for verdict in verdicts:
            status = str(verdict.status)
            self.counters.by_status[status] = self.counters.by_status.get(status, 0) + 1
            self.counters.anomalous += verdict.anomalous
            if verdict.status is VerdictStatus.REJECTED:
                self._log_rejected(verdict)
        self.counters.suppressed, self.counters.withheld = self._episodes.suppressed, self._episodes.withheld
        self._count_alerts(alerts)

    def _count_alerts(self, alerts: list[Alert]) -> None:
        if self._roll_up is not None:
            self.counters.rolled_up = self._roll_up.rolled_up
        for alert in alerts:
            self.counters.by_phase[alert.phase] += 1
            self.counters.by_severity[alert.severity] += 1

    def _log_rejected(self, verdict: Verdict) -> None:
        """Log the first of the windows that are rejected for the same reason; the account counts them all."""
        reason = verdict.error.message if verdict.error else "no reason given"
        if reason not in self._rejection_reasons and len(self._rejection_reasons) < MAX_REJECTION_REASONS:
            self._rejection_reasons.add(reason)
            start = verdict.observe_time.isoformat()
            logger.warning("window_rejected", extra={"series": verdict.series, "start": start, "reason": reason})
