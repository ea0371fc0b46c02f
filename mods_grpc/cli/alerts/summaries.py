"""What the list shows of an alert or a notice: how strong it is, what was seen, and who made it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mods_grpc.cli.alerts.terminal_text import format_short
from mods_grpc.client import FeatureVerdict
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Severity, Trigger, can_be_negative, clamp_forecast
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice, NoticeState
from mods_grpc.ids.alerts.rule_alert import RuleAlert
from mods_grpc.ids.alerts.sentences.evidence_text import MAX_COVERING
from mods_grpc.ids.alerts.sentences.sentence import find_usual
from mods_grpc.ids.alerts.stored_alerts import StoredAlert
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence

KINDS = ("anomaly", "rule", "notice")
MIN_SHARE = 0.1
"""Share of the score from which on a feature is meant by `--feature`."""

_PLURALS = {
    Dimension.QUERY: "queries",
    Dimension.PORT: "ports",
    Dimension.STATUS: "statuses",
    Dimension.AUTH: "results",
    Dimension.QUERY_TYPE: "query types",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One alert or notice, as short as the list needs it.

    Attributes:
        id, parent_id: See `StoredAlert`.
        kind: `anomaly`, `rule` or `notice`.
        word: What it says of its episode: `start`, why a further alert was raised, `update`, `end`.
        start, end: The time that it is about, UTC.
        severity: Its severity.
        strength: How far it is beyond the level or the threshold, in powers of ten; orders those of one severity.
        series: The series, the host of a rule, or the log or feature of a notice.
        what: What was observed, in short.
        who: Who made it; empty if that is not known.
        is_end: Whether it ends its episode.
        is_chosen: Whether it is one of those that are asked for, see `Selection`.
    """

    id: str
    parent_id: str | None
    kind: str
    word: str
    start: datetime
    end: datetime
    severity: Severity
    strength: float
    series: str
    what: str
    who: str
    is_end: bool
    is_chosen: bool = True


def summarize(stored: StoredAlert, *, is_chosen: bool = True) -> Summary:
    """Return the summary of an alert or a notice."""
    item = stored.item
    start, end = (item.since, item.time) if isinstance(item, Notice) else (item.window_start, item.window_end)
    return Summary(
        id=stored.id,
        parent_id=stored.parent_id,
        kind=name_kind(item),
        word=_name_moment(item),
        start=start,
        end=end,
        severity=item.severity,
        strength=measure_strength(item),
        series=name_series(item),
        what=describe_what(item),
        who=describe_who(item),
        is_end=item.state is NoticeState.CLEARED if isinstance(item, Notice) else item.phase is AlertPhase.END,
        is_chosen=is_chosen,
    )


def name_kind(item: AlertOrNotice) -> str:
    """Return which of `KINDS` an alert or a notice is."""
    return "notice" if isinstance(item, Notice) else "rule" if isinstance(item, RuleAlert) else "anomaly"


def name_series(item: AlertOrNotice) -> str:
    """Return what an alert or a notice is about."""
    if isinstance(item, Notice):
        return item.subject or str(item.code)
    return item.host if isinstance(item, RuleAlert) else item.series


def measure_strength(item: AlertOrNotice) -> float:
    """Return how far an alert is beyond its level or threshold, in powers of ten."""
    if isinstance(item, Notice):
        return 0.0
    if isinstance(item, RuleAlert):
        return math.log10(max(1, item.count) / max(1, item.threshold))
    return item.peak_score + math.log10(item.significance)


def find_leading(alert: Alert) -> FeatureVerdict | None:
    """Return the feature with the largest share of the score; None without any."""
    return max(alert.features, key=lambda feature: feature.share, default=None)


def describe_what(item: AlertOrNotice) -> str:
    """Return what was observed, in short, or the count of a rule.

    That is the leading feature, with its band if it is outside of that, else with what was usual, if that is known.
    """
    if isinstance(item, Notice):
        return item.message
    if isinstance(item, RuleAlert):
        return f"{item.what} {format_short(item.count)} (≥{format_short(item.threshold)})"
    leading = find_leading(item)
    if leading is None:
        return item.reason
    observed = f"{leading.feature} {format_short(leading.observed)}"
    _, lower, upper = (leading.expected, leading.lower, leading.upper) if can_be_negative(leading) else clamp_forecast(leading)
    numbers = (leading.observed, lower, upper)
    is_known = all(each is not None and math.isfinite(each) for each in numbers)
    if leading.observed is not None and is_known and not lower <= leading.observed <= upper:
        return f"{observed} ({format_short(lower, 2)}-{format_short(upper, 2)})"
    usual = find_usual(item, leading)
    return observed if usual is None else f"{observed} (usual {format_short(usual)})"


def describe_who(item: AlertOrNotice) -> str:
    """Return who made an alert, in short: one host or name, or how many; empty if that is not known."""
    if isinstance(item, Notice):
        return ""
    if isinstance(item, RuleAlert):
        return item.source_ip
    evidence, leading = item.evidence, None if item.evidence is None else item.evidence.leading
    if evidence is not None and evidence.source_ip:
        return evidence.source_ip
    dimensions = () if leading is None else leading.dimensions
    for sources in (each for each in dimensions if each.dimension is Dimension.SOURCE):
        return _name_entities(sources)
    if evidence is not None and evidence.destination_ip:
        return evidence.destination_ip
    dominated = [each for each in dimensions if each.dominant is not None]
    for dimension in [*dominated, *dimensions]:
        return _name_entities(dimension)
    return f"in {item.member_count:,} series" if item.member_count else ""


def _name_entities(evidence: DimensionEvidence) -> str:
    """Return the value that stands for a change, or as the sentence does how many there are: the few that cover it, or all."""
    if evidence.dominant is not None:
        return evidence.dominant.value
    if 2 <= evidence.covering <= MAX_COVERING:
        return f"{evidence.covering:,} {name_dimension(evidence.dimension, evidence.covering)}"
    number, at_least = evidence.distinct, "+" if evidence.is_capped else ""
    return f"{number:,}{at_least} {name_dimension(evidence.dimension, number)}"


def name_dimension(dimension: Dimension, number: int = 1) -> str:
    """Return a dimension for people, such as `source` or `user agents`."""
    name = str(dimension).replace("_", " ")
    return name if number == 1 else _PLURALS.get(dimension, f"{name}s")


def list_features(item: AlertOrNotice) -> set[str]:
    """Return the features that made an alert."""
    if not isinstance(item, Alert):
        return set()
    of_evidence = () if item.evidence is None else item.evidence.features
    return {each.feature for each in item.features if each.share >= MIN_SHARE} | {each.feature for each in of_evidence}


def list_entities(item: AlertOrNotice) -> Iterator[str]:
    """Yield the hosts, names, ports and uids that an alert names, and what it is about."""
    yield name_series(item)
    if isinstance(item, RuleAlert):
        yield from filter(None, (item.source_ip, item.destination_ip, item.group))
        yield from (name for name, _ in item.top)
        yield from (*item.examples, *item.uids)
    if isinstance(item, Alert):
        yield from (member.series for member in item.members)
        if item.evidence is not None:
            yield from filter(None, (item.evidence.source_ip, item.evidence.destination_ip))
            yield from (*item.evidence.uids, *item.evidence.community_ids)
            for feature in item.evidence.features:
                yield from (entity.value for each in feature.dimensions for entity in each.entities)


def _name_moment(item: AlertOrNotice) -> str:
    if isinstance(item, Alert) and item.phase is AlertPhase.START and item.trigger is not Trigger.FIRST:
        return f"new {item.trigger}" if item.trigger in {Trigger.FEATURE, Trigger.ENTITY} else str(item.trigger)
    return str(item.state if isinstance(item, Notice) else item.phase)
