"""The evidence of an alert in words: who made it, and what they did."""

from collections.abc import Iterator
from dataclasses import dataclass

from mods_grpc.alarm_rules.reason import format_number
from mods_grpc.ids.alerts.sentences.wording import format_percent, format_quantity, round_finite, shorten
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence

ALMOST_ALL = 0.9  # share of the excess from which on one entity alone is named
MAX_COVERING = 20  # entities that still count as few
SPREAD_SHARE = 0.1  # no entity with so large a share: their number says more than their names
MIN_MANY = 10  # so many entities are worth a mention by their number
MIN_CHANGED_PART = 0.1  # of all in the window, or before, below which a change of a value is no matter of the alert
NOTABLE_BEFORE = 0.1  # a count before, relative to the one in the window, that is worth a mention

_HOSTS = (Dimension.SOURCE, Dimension.DESTINATION)
_SECONDARY = (
    Dimension.PORT,
    Dimension.SIGNATURE,
    Dimension.NAME,
    Dimension.PATH,
    Dimension.DOMAIN,
    Dimension.QUERY,
    Dimension.SERVER_NAME,
    Dimension.HOST,
    Dimension.USER_AGENT,
    Dimension.CLIENT,
    Dimension.AUTH,
    Dimension.QUERY_TYPE,
    Dimension.RCODE,
    Dimension.STATUS,
    Dimension.CONN_STATE,
    Dimension.SERVICE,
    Dimension.METHOD,
)
"""Dimensions besides hosts, those that say most first."""

_PLAIN = _SECONDARY[_SECONDARY.index(Dimension.QUERY_TYPE) :]  # say nothing where their value is the usual one
_ORDINARY_STATES = ("SF", "established", "closed")  # of connections that went well
_PORTS_OF_SERVICES = {"dns": "53", "http": "80", "ntp": "123", "smtp": "25", "ssh": "22", "ssl": "443"}  # and need no mention

_COUNTED_BY_NUMBER = {Dimension.PORT, Dimension.PATH, Dimension.QUERY, Dimension.DOMAIN, Dimension.SERVER_NAME, Dimension.HOST}
_LABELS = {
    Dimension.SOURCE: "",
    Dimension.DESTINATION: "",
    Dimension.PATH: "",
    Dimension.SIGNATURE: "",
    Dimension.NAME: "",
}
_PLURALS = {
    Dimension.QUERY: "queries",
    Dimension.STATUS: "statuses",
    Dimension.AUTH: "results of log-ins",
    Dimension.CONN_STATE: "connection states",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """How much a sentence says: entities of a dimension, further dimensions, and characters of a name."""

    entities: int
    dimensions: int
    width: int


DETAILS = (
    Detail(entities=3, dimensions=3, width=60),
    Detail(entities=3, dimensions=2, width=48),
    Detail(entities=2, dimensions=2, width=40),
    Detail(entities=2, dimensions=1, width=32),
    Detail(entities=1, dimensions=1, width=32),
    Detail(entities=1, dimensions=0, width=24),
)
"""From the most to the least."""


def describe_evidence(evidence: Evidence, *, series: str = "", max_length: int = 160) -> str:
    """Return who made an alert, such as "4 sources account for 96 of 103: 203.0.113.7 (61), 198.51.100.3 (20), ...".

    Args:
        evidence: Its evidence.
        series: The series of the alert: where it is a host, that is not repeated.
        max_length: Characters at most.

    Returns:
        One line; empty if nothing is known of who made it.
    """
    text = ""
    for detail in DETAILS:
        text = "; ".join(evidence_clauses(evidence, detail, series))
        if len(text) <= max_length:
            return text
    return shorten(text, max_length)


def evidence_clauses(evidence: Evidence, detail: Detail, series: str, feature: str = "") -> list[str]:
    """Return the parts of the evidence text, the one that says most first.

    Args:
        evidence: The evidence.
        detail: How much to say.
        series: The series of the alert.
        feature: The feature to write about; that with the largest share if it is empty or there is no evidence of it.
    """
    about = find_feature(evidence, feature)
    if about is None:
        return []
    chosen = list(_choose(about, series))[: 1 + detail.dimensions]
    clauses = [_lead(about, chosen[0], detail)] if chosen else []
    clauses += [_follow(about, each, detail) for each in chosen[1:]]
    error = max((each.max_error for each in chosen), default=0.0)
    if error > 0:
        clauses.append(f"counts may be up to {format_quantity(error, about.unit)} too low")
    return clauses


def leading_entity(evidence: Evidence, detail: Detail, series: str, feature: str = "") -> str:
    """Return the entity that leads, such as "from 203.0.113.7", of a fall "missing 203.0.113.7"; empty if there is none.

    Arguments as of `evidence_clauses`.
    """
    about = find_feature(evidence, feature)
    first = None if about is None else next(_choose(about, series), None)
    if about is None or first is None:
        return ""
    if about.is_fall:
        if first.dominant is None or first.dimension is _ends(about)[1]:
            return ""
        return f"missing {_name(first.dimension, first.entities[0], detail.width)}"
    if first.dominant is None and first.distinct > 1:
        return f"{_preposition(first.dimension)}{_number(first)} {_plural(first.dimension)}"
    return _preposition(first.dimension) + _name(first.dimension, first.entities[0], detail.width)


def find_feature(evidence: Evidence, feature: str) -> FeatureEvidence | None:
    """Return the evidence of a feature, or where there is none that with the largest share."""
    return next((each for each in evidence.features if each.feature == feature), evidence.leading)


def _choose(feature: FeatureEvidence, series: str) -> Iterator[DimensionEvidence]:
    """Yield the dimensions worth a mention: the far end of the traffic first, unless another says more.

    That is so where the far end is as usual, and of a fall where no host stands for what is missing.
    """
    far, near = _ends(feature)
    present = [each for each in map(feature.dimension, (far, near, *_SECONDARY)) if each is not None and each.entities]
    notable = [each for each in present if _is_notable(feature, each, series)]
    notable.sort(key=feature.is_usual)
    first = next((each for each in present if each.dimension is far), None)
    says_little = first is None or feature.is_usual(first) or (feature.is_fall and first.dominant is None)
    if says_little and (first is None or (notable and notable[0].dominant is not None)):
        first = next(iter(notable or present), None)
    if first is not None:
        yield first
        yield from (each for each in notable if each is not first)


def _ends(feature: FeatureEvidence) -> tuple[Dimension, Dimension]:
    """Return the far and the near end of the traffic."""
    is_outbound = feature.column.startswith("out") or feature.feature.endswith("_out")
    return (Dimension.DESTINATION, Dimension.SOURCE) if is_outbound else _HOSTS


def _is_notable(feature: FeatureEvidence, each: DimensionEvidence, series: str) -> bool:
    """Return whether a dimension tells a reader more than the feature and the series do."""
    top = each.dominant
    if top is None:
        return not feature.is_fall and each.distinct >= MIN_MANY and each.dimension in {*_HOSTS, *_COUNTED_BY_NUMBER}
    if top.value == series or (each.dimension is Dimension.CONN_STATE and top.value in _ORDINARY_STATES):
        return False
    if abs(top.count - top.before) < MIN_CHANGED_PART * max(feature.total, feature.before):
        return False
    if each.dimension is Dimension.SERVICE and _is_told_by_port(feature, top.value):
        return False
    if feature.is_fall:
        return each.dimension not in _PLAIN or top.before < ALMOST_ALL * feature.before
    return each.dimension not in {*_PLAIN, _ends(feature)[1]} or not feature.is_usual(each)


def _is_told_by_port(feature: FeatureEvidence, service: str) -> bool:
    ports = feature.dimension(Dimension.PORT)
    number = "" if ports is None or ports.dominant is None else ports.dominant.value.partition("/")[0]
    return number != "" and number == _PORTS_OF_SERVICES.get(service)


def _lead(feature: FeatureEvidence, each: DimensionEvidence, detail: Detail) -> str:
    """Return the entities of the dimension that says most."""
    top = each.entities[0]
    listed = _list(feature, each, detail)
    if feature.is_fall:
        return f"missing: {_preposition(each.dimension) if each.dimension is _ends(feature)[1] else ''}{listed}"
    if top.share >= ALMOST_ALL or (each.dominant and not 2 <= each.covering <= MAX_COVERING):
        return _follow(feature, each, detail)
    if 2 <= each.covering <= MAX_COVERING:
        total = format_quantity(each.covered, feature.unit)
        of = f" of {format_quantity(feature.total, feature.unit)}" if feature.total > each.covered else ""
        shown = min(each.covering, detail.entities)
        listed_count = sum(entity.count for entity in each.entities[:shown])
        is_among = listed_count == each.covered if shown == each.covering else listed_count <= each.covered
        names = f": {_list(feature, each, detail, shown)}" if is_among else f"; most of the rise: {listed}"
        return f"{each.covering} {_plural(each.dimension)} account for {total}{of}{names}"
    if top.share < SPREAD_SHARE and each.distinct >= MIN_MANY:
        return f"{_number(each)} {_plural(each.dimension)}, none above {format_percent(top.share)} of the rise"
    return f"{_plural(each.dimension)}: {listed}" if each.distinct > 1 else _follow(feature, each, detail)


def _follow(feature: FeatureEvidence, each: DimensionEvidence, detail: Detail) -> str:
    """Return the entity of a dimension that stands for the change, or the number of its entities."""
    top = each.entities[0]
    if each.dominant is None and each.distinct > 1:
        preposition = "to " if each.dimension is Dimension.DESTINATION else "from " if each.dimension is Dimension.SOURCE else ""
        return f"{preposition}{_number(each)} {_plural(each.dimension)}"
    mostly = "" if top.share >= ALMOST_ALL else "mostly "
    return f"{mostly}{_preposition(each.dimension)}{_name(each.dimension, top, detail.width)} ({_count(feature, top)})"


def _list(feature: FeatureEvidence, each: DimensionEvidence, detail: Detail, limit: int = 0) -> str:
    entities = each.entities[: limit or detail.entities]
    names = ", ".join(
        f"{_name(each.dimension, entity, detail.width)} ({_count(feature, entity, is_listed=True)})" for entity in entities
    )
    return names + (", ..." if max(each.distinct, each.covering, len(each.entities)) > len(entities) else "")


def _count(feature: FeatureEvidence, entity: Entity, *, is_listed: bool = False) -> str:
    count = format_quantity(entity.count, feature.unit)
    if feature.is_fall:
        return f"{count} of usually {format_quantity(entity.before, feature.unit)}"
    of = "" if is_listed or feature.total <= entity.count else f" of {format_quantity(feature.total, feature.unit)}"
    if round_finite(entity.before) >= max(1.0, NOTABLE_BEFORE * entity.count):
        return f"{count}{of}, usually {format_quantity(entity.before, feature.unit)}"
    return f"{count}{of}"


def _name(dimension: Dimension, entity: Entity, width: int) -> str:
    value = shorten(entity.value, width)
    return f"{value} log-ins" if dimension is Dimension.AUTH else _LABELS.get(dimension, f"{_words(dimension)} ") + value


def _preposition(dimension: Dimension) -> str:
    return {Dimension.SOURCE: "from ", Dimension.DESTINATION: "to "}.get(dimension, "")


def _plural(dimension: Dimension) -> str:
    return _PLURALS.get(dimension, f"{_words(dimension)}s")


def _words(dimension: Dimension) -> str:
    return str(dimension).replace("_", " ")


def _number(each: DimensionEvidence) -> str:
    return f"{'more than ' if each.is_capped else ''}{format_number(float(each.distinct))}"
