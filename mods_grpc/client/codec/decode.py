"""Decodes response messages into results."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mods_grpc.array_types import Times
from mods_grpc.client.codec.times import to_datetime, to_datetime64
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
from mods_grpc.protobuf.arrays import nanos_from_timestamp, seconds_from_duration, unpack_float64
from mods_grpc.v1 import inference_pb2, model_pb2, verdict_pb2


def _enum_names(wrapper: Any, prefix: str) -> Mapping[int, str]:
    return {number: name.removeprefix(prefix) for name, number in wrapper.items()}


def _enum_members(wrapper: Any, prefix: str, enum: Any) -> Mapping[int, Any]:
    return {number: enum[name] for number, name in _enum_names(wrapper, prefix).items() if name in enum.__members__}


_STATES = _enum_members(model_pb2.ModelState, "MODEL_STATE_", ModelState)
_STATUS = _enum_members(verdict_pb2.VerdictStatus, "VERDICT_STATUS_", VerdictStatus)
_PHASES = _enum_members(verdict_pb2.EpisodePhase, "EPISODE_PHASE_", EpisodePhase)
_KINDS = {number: name.lower() for number, name in _enum_names(model_pb2.FeatureKind, "FEATURE_KIND_").items() if number}


def decode_served_model(message: inference_pb2.ServedModel) -> ServedModel:
    """Decode the model version that answered."""
    return ServedModel(name=message.name, version=message.version, digest=message.digest)


def decode_model(message: model_pb2.Model) -> ModelInfo:
    """Decode the description of a model version."""
    features = tuple(
        FeatureInfo(
            name=feature.name,
            unit=feature.unit,
            protocol=feature.protocol,
            column=feature.column,
            kind=_KINDS.get(feature.kind, "unknown"),
            training_minimum=feature.training_minimum,
            training_maximum=feature.training_maximum,
            pane=feature.pane,
        )
        for feature in message.features
    )
    metrics = tuple(
        MetricInfo(metric=m.metric, feature=m.feature, step=m.step, value=m.value, persistence=m.persistence)
        for m in message.metrics
    )
    created = to_datetime(nanos_from_timestamp(message.create_time)) if message.HasField("create_time") else None
    return ModelInfo(
        name=message.name,
        version=message.version,
        state=_STATES.get(message.state, ModelState.UNKNOWN),
        failure=message.failure,
        digest=message.digest,
        provider=message.provider,
        features=features,
        window_rows=message.window_rows,
        horizon=message.horizon,
        window_seconds=seconds_from_duration(message.window),
        slide_seconds=seconds_from_duration(message.slide),
        architecture=message.architecture,
        parameters=message.parameters,
        create_time=created,
        training_range=message.training_range,
        test_range=message.test_range,
        metrics=metrics,
        default_false_alarms_per_day=message.default_false_alarms_per_day,
        smallest_p_value=message.smallest_p_value,
        calibration_days=message.calibration_days,
        envelope=message.envelope.decode(),
    )


def decode_forecast(
    response: inference_pb2.ForecastResponse,
    starts: Times,
    shape: tuple[int, int, int],
    coverages: tuple[float, ...],
) -> ForecastResult:
    """Decode forecasts in columns.

    Args:
        response: The answer.
        starts: Times of the first rows of the windows in the request, `(n,)` or `(1,)`, in nanoseconds.
        shape: Shape of the windows, `(n, rows, features)`.
        coverages: The requested coverages.
    """
    count, rows, features = shape
    batch, horizon = response.batch, response.horizon
    first = np.array(batch.first_forecast_time_unix_nano, dtype=np.int64)
    # The first forecast time is one slide after the window's last row.
    slide = (first - starts) // rows
    times = first[:, np.newaxis] + slide[:, np.newaxis] * np.arange(horizon)
    bounds_shape = (len(coverages), count, horizon, features)
    return ForecastResult(
        model=decode_served_model(response.model),
        features=tuple(response.features),
        values=unpack_float64(batch.values, (count, horizon, features)),
        coverages=coverages,
        lower=unpack_float64(batch.lower, bounds_shape, "lower"),
        upper=unpack_float64(batch.upper, bounds_shape, "upper"),
        times=to_datetime64(times),
        own_intervals=np.array(batch.own_intervals or [False] * count, np.bool_),
    )


def decode_detection(response: inference_pb2.DetectResponse) -> DetectResult:
    """Decode the verdicts on the one series of a request."""
    model, series = decode_served_model(response.model), response.series[0]
    scores = series.scores
    nanos = np.array(scores.observe_time_unix_nano, dtype=np.int64)
    return DetectResult(
        model=model,
        significance=response.significance,
        false_alarms_per_day=response.false_alarms_per_day,
        series=series.series,
        times=to_datetime64(nanos),
        status=decode_statuses(scores),
        p_values=unpack_float64(scores.p_value, (len(nanos),), "p_value"),
        anomalous=np.array(scores.anomalous, dtype=np.bool_),
        verdicts=tuple(decode_verdict(message, model) for message in series.verdicts),
    )


def decode_statuses(scores: inference_pb2.ScoreColumns) -> tuple[VerdictStatus, ...]:
    """Decode a column of statuses."""
    return tuple(_STATUS.get(number, VerdictStatus.UNKNOWN) for number in scores.status)


def decode_verdict(message: verdict_pb2.Verdict, model: ServedModel) -> Verdict:
    """Decode one full verdict."""
    return Verdict(
        series=message.series,
        observe_time=to_datetime(nanos_from_timestamp(message.observe_time)),
        status=_STATUS.get(message.status, VerdictStatus.UNKNOWN),
        p_value=message.p_value if message.HasField("p_value") else None,
        score=message.score if message.HasField("score") else None,
        anomalous=message.anomalous,
        episode=_decode_episode(message.episode) if message.HasField("episode") else None,
        drift=message.drift,
        out_of_distribution=message.out_of_distribution,
        gap_filled=message.gap_filled,
        features=tuple(_decode_feature(feature) for feature in message.features),
        reason=message.reason,
        model=model,
    )


def make_column_verdict(series: str, nanos: int, status: VerdictStatus, p: float, anomalous: bool, model: ServedModel) -> Verdict:
    """Make a verdict from the columns, which hold no episode and no explanation."""
    scored = status is VerdictStatus.SCORED and not math.isnan(p)
    return Verdict(
        series=series,
        observe_time=to_datetime(nanos),
        status=status,
        p_value=p if scored else None,
        score=(-math.log10(p) if p > 0 else math.inf) if scored else None,
        anomalous=anomalous,
        model=model,
    )


def _decode_episode(message: verdict_pb2.Episode) -> Episode:
    return Episode(
        id=message.id,
        phase=_PHASES.get(message.phase, EpisodePhase.UNKNOWN),
        start_time=to_datetime(nanos_from_timestamp(message.start_time)),
        peak_time=to_datetime(nanos_from_timestamp(message.peak_time)),
        peak_score=message.peak_score,
    )


def _decode_feature(message: verdict_pb2.FeatureVerdict) -> FeatureVerdict:
    return FeatureVerdict(
        feature=message.feature,
        observed=message.observed if message.HasField("observed") else None,
        expected=message.expected,
        lower=message.lower,
        upper=message.upper,
        p_value=message.p_value if message.HasField("p_value") else None,
        share=message.share,
    )
