"""Evidence, members and rank of an alert as short texts, for formats whose fields are texts."""

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.evidence.evidence import DimensionEvidence, FeatureEvidence, Unit

MAX_VALUE_CHARACTERS = 80
MAX_NAMED = 3
"""Values of a dimension that a text names."""

MAX_MEMBERS = 50
"""Members that a text names; the JSON has more."""

_UNITS = {Unit.RECORDS: "", Unit.BYTES: " bytes", Unit.SECONDS: " s"}


def format_evidence(alert: Alert) -> str:
    """Write what made the leading feature unusual on one line, such as `source 203.0.113.7 93 of 103`; empty without evidence."""
    leading = None if alert.evidence is None else alert.evidence.leading
    if leading is None:
        return ""
    return "; ".join(filter(None, (_format_dimension(each, leading) for each in leading.dimensions)))


def format_members(alert: Alert) -> str:
    """Write the series of a rolled-up alert, parted by commas; empty if there are none."""
    names = [_shorten(member.series) for member in alert.members[:MAX_MEMBERS]]
    more = alert.member_count - MAX_MEMBERS
    return ", ".join([*names, f"{more} more"] if more > 0 else names)


def format_rank(alert: Alert) -> str:
    """Write the rank of an alert, such as `2 of 17`; empty if it is not known."""
    return "" if alert.rank is None else f"{alert.rank.position} of {alert.rank.total}"


def leading_count(alert: Alert) -> int | None:
    """Return how many records, bytes or seconds the leading feature has in the window; None without evidence."""
    leading = None if alert.evidence is None else alert.evidence.leading
    return None if leading is None else round(leading.total)


def _format_dimension(dimension: DimensionEvidence, feature: FeatureEvidence) -> str:
    entities = [entity for entity in dimension.entities if entity.share > 0][: 1 if dimension.dominant else MAX_NAMED]
    if not entities:
        return ""
    # of a fall the entities are what is missing, so that the count before is the larger one
    values = ", ".join(
        f"{_shorten(entity.value)} {_format_number(entity.before if feature.is_fall else entity.count)}" for entity in entities
    )
    whole = f"{_format_number(feature.before if feature.is_fall else feature.total)}{_UNITS[feature.unit]}"
    name = dimension.dimension.replace("_", " ")
    more = dimension.distinct - len(entities)
    spread = f" ({dimension.distinct}{' or more' if dimension.is_capped else ''} in all)" if more > 0 else ""
    return f"{name} {values} of {whole}{' missing' if feature.is_fall else ''}{spread}"


def _format_number(value: float) -> str:
    return f"{round(value)}"


def _shorten(value: str) -> str:
    return value if len(value) <= MAX_VALUE_CHARACTERS else f"{value[:MAX_VALUE_CHARACTERS]}..."
