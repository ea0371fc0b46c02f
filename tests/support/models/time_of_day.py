"""The tiny model with the features and windows of `live_day`."""

from mods_grpc.artifact import FeatureSpec
from tests.support.models.tiny import publish_tiny

WINDOW, SLIDE = 1200, 60


def publish_day_model(repository):
    features = tuple(
        FeatureSpec(
            name=name,
            unit="connections",
            protocol=protocol,
            column=column,
            kind=kind,
            aggregation="count",
            training_minimum=0.0,
            training_maximum=1500.0,
        )
        for name, protocol, column, kind in (("conn_in", "conn", "in_count_uid", "count"), ("ssh_in", "ssh", "in", "sum"))
    )
    publish_tiny(repository, features=features, window_seconds=WINDOW, slide_seconds=SLIDE)
