"""The client library.

with Client("127.0.0.1:50051") as client:
    for verdict in client.stream_detect(observations):
        ...
"""

from mods_grpc.client.client import Client
from mods_grpc.client.results import (
    DetectResult,
    Episode,
    EpisodePhase,
    FeatureInfo,
    FeatureVerdict,
    ForecastResult,
    MetricInfo,
    ModelInfo,
    ModelState,
    ServedModel,
    Verdict,
    VerdictStatus,
)
from mods_grpc.client.streaming.observations import Observation, ObservationBatch
from mods_grpc.client.streaming.reconnecting import ResumePolicy
from mods_grpc.client.streaming.stream import DetectStream, OpenedStream

__all__ = [
    "Client",
    "DetectResult",
    "DetectStream",
    "Episode",
    "EpisodePhase",
    "FeatureInfo",
    "FeatureVerdict",
    "ForecastResult",
    "MetricInfo",
    "ModelInfo",
    "ModelState",
    "Observation",
    "ObservationBatch",
    "OpenedStream",
    "ResumePolicy",
    "ServedModel",
    "Verdict",
    "VerdictStatus",
]
