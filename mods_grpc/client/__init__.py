"""The client library: `Client`, its results, and streams that reconnect by themselves."""

from mods_grpc.client.client import Client
from mods_grpc.client.pane_recovery import PaneRecovery, PaneState
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
from mods_grpc.client.streaming.row_history import RowHistory
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
    "PaneRecovery",
    "PaneState",
    "ResumePolicy",
    "RowHistory",
    "ServedModel",
    "Verdict",
    "VerdictStatus",
]
