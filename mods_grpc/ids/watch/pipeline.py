"""The pipeline of a watch: windows in, alerts out, each raised once, across restarts of watch and server.

Windows are saved before they are sent for scoring, with the state before them and the marks of the sinks. After a crash the watch
resumes there: it scores the same windows again, with the same result, and the sinks skip alerts that they already hold.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import Alert, AlertPhase
from mods_grpc.ids.alerts.episodes import Episodes
from mods_grpc.ids.alerts.sinks.sink import Sink
from mods_grpc.ids.watch.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import WindowBatch

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class WatchCounters:
    """Numbers so far: windows by status, anomalous windows, and alerts by phase of the episode."""

    by_status: dict[str, int] = field(default_factory=dict)
    anomalous: int = 0
    by_phase: dict[AlertPhase, int] = field(default_factory=lambda: dict.fromkeys(AlertPhase, 0))

    @property
    def windows(self) -> int:
        """Windows that were scored or rejected."""
        return sum(self.by_status.values())

    @property
    def alerts(self) -> int:
        """Alerts raised: one per episode, its updates and end not included."""
        return self.by_phase[AlertPhase.START]


class WatchPipeline:
    """Scores windows and raises alerts.

    Args:
        scorer: Returns the verdicts of windows.
        episodes: Turns verdicts into alerts.
        sink: Receives the alerts.
        observe: Called with the verdicts and alerts of each batch, for a live view.
    """

    def __init__(
        self,
        scorer: ScoringClient,
        episodes: Episodes,
        sink: Sink,
        observe: Callable[[list[Verdict], list[Alert]], None] | None = None,
    ) -> None:
        self.counters = WatchCounters()
        self._scorer = scorer
        self._episodes = episodes
        self._sink = sink
        self._observe = observe
        self._pending: list[WindowBatch] = []
        self._is_reprocessing = False  # whether windows from before a crash are pending
        self._marks: Any = None  # the mark of the sink before those windows

    def open(self) -> None:
        """Open the stream. Call `restore` before, if there is a checkpoint.

        Raises:
            ModsError: The server rejected the stream.
        """
        significance = self._scorer.open()
        self._episodes.options = replace(self._episodes.options, significance=significance)

    def close(self) -> None:
        """End the stream and close the sink."""
        self._scorer.close()
        self._sink.close()

    @property
    def pending(self) -> int:
        """Number of batches that wait to be scored."""
        return len(self._pending)

    def feed(self, batches: Iterable[WindowBatch]) -> None:
        """Queue batches for `process`. Save the state between the two calls."""
        self._pending += batches

    def process(self) -> None:
        """Score the queued batches and raise the alerts.

        Raises:
            ModsError: The server ended the stream for good.
            OSError: An alert can't be written.
        """
        while self._pending:
            verdicts = self._scorer.score(self._pending[0])
            alerts = [alert for verdict in verdicts for alert in self._episodes.update(verdict)]
            for alert in alerts:
                self._sink.write(alert)
            self._count(verdicts, alerts)
            if self._observe is not None:
                self._observe(verdicts, alerts)
            del self._pending[0]
        self._is_reprocessing = False

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON. Consistent between calls of the other methods."""
        return {
            "pending": [windows.to_json() for windows in self._pending],
            "history": self._scorer.state(),
            "episodes": self._episodes.state(),
            "marks": self._marks if self._is_reprocessing else self._sink.mark(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned, and let the sink find the alerts that were written since.

        The sink's marks are retained until the pending batches are processed: their alerts may have been written after the marks
        and would be raised twice after a second crash.
        """
        self._pending = [WindowBatch.from_json(saved) for saved in state["pending"]]
        self._is_reprocessing, self._marks = bool(self._pending), state["marks"]
        self._scorer.restore(state["history"])
        self._episodes.restore(state["episodes"])
        self._sink.recover(state["marks"])

    def _count(self, verdicts: list[Verdict], alerts: list[Alert]) -> None:
        for verdict in verdicts:
            status = str(verdict.status)
            self.counters.by_status[status] = self.counters.by_status.get(status, 0) + 1
            self.counters.anomalous += verdict.anomalous
            if verdict.status is VerdictStatus.REJECTED:
                reason = verdict.error.message if verdict.error else "no reason given"
                start = verdict.observe_time.isoformat()
                logger.warning("window_rejected", extra={"series": verdict.series, "start": start, "reason": reason})
        for alert in alerts:
            self.counters.by_phase[alert.phase] += 1
