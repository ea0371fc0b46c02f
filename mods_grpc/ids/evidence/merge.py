"""Merges the evidence of several series in which one cause was seen."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TypeVar

from mods_grpc.ids.evidence.evidence import (
    MAX_ENTITIES,
    MAX_UIDS,
    Dimension,
    DimensionEvidence,
    Entity,
    Evidence,
    FeatureEvidence,
)

_COVERED_SHARE = 0.9  # of the total that `covering` values have

Value = TypeVar("Value", str, int)


def merge_evidence(parts: Sequence[Evidence]) -> Evidence:
    """Return the evidence of several series together.

    Counts are added by feature, dimension and value. A value that a part does not name may be among what that part does not
    list, by which the sum may be too low; `max_error` says by how much. A record that two series share counts twice.

    Args:
        parts: One or more, that of the strongest series first: its features come first, in its order.
    """
    if len(parts) == 1:
        return parts[0]
    by_feature: dict[tuple[str, bool], list[FeatureEvidence]] = {}
    for part in parts:
        for feature in part.features:
            by_feature.setdefault((feature.feature, feature.is_fall), []).append(feature)
    starts = [part.before_start for part in parts if part.before_start is not None]
    ends = [part.before_end for part in parts if part.before_end is not None]
    return Evidence(
        features=tuple(_merge_features(features) for features in by_feature.values()),
        source_ip=_common([part.source_ip for part in parts]),
        destination_ip=_common([part.destination_ip for part in parts]),
        destination_port=_common([part.destination_port for part in parts]),
        transport=_common([part.transport for part in parts]),
        uids=_take_in_turn([part.uids for part in parts]),
        community_ids=_take_in_turn([part.community_ids for part in parts]),
        before_start=min(starts, default=None),
        before_end=max(ends, default=None),
    )


def _common(values: Iterable[Value | None]) -> Value | None:
    """Return the value that all have; None if they differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _take_in_turn(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return ids of as many parts as possible, at most `MAX_UIDS`."""
    ids = dict.fromkeys(each for each in chain.from_iterable(zip_longest(*parts)) if each is not None)
    return tuple(ids)[:MAX_UIDS]


def _merge_features(features: list[FeatureEvidence]) -> FeatureEvidence:
    dimensions = dict.fromkeys(each.dimension for feature in features for each in feature.dimensions)
    merged = [_merge_dimension(dimension, features) for dimension in dimensions]
    merged.sort(key=lambda each: each.dominant is None)
    return replace(
        features[0],
        total=sum(feature.total for feature in features),
        before=sum(feature.before for feature in features),
        dimensions=tuple(merged),
    )


def _merge_dimension(dimension: Dimension, features: list[FeatureEvidence]) -> DimensionEvidence:
    parts = [(feature, feature.dimension(dimension)) for feature in features]
    total = sum(feature.total for feature in features)
    excess = [abs(feature.total - feature.before) for feature in features]
    counts: dict[str, float] = {}
    before: dict[str, float] = {}
    shares: dict[str, float] = {}
    errors: dict[str, float] = {}  # by value, by how much the error is less than if no part named it
    unnamed_error = sum(_unlisted(feature, part) for feature, part in parts)
    weights = [each / sum(excess) if sum(excess) else 1 / len(features) for each in excess]
    for (feature, part), weight in zip(parts, weights, strict=True):
        for entity in () if part is None else part.entities:
            counts[entity.value] = counts.get(entity.value, 0.0) + entity.count
            before[entity.value] = before.get(entity.value, 0.0) + entity.before
            shares[entity.value] = shares.get(entity.value, 0.0) + entity.share * weight
            saved = _unlisted(feature, part) - (0.0 if part is None else part.max_error)
            errors[entity.value] = errors.get(entity.value, 0.0) + saved
    named = sorted(counts, key=lambda value: (-shares[value], -counts[value], value))[:MAX_ENTITIES]
    distinct, is_capped = _count_distinct([part for _, part in parts], sum(count > 0 for count in counts.values()))
    covering, covered = _cover(counts.values(), total)
    return DimensionEvidence(
        dimension=dimension,
        entities=tuple(
            Entity(value=value, count=counts[value], before=before[value], share=min(1.0, shares[value])) for value in named
        ),
        distinct=distinct,
        is_capped=is_capped,
        covering=covering,
        covered=covered,
        max_error=max([max(0.0, unnamed_error - errors[value]) for value in named], default=0.0),
    )


def _unlisted(feature: FeatureEvidence, part: DimensionEvidence | None) -> float:
    """Return the most that one value may have that a part does not list."""
    if part is None:
        return feature.total
    if _lists_all(part):
        return part.max_error
    return max(part.max_error, feature.total - sum(entity.count for entity in part.entities))


def _lists_all(part: DimensionEvidence) -> bool:
    return not part.is_capped and len([entity for entity in part.entities if entity.count]) >= part.distinct


def _count_distinct(parts: Sequence[DimensionEvidence | None], listed: int) -> tuple[int, bool]:
    """Return a number of different values that there are at least, and whether there may be more."""
    if all(part is not None and _lists_all(part) for part in parts):
        return listed, False
    return max([listed, *(part.distinct for part in parts if part is not None)]), True


def _cover(counts: Iterable[float], total: float) -> tuple[int, float]:
    """Return how many of the largest counts have nine tenths of the total, and what they have; 0 if what is listed has less."""
    covered = 0.0
    for number, count in enumerate(sorted(counts, reverse=True), 1):
        covered += count
        if covered >= _COVERED_SHARE * total:
            return number, covered
    return 0, 0.0
