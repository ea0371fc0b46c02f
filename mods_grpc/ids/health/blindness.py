"""Notices that monitoring is impaired: what was read and judged goes in, notices come out.

Time is the wall clock for a live watch and event time for a recording. Durations are sums of the steps between updates, each of
them at most `max_step_seconds`: the time in which a watch did not run, or could not look, says nothing about the logs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mods_grpc.client.results import Verdict
from mods_grpc.ids.alerts.notice import Notice, NoticeCode
from mods_grpc.ids.health.changed_levels import ChangedLevel, find_changed_levels
from mods_grpc.ids.health.facts import ReadFacts, WatchedFeature
from mods_grpc.ids.health.findings import Finding, OpenNotices, to_seconds
from mods_grpc.ids.health.level_findings import LevelFindings
from mods_grpc.ids.health.log_findings import LogFindings
from mods_grpc.ids.health.output_findings import find_unwritable
from mods_grpc.ids.health.rule_findings import RuleFindings
from mods_grpc.ids.health.share_findings import ShareFindings
from mods_grpc.ids.health.window_findings import ConstantFeatures, ModelFit, ScoringGap
from mods_grpc.ids.windows.window import WindowBatch

MAX_STEP_SECONDS = 300.0


class Blindness:
    """Raises and clears the notices of one watch or replay.

    Args:
        sensor: Namespace of the series.
        features: The model's features, in its order.
        window_seconds: Length of a window.
        warm_up_seconds: How long warming up takes, where it is not worth a notice; 0 where it is.
        max_step_seconds: Limit on the time between two updates that counts; None for none.
    """

    def __init__(
        self,
        sensor: str,
        features: Sequence[WatchedFeature],
        *,
        window_seconds: float,
        warm_up_seconds: float = 0.0,
        max_step_seconds: float | None = MAX_STEP_SECONDS,
    ) -> None:
        self._notices = OpenNotices(sensor)
        self._logs = LogFindings(features, window_seconds)
        self._shares = ShareFindings(self._notices)
        self._rules = RuleFindings()
        self._constant = ConstantFeatures(features)
        self._fit = ModelFit(features, self._notices)
        self._level = LevelFindings()
        self._scoring_gap = ScoringGap(warm_up_seconds=warm_up_seconds)
        self._max_step = max_step_seconds
        self._list_changes: Callable[[], Iterable[ChangedLevel]] | None = None
        self._now_ns: int | None = None

    @property
    def open_notices(self) -> list[Notice]:
        """The open notices, the oldest first."""
        return self._notices.list_open()

    def describe_misfit(self) -> list[str]:
        """Return why the model does not fit the windows of the whole run, and what to do."""
        return self._fit.describe_all()

    def begin(self, facts: ReadFacts) -> None:
        """Begin with counters that a checkpoint restored: what they count is of before now."""
        self._shares.begin(facts)

    def set_level(self, level: float, smallest_p: float) -> None:
        """Set the p-value that raises an alert, and the smallest that the model can give; 0 if that is not known."""
        self._level.observe(level, smallest_p)

    def watch_levels(self, list_changes: Callable[[], Iterable[ChangedLevel]]) -> None:
        """Ask at each update which series have a changed level."""
        self._list_changes = list_changes

    def observe(self, windows: WindowBatch, verdicts: Sequence[Verdict]) -> None:
        """Take note of windows of one start and the verdicts on them."""
        self._constant.observe(windows)
        self._fit.observe(windows, verdicts)
        self._scoring_gap.add_verdicts(verdicts)

    def update(self, now_ns: int, facts: ReadFacts | None) -> list[Notice]:
        """Return the notices that are raised or cleared now.

        Args:
            now_ns: Nanoseconds since 1970; a time before the last one counts as the last one.
            facts: What was read; None where windows are read in place of logs.
        """
        now_ns, elapsed = self._step(now_ns)
        if facts is not None:
            self._logs.observe(now_ns, elapsed, facts)
            self._shares.observe(now_ns, elapsed, facts)
            self._rules.observe(now_ns, elapsed, facts)
        self._scoring_gap.observe(now_ns, elapsed)
        return self._notices.update(now_ns, elapsed, self._find(facts))

    def wait_for_server(self, now_ns: int) -> list[Notice]:
        """Return the notice that is raised now while the watch waits for the server and can't look at the logs."""
        now_ns, elapsed = self._step(now_ns)
        self._scoring_gap.observe(now_ns, elapsed)
        return self._notices.add(now_ns, self._scoring_gap.find(is_connected=False))

    def continue_from(self, other: "Blindness") -> None:
        """Continue the open notices and the wait for a verdict of another one."""
        self.restore(self.state() | other.waiting_state())

    def waiting_state(self) -> dict[str, Any]:
        """Return the part of the state that changes while the watch waits for the server."""
        return {"now": self._now_ns, "notices": self._notices.state(), "scoring_gap": self._scoring_gap.state()}

    def _step(self, now_ns: int) -> tuple[int, float]:
        before = now_ns if self._now_ns is None else self._now_ns
        self._now_ns = max(before, now_ns)
        elapsed = to_seconds(self._now_ns - before)
        return self._now_ns, elapsed if self._max_step is None else min(elapsed, self._max_step)

    def _find(self, facts: ReadFacts | None) -> Iterator[Finding]:
        concerned: set[str] = set()
        if facts is not None:
            yield from find_unwritable(self._now_ns or 0, facts)
            concerned |= facts.unreadable_protocols
            for finding in self._logs.find(facts):
                if finding.code in {NoticeCode.LOG_MISSING, NoticeCode.LOG_SILENT}:
                    concerned.add(finding.subject)
                yield finding
            for finding in self._shares.find(facts):
                if finding.code is NoticeCode.LOCALITY_UNKNOWN:
                    concerned.add(finding.subject)
                yield finding
            yield from self._rules.find()
        # what is wrong with a log says it for all its features
        yield from (finding for protocol, finding in self._constant.find() if protocol not in concerned)
        yield from self._fit.find()
        yield from self._level.find(self._now_ns or 0)
        if self._list_changes is not None:
            yield from find_changed_levels(self._list_changes())
        yield from self._scoring_gap.find(is_connected=True)

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return self.waiting_state() | {
            "logs": self._logs.state(),
            "shares": self._shares.state(),
            "rules": self._rules.state(),
            "constant": self._constant.state(),
            "fit": self._fit.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._now_ns = state["now"]
        self._notices.restore(state["notices"])
        self._logs.restore(state["logs"])
        self._shares.restore(state["shares"])
        self._rules.restore(state["rules"])
        self._constant.restore(state["constant"])
        self._fit.restore(state["fit"])
        self._scoring_gap.restore(state["scoring_gap"])
