"""Evidence of windows: counts the records of the windows of a feed, and says of a verdict which entities made it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.client.results import FeatureVerdict, Verdict
from mods_grpc.errors import DataError
from mods_grpc.features import AggregatorOptions, GroupBy
from mods_grpc.ids.evidence.counts import MAX_ENTRIES, EntityCounts
from mods_grpc.ids.evidence.evidence import Evidence
from mods_grpc.ids.evidence.explanation import Explainer, UnusualFeature
from mods_grpc.ids.windows.window import WindowColumns

LOOKBACK_WINDOWS = 2
"""So many windows before the one that is judged are held, to compare it with."""


class WindowEvidence:
    """Counts the entities of records, and explains verdicts by them.

    Args:
        columns: The model's features.
        options: How records become windows.
        max_entries: Bound on the counts; None for exact ones.
    """

    def __init__(self, columns: WindowColumns, options: AggregatorOptions, max_entries: int | None = MAX_ENTRIES) -> None:
        self._keys = dict(zip(columns.names, columns.keys, strict=True))
        self._window_ns = options.window_seconds * NANOS_PER_SECOND
        counts = EntityCounts(
            columns.definition,
            options.pane_ns,
            max_entries=max_entries,
            by_host=options.group_by is GroupBy.HOST,
        )
        self._counts, self._explainer = counts, Explainer(counts, self._window_ns)
        self.observe = counts.observe

    def close_before(self, ns: int) -> None:
        """Bound the counts of the time before: no record of it comes any more."""
        self._counts.close_before(ns)

    def explain(self, verdict: Verdict, episode_start: datetime) -> Evidence | None:
        """Return which entities made a verdict; None if it has no features, or no records of its window are held."""
        unusual = [
            UnusualFeature(
                name=feature.feature,
                key=self._keys[feature.feature],
                share=feature.share,
                is_fall=is_fall(feature),
            )
            for feature in verdict.features
            if feature.observed is not None and feature.feature in self._keys
        ]
        if not unusual:
            return None
        return self._explainer.explain(verdict.series, _to_ns(verdict.observe_time), _to_ns(episode_start), unusual)

    def finish(self, start_ns: int) -> None:
        """Forget what no later window than those that start at a time needs."""
        self._counts.forget_before(start_ns - LOOKBACK_WINDOWS * self._window_ns, uids_ns=start_ns)
        self._explainer.forget_before(start_ns)

    def state(self) -> dict[str, Any]:
        """Return the counts as values for JSON."""
        return {"counts": self._counts.state(), "before": self._explainer.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the counts by what `state` returned.

        Raises:
            DataError: They are damaged.
        """
        try:
            self._counts.restore(state["counts"])
            self._explainer.restore(state["before"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("the saved counts of entities are damaged") from error


def is_fall(feature: FeatureVerdict) -> bool | None:
    """Return whether a feature is unusually low; None if it is within its interval, where its evidence is of several windows."""
    if feature.observed is None or feature.lower <= feature.observed <= feature.upper:
        return None
    return feature.observed < feature.lower


def _to_ns(when: datetime) -> int:
    return round(when.timestamp()) * NANOS_PER_SECOND
