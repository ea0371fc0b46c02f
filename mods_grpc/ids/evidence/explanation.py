"""From counts to evidence: which entities of a series rose or fell most between two times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.definitions import FEATURES, Feature
from mods_grpc.ids.evidence.counts import EntityCounts, Side, Totals, split_flow
from mods_grpc.ids.evidence.dimensions import weight_of
from mods_grpc.ids.evidence.evidence import (
    MAX_ENTITIES,
    MAX_UIDS,
    Dimension,
    DimensionEvidence,
    Entity,
    Evidence,
    FeatureEvidence,
)

COVERING_SHARE = 0.9
MAX_FEATURES = 5
MIN_SHARE = 0.05  # of the score, below which a feature needs no evidence, the one with the largest share apart
MIN_UID_SHARE = 0.1  # of the excess, below which an entity beside a dominant one is no matter of the alert
MAX_PINNED_VALUES = 1_024
PINNED_SECONDS = 2 * 86_400

_FEATURES = {feature.key: feature for feature in FEATURES}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnusualFeature:
    """A feature with a share of the score.

    Attributes:
        name: Its name in the model.
        key: The aggregate that it is, such as `conn|in_count_uid`.
        share: Its share of the score, 0 to 1.
        is_fall: Whether it is lower than expected; None to tell by what was counted before.
    """

    name: str
    key: str
    share: float
    is_fall: bool | None


@dataclass(frozen=True, slots=True)
class _Before:
    """What a series counted before an episode, scaled to a window: start and end of the time, and counts.

    `covered` is the share of the time for which counts were held; the counts are by feature and dimension.
    """

    episode_ns: int
    start_ns: int
    end_ns: int
    covered: float
    counts: Mapping[tuple[str, Dimension], dict[str, float]]


class Explainer:
    """Finds what made the windows of series unusual.

    What a series counted before an episode is remembered while the episode is open, so that each of its windows is compared with
    that, and not with a time in which the same was already going on.

    Args:
        counts: Counts of entities.
        window_ns: Length of a window in nanoseconds.
    """

    def __init__(self, counts: EntityCounts, window_ns: int) -> None:
        self.counts = counts
        self._window_ns = window_ns
        self._before: dict[str, _Before] = {}

    def explain(self, series: str, start_ns: int, episode_ns: int, unusual: Sequence[UnusualFeature]) -> Evidence | None:
        """Return what made a window unusual; None if no records of it are held.

        Args:
            series: The series.
            start_ns: Start of the window.
            episode_ns: Start of the first window of its episode.
            unusual: The features with a share of the score, in any order.
        """
        self.counts.count_pending()
        end_ns = start_ns + self._window_ns
        ordered = sorted(unusual, key=lambda feature: -feature.share)
        chosen = [each for place, each in enumerate(ordered[:MAX_FEATURES]) if place == 0 or each.share >= MIN_SHARE]
        if not self.counts.covers(start_ns, end_ns):
            return None
        before = self._find_before(series, start_ns, episode_ns)
        features = tuple(
            self._explain_feature(series, start_ns, end_ns, each, before) for each in chosen if each.key in _FEATURES
        )
        if not features:
            return None
        return self._finish(series, start_ns, end_ns, features, before)

    def _find_before(self, series: str, start_ns: int, episode_ns: int) -> _Before:
        """Return what was counted before the episode, or if that is not known before the window."""
        pinned = self._before.get(series)
        if pinned is not None and pinned.episode_ns == episode_ns:
            return pinned
        end_ns = min(start_ns, episode_ns)
        if self.counts.covers(end_ns - self._window_ns, end_ns) < 1 <= self.counts.covers(start_ns - self._window_ns, start_ns):
            end_ns = start_ns
        before_ns = end_ns - self._window_ns
        counts: dict[tuple[str, Dimension], dict[str, float]] = {}
        covered = self.counts.covers(before_ns, end_ns)
        for feature in _FEATURES.values():
            side = Side(feature.protocol, feature.measure.is_own)
            plan = self.counts.plans.get(side)
            if plan is not None and weight_of(feature) in plan.weights and feature.direction in plan.directions:
                for dimension in plan.readers:
                    if (_before_key(feature), dimension) in counts:
                        continue
                    values = self._totals(feature, dimension, series, before_ns, end_ns).counts
                    largest = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:MAX_PINNED_VALUES]
                    if largest:
                        counts[_before_key(feature), dimension] = {text: count / covered for text, count in largest}
        pinned = self._before[series] = _Before(episode_ns, before_ns, end_ns, covered, counts)
        return pinned

    def _totals(self, feature: Feature, dimension: Dimension, series: str, start_ns: int, end_ns: int) -> Totals:
        side = Side(feature.protocol, feature.measure.is_own)
        return self.counts.totals(side, dimension, series, feature.direction, weight_of(feature), start_ns, end_ns)

    def _explain_feature(
        self, series: str, start_ns: int, end_ns: int, unusual: UnusualFeature, before: _Before
    ) -> FeatureEvidence:
        feature = _FEATURES[unusual.key]
        readers = self.counts.plans[Side(feature.protocol, feature.measure.is_own)].readers
        counted = {dimension: self._totals(feature, dimension, series, start_ns, end_ns) for dimension in readers}
        past = {dimension: before.counts.get((_before_key(feature), dimension), {}) for dimension in readers}
        total = max(sum(now.counts.values()) + now.dropped for now in counted.values())
        total_before = max(sum(counts.values()) for counts in past.values())
        is_fall = unusual.is_fall if unusual.is_fall is not None else total < total_before
        dimensions = [
            _compare(dimension, now, past[dimension], is_fall=is_fall)
            for dimension, now in counted.items()
            if now.counts or past[dimension]
        ]
        dimensions.sort(key=lambda each: each.dominant is None)
        return FeatureEvidence(
            feature=unusual.name,
            protocol=feature.protocol,
            column=feature.column,
            unit=weight_of(feature).unit,
            is_fall=is_fall,
            total=total,
            before=total_before,
            dimensions=tuple(dimensions),
        )

    def _finish(
        self, series: str, start_ns: int, end_ns: int, features: tuple[FeatureEvidence, ...], before: _Before
    ) -> Evidence:
        leading = features[0]
        feature = _FEATURES[f"{leading.protocol}|{leading.column}"]
        source, destination = _dominant(leading, Dimension.SOURCE), _dominant(leading, Dimension.DESTINATION)
        if self.counts.by_host and _is_address(series):
            if feature.direction == "in":
                destination = series
            elif feature.direction == "out" or feature.measure.is_own:
                source = series
        port, _, transport = (_dominant(leading, Dimension.PORT) or "").partition("/")
        flows = () if leading.is_fall else self._find_flows(feature, leading, series, start_ns, end_ns)
        return Evidence(
            features=features,
            source_ip=source,
            destination_ip=destination,
            destination_port=int(port) if port.isdecimal() else None,
            transport=transport or (port if port and not port.isdecimal() else None),
            uids=tuple(filter(None, dict.fromkeys(uid for uid, _ in flows)))[:MAX_UIDS],
            community_ids=tuple(filter(None, dict.fromkeys(community_id for _, community_id in flows)))[:MAX_UIDS],
            before_start=_to_time(before.start_ns) if before.covered else None,
            before_end=_to_time(before.end_ns) if before.covered else None,
        )

    def _find_flows(
        self, feature: Feature, leading: FeatureEvidence, series: str, start_ns: int, end_ns: int
    ) -> tuple[tuple[str, str], ...]:
        """Return uids and community ids of the leading entities of the dimension that says most, so that they fit the alert.

        Those of a second dimension, such as of the only host that is ever reached, would be of whoever else has its value.
        """
        far = Dimension.DESTINATION if feature.direction == "out" else Dimension.SOURCE
        ends = {Dimension.SOURCE, Dimension.DESTINATION}
        chosen = [each for each in leading.dimensions if each.dimension in ends or each.dominant is not None]
        chosen.sort(
            key=lambda each: (
                each.dominant is None,
                leading.is_usual(each),
                each.dimension not in ends,
                each.dimension is not far,
            )
        )
        for each in chosen:
            of_value = self._totals(feature, each.dimension, series, start_ns, end_ns).flows
            entities = [entity for entity in each.entities if each.dominant is None or entity.share >= MIN_UID_SHARE]
            flows = dict.fromkeys(flow for entity in entities for flow in of_value.get(entity.value, ()))
            if flows:
                return tuple(map(split_flow, flows))
        return ()

    def forget_before(self, ns: int) -> None:
        """Forget what was counted before episodes that began long before a time."""
        limit = ns - PINNED_SECONDS * NANOS_PER_SECOND
        self._before = {series: each for series, each in self._before.items() if each.episode_ns >= limit}

    def state(self) -> list[Any]:
        """Return what was counted before open episodes as values for JSON."""
        return [
            [
                [series, each.episode_ns, each.start_ns, each.end_ns, each.covered],
                [[key, str(dimension), values] for (key, dimension), values in each.counts.items()],
            ]
            for series, each in self._before.items()
        ]

    def restore(self, state: list[Any]) -> None:
        """Replace it by what `state` returned."""
        self._before = {
            str(series): _Before(
                int(episode),
                int(start),
                int(end),
                float(covered),
                {(str(key), Dimension(dimension)): dict(values) for key, dimension, values in counts},
            )
            for (series, episode, start, end, covered), counts in state
        }


def _before_key(feature: Feature) -> str:
    """Return what is the same of features that count the same of the same records."""
    weight = weight_of(feature)
    return f"{feature.protocol} {feature.direction} {feature.measure.is_own} {weight.attribute} {weight.is_true}"


def _compare(dimension: Dimension, now: Totals, past: Mapping[str, float], *, is_fall: bool) -> DimensionEvidence:
    sign = -1.0 if is_fall else 1.0
    changes = {text: sign * (now.counts.get(text, 0.0) - past.get(text, 0.0)) for text in now.counts.keys() | past.keys()}
    rises = {text: change for text, change in changes.items() if change > 0}
    excess = sum(rises.values())
    leaders = sorted(rises, key=lambda text: (-rises[text], -now.counts.get(text, 0.0), text))[:MAX_ENTITIES]
    entities = tuple(
        Entity(value=text, count=now.counts.get(text, 0.0), before=past.get(text, 0.0), share=rises[text] / excess)
        for text in leaders
    )
    largest = np.array(sorted(now.counts.values(), reverse=True))
    all_of_it = float(largest.sum()) + now.dropped
    sums = np.cumsum(largest)
    covering = int(np.searchsorted(sums, COVERING_SHARE * all_of_it - 1e-9)) + 1 if len(sums) else 0
    is_covered = 0 < covering <= len(sums)
    return DimensionEvidence(
        dimension=dimension,
        entities=entities,
        distinct=len(now.counts),
        is_capped=now.dropped > 0,
        covering=covering if is_covered else 0,
        covered=float(sums[covering - 1]) if is_covered else 0.0,
        max_error=now.max_error,
    )


def _dominant(feature: FeatureEvidence, dimension: Dimension) -> str | None:
    evidence = feature.dimension(dimension)
    dominant = evidence and evidence.dominant
    return dominant.value if dominant else None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _to_time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC)
