"""The watch: windows to alerts, each told once, over restarts of everything.

What is to be judged is written down before it is sent, with all that was known until then and where each sink stands.
After a crash the watch begins there: it judges the same windows again, with the same result, and the sinks leave out the
alerts that they hold already.
"""

import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Alert, AlertPhase
from mods_grpc.ids.alerts.episodes import Episodes
from mods_grpc.ids.alerts.sinks.sink import Sink
from mods_grpc.ids.watch.checkpoint import Checkpoint
from mods_grpc.ids.watch.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import WindowBatch

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class WatchCounters:
    """What happened so far: windows by status, anomalous ones, and what was told of episodes, by phase."""

    by_status: dict[str, int] = field(default_factory=dict)
    anomalous: int = 0
    by_phase: dict[AlertPhase, int] = field(default_factory=lambda: dict.fromkeys(AlertPhase, 0))

    @property
    def windows(self) -> int:
        """Return how many windows were judged or refused."""
        return sum(self.by_status.values())

    @property
    def alerts(self) -> int:
        """Return how many episodes were told; their updates and ends don't count."""
        return self.by_phase[AlertPhase.START]


class WatchPipeline:
    """Judges windows and tells alerts.

    Args:
        judge: Gives verdicts.
        episodes: Turns them into alerts.
        sink: Takes the alerts.
        observe: Called with the verdicts and alerts of each start, for a live view.
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
        self._is_reprocessing = False  # whether windows of before a crash are pending
        self._marks: Any = None  # if so, where the sink stood before them

    def open(self) -> None:
        """Open the stream, after `restore` if there is something to restore.

        Raises:
            ModsError: The server refused.
        """
        significance = self._scorer.open()
        self._episodes.options = replace(self._episodes.options, significance=significance)

    def close(self) -> None:
        """End the stream, and finish what the sink has under way."""
        self._scorer.close()
        self._sink.close()

    @property
    def pending(self) -> int:
        """How many starts wait to be judged."""
        return len(self._pending)

    def feed(self, batches: Iterable[WindowBatch]) -> None:
        """Put windows down to be judged by `work`; save between the two."""
        self._pending += batches

    def process(self) -> None:
        """Judge what was put down, and tell the alerts.

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
        """Return everything for JSON; consistent whenever no call is under way."""
        return {
            "pending": [windows.to_json() for windows in self._pending],
            "history": self._scorer.state(),
            "episodes": self._episodes.state(),
            "marks": self._marks if self._is_reprocessing else self._sink.mark(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned, and let the sink find out what was written since.

        Its marks stay until what was pending is judged: the alerts of those windows may stand behind them, and would be told
        again after a second crash.
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
                logger.warning("window_refused series=%r start=%s reason=%s", verdict.series, verdict.observe_time, reason)
        for alert in alerts:
            self.counters.by_phase[alert.phase] += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineFingerprint:
    """What a checkpoint belongs to: with another model, sensor or source it means nothing.

    `lineage` is drawn when a checkpoint begins. The server keeps the series under it, so that its state always is that
    of this checkpoint.
    """

    sensor: str
    model: str
    features: tuple[str, ...]
    window_seconds: int
    slide_seconds: int
    lineage: str

    @property
    def namespace(self) -> str:
        """Return the name under which the server keeps the series."""
        return f"{self.sensor}#{self.lineage}"

    def to_json(self) -> dict[str, Any]:
        """Return the identity for JSON."""
        return {
            "sensor": self.sensor,
            "model": self.model,
            "features": list(self.features),
            "window_seconds": self.window_seconds,
            "slide_seconds": self.slide_seconds,
            "lineage": self.lineage,
        }


def fingerprint(
    saved: dict[str, Any] | None, *, sensor: str, model: str, features: tuple[str, ...], window_seconds: int, slide_seconds: int
) -> PipelineFingerprint:
    """Go on with the identity of a checkpoint, or begin one.

    Raises:
        DataError: The checkpoint is of another sensor, model, or windows.
    """
    lineage = uuid.uuid4().hex[:8] if saved is None else str(saved["identity"]["lineage"])
    current = PipelineFingerprint(
        sensor=sensor,
        model=model,
        features=features,
        window_seconds=window_seconds,
        slide_seconds=slide_seconds,
        lineage=lineage,
    )
    if saved is not None and saved["identity"] != current.to_json():
        now = current.to_json()
        changed = [key for key in now if saved["identity"].get(key) != now[key]]
        raise DataError(f"the checkpoint is of another {', '.join(changed)}; give another --state folder, or move it away")
    return current


class CheckpointWriter:
    """Saves the state of a watch and of what feeds it.

    Args:
        checkpoint: Where to.
        identity: Whose it is.
        parts: Name and state of each part.
        then: Called after each time.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        fingerprint: PipelineFingerprint,
        parts: dict[str, Callable[[], Any]],
        after_save: Callable[[], None] = lambda: None,
    ) -> None:
        self._after_save = after_save
        self._checkpoint = checkpoint
        self._fingerprint = fingerprint
        self._parts = parts

    def save(self) -> None:
        """Save everything now."""
        state = {name: part() for name, part in self._parts.items()}
        self._checkpoint.save({"identity": self._fingerprint.to_json(), **state})
        self._after_save()
