"""Evidence by dimension, as the tests of sentences write it."""

from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit


def entities(*rows):
    """Return entities, each of value, count, count before and share."""
    return tuple(Entity(value=value, count=count, before=before, share=share) for value, count, before, share in rows)


def dimension(name, *rows, distinct=None, **others):
    """Return the evidence of a dimension with entities as in `entities`."""
    return DimensionEvidence(dimension=name, entities=entities(*rows), distinct=distinct or len(rows), **others)


def evidence(*dimensions, feature="http_in", column="in", unit=Unit.RECORDS, is_fall=False, total=103.0, before=12.0):
    """Return evidence of one feature."""
    about = FeatureEvidence(
        feature=feature,
        protocol="http",
        column=column,
        unit=unit,
        is_fall=is_fall,
        total=total,
        before=before,
        dimensions=dimensions,
    )
    return Evidence(features=(about,))


FOUR_SOURCES = dimension(
    Dimension.SOURCE,
    ("203.0.113.7", 61, 0, 0.62),
    ("198.51.100.3", 20, 0, 0.2),
    ("198.51.100.4", 10, 3, 0.1),
    distinct=9,
    covering=4,
    covered=96.0,
)
