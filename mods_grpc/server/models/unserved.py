"""The series of models that are not served: read from the state file, or of a model whose folder is gone.

They wait for a version that can continue them, and are handed over before its first call. Until then they are written to the
state file like the others.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.snapshot import hand_over

MAX_WAITING_MODELS = 64  # whose series wait, not counting those about to be loaded

logger = logging.getLogger(__name__)

SeriesKey = tuple[str, Any, str]
"""What a version must have to continue series: a name, a grid, and a digest where only the same version can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSeries:
    """The series of a model version.

    Attributes:
        name, version, digest: Of the model.
        grid: Versions with equal grids can continue the series; see `LoadedModel.grid`.
        series: The series.
        pinned: Whether only the same version can: streams had pinned it while another one served.
    """

    name: str
    version: int
    digest: str
    grid: Any
    series: SeriesSlots
    pinned: bool = False

    @classmethod
    def of(cls, model: LoadedModel, *, pinned: bool = False) -> "ModelSeries":
        """Return the series of a version in memory."""
        name, version = model.manifest.name, model.manifest.version
        return cls(name=name, version=version, digest=model.digest, grid=model.grid, series=model.series, pinned=pinned)

    @property
    def key(self) -> SeriesKey:
        """What a version must have to continue these series."""
        return self.name, self.grid, self.digest if self.pinned else ""


class UnservedSeries:
    """Series that wait for a version which can continue them.

    Like those of a served model, series that were not used for `--state-idle-seconds` are dropped. Of each model at most
    `max_series` wait, and at most MAX_WAITING_MODELS models: above that, what was used least recently is dropped. Models that are
    about to be loaded don't count.

    Args:
        max_series: That limit: what the versions of a model in memory hold together at most.
    """

    def __init__(self, max_series: int) -> None:
        self._max_series = max_series
        self._waiting: dict[SeriesKey, ModelSeries] = {}
        self._dropped_evictions: Counter[str] = Counter()  # of series that no longer wait

    def __iter__(self) -> Iterator[ModelSeries]:
        return iter(tuple(self._waiting.values()))

    def add(self, waiting: ModelSeries) -> None:
        """Let series wait, if there are any."""
        if len(waiting.series):
            self._waiting[waiting.key] = waiting

    def keep(self, model: LoadedModel) -> ModelSeries | None:
        """Let the series of a version wait that is no longer served and that no other one continues; None if it has none.

        Sensors whose streams go on with the version because they have pinned it are stale: what these add will be missing.
        """
        series = model.series.empty_like()
        with model.series.lock.thread_lock:
            hand_over(model.series, series, same_model=True)
        series.mark_stale(model.series.pinned_sensors)
        if not len(series):
            return None
        waiting = replace(ModelSeries.of(model), series=series)
        self.add(waiting)
        return waiting

    def hand_to(self, model: LoadedModel, *, pinned: bool = False) -> bool:
        """Hand over to a version the series of its model that it can continue, or those of streams that had pinned it.

        Returns:
            Whether there were any.
        """
        waiting = self._waiting.pop(ModelSeries.of(model, pinned=pinned).key, None)
        if waiting is None:
            return False
        fields = {"model": waiting.name, "series": len(waiting.series), "complete": not waiting.series.stale_sensors}
        self._dropped_evictions.update(waiting.series.evicted)
        with model.series.lock.thread_lock:  # streams that have pinned the version may be using it
            hand_over(waiting.series, model.series, same_model=model.digest == waiting.digest)
        logger.info("state_restored", extra=fields)
        return True

    def expire(self, loading: Collection[str]) -> None:
        """Drop series that were not used for too long, and what is above the limits, for which `loading` models don't count."""
        for waiting in self:
            waiting.series.evict_idle()
            if not len(waiting.series):
                self._drop(waiting, 0, "no version served the model for --state-idle-seconds")
        totals: Counter[str] = Counter()
        for waiting in sorted(self, key=_last_used, reverse=True):
            name, count = waiting.name, len(waiting.series)
            if name in loading:
                continue
            if name not in totals and len(totals) == MAX_WAITING_MODELS:
                self._drop_excess(waiting, f"more than {MAX_WAITING_MODELS} models are not served")
            elif totals[name] + count > self._max_series:
                self._drop_excess(waiting, f"more than {self._max_series} series wait, --max-series times --versions-kept")
            else:
                totals[name] += count

    def count_series(self) -> Counter[str]:
        """Count the series that wait, by model."""
        counts: Counter[str] = Counter()
        for waiting in self:
            counts[waiting.name] += len(waiting.series)
        return counts

    def count_evictions(self) -> Counter[str]:
        """Count the series dropped so far, by reason."""
        return sum((waiting.series.evicted for waiting in self), self._dropped_evictions)

    def _drop_excess(self, waiting: ModelSeries, reason: str) -> None:
        count = len(waiting.series)
        waiting.series.evicted["capacity"] += count
        self._drop(waiting, count, reason)

    def _drop(self, waiting: ModelSeries, count: int, reason: str) -> None:
        del self._waiting[waiting.key]
        self._dropped_evictions.update(waiting.series.evicted)
        logger.warning("state_dropped", extra={"model": waiting.name, "series": count, "reason": reason})


def _last_used(waiting: ModelSeries) -> float:
    return waiting.series.last_used
