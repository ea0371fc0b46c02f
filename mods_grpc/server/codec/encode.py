"""Response messages from arrays: models, scores, verdicts and their explanations."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from mods_grpc.alarm_rules.reason import describe_peak
from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Indices, Times
from mods_grpc.detection import Alarm, Explanation, Outcome, Phase, Verdict, Verdicts, budget_from_significance, describe
from mods_grpc.protobuf.arrays import duration_from_seconds, timestamp_from_nanos
from mods_grpc.protobuf.wire import encode_length_delimited
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

STATUS_OF = {
    Outcome.SCORED: verdict_pb2.VERDICT_STATUS_SCORED,
    Outcome.WARMING_UP: verdict_pb2.VERDICT_STATUS_WARMING_UP,
    Outcome.DUPLICATE: verdict_pb2.VERDICT_STATUS_DUPLICATE,
    Outcome.LATE: verdict_pb2.VERDICT_STATUS_LATE,
    Outcome.CONFLICT: verdict_pb2.VERDICT_STATUS_REJECTED,
    Outcome.OFF_GRID: verdict_pb2.VERDICT_STATUS_REJECTED,
    Outcome.INCOMPLETE: verdict_pb2.VERDICT_STATUS_REJECTED,
}
PHASE_OF = {
    Phase.STARTED: verdict_pb2.EPISODE_PHASE_STARTED,
    Phase.ONGOING: verdict_pb2.EPISODE_PHASE_ONGOING,
    Phase.ENDED: verdict_pb2.EPISODE_PHASE_ENDED,
}
_STATUS_TABLE = np.array([STATUS_OF.get(value, 0) for value in range(max(Outcome) + 1)], np.uint8)  # type: ignore[call-overload]
_STATUS_LIST = _STATUS_TABLE.tolist()
_SCORE_FIELDS = (
    pb.ScoreColumns.OBSERVE_TIME_UNIX_NANO_FIELD_NUMBER,
    pb.ScoreColumns.STATUS_FIELD_NUMBER,
    pb.ScoreColumns.P_VALUE_FIELD_NUMBER,
    pb.ScoreColumns.ANOMALOUS_FIELD_NUMBER,
)
_SCORED, _NO_PHASE = int(Outcome.SCORED), int(Phase.NONE)


def encode_served_model(model: LoadedModel) -> pb.ServedModel:
    """Name the model that answered."""
    return pb.ServedModel(name=model.manifest.name, version=model.manifest.version, digest=model.digest)


def encode_opened(
    model: LoadedModel,
    config: ServerConfig,
    *,
    significance: float,
    state: "pb.StateOrigin.ValueType",
    series_held: int,
    last_times: Times,
) -> pb.StreamOpened:
    """Describe a stream to its client.

    Args:
        model: The model.
        config: The limits.
        significance: The significance level in force.
        state: Whether the sensor's series were held.
        series_held: Number of series that the sensor already has.
        last_times: Time of the last row of each series that the client asked about, `(n,)`, nanoseconds; 0 where there is none.
    """
    manifest = model.manifest
    budget = budget_from_significance(significance, manifest.slide_seconds, manifest.calibration)
    limits = pb.StreamLimits(
        max_observations=config.max_observations,
        max_series=config.max_series_per_sensor,
        max_impute_rows=config.max_impute_rows,
        state_idle_time=duration_from_seconds(config.state_idle_seconds),
        stream_idle_time=duration_from_seconds(config.stream_idle_seconds),
    )
    return pb.StreamOpened(
        features=model.feature_names,
        window_rows=manifest.rows,
        window=duration_from_seconds(manifest.window_seconds),
        slide=duration_from_seconds(manifest.slide_seconds),
        significance=significance,
        false_alarms_per_day=budget,
        state=state,
        series_held=series_held,
        limits=limits,
        last_observe_time_unix_nano=last_times.tolist(),
        pane=[feature.pane for feature in manifest.features] if manifest.panes else (),
    )


def encode_statuses(verdicts: Verdicts) -> NDArray[np.uint8]:
    """Return the wire status of every observation, `(n,)`."""
    status: NDArray[np.uint8] = _STATUS_TABLE[verdicts.outcome]
    return status


def encode_scores(times: Times, status: NDArray[np.uint8], p_value: Floats, anomalous: Bools) -> pb.ScoreColumns:
    """Encode scores of observations, all `(n,)`, as columns; `status` is that of `encode_statuses`.

    The columns are parsed from their wire bytes, since assigning lists takes 20 times as long.
    """
    columns = (times.astype("<i8"), status, p_value.astype("<f8"), anomalous)
    fields = zip(_SCORE_FIELDS, columns, strict=True)
    return pb.ScoreColumns.FromString(b"".join(encode_length_delimited(number, column.tobytes()) for number, column in fields))


def select_rows_to_explain(verdicts: Verdicts, explain: int) -> Indices:
    """Return the indices of the observations that get a full verdict with an explanation."""
    if explain == verdict_pb2.EXPLAIN_NONE:
        return np.zeros(0, np.intp)
    if explain == verdict_pb2.EXPLAIN_ALL:
        return np.arange(len(verdicts.outcome))
    phase_changes = (verdicts.phase == Phase.STARTED) | (verdicts.phase == Phase.ENDED)
    return np.flatnonzero(verdicts.anomalous | phase_changes)


def encode_explained(
    model: LoadedModel, verdicts: Verdicts, times: Times, names: Iterable[str], indices: Indices, significance: float
) -> list[verdict_pb2.Verdict]:
    """Encode full verdicts: with episode, features and reason.

    Args:
        model: The model that scored them.
        verdicts: Of n observations.
        times: `(n,)` nanoseconds.
        names: The series of the observations `indices`.
        indices: The observations to encode, `(k,)`.
        significance: Level of the intervals.
    """
    if not indices.size:
        return []
    messages = [
        encode_plain(verdicts, index, int(times[index]), name) for index, name in zip(indices.tolist(), names, strict=True)
    ]
    explanation = verdicts.explain(indices)
    interval = model.detector.interval(
        times[indices], verdicts.forecast[indices], explanation.scale, significance, explanation.quantiles
    )
    _add_explanations(messages, model, verdicts.observed[indices], verdicts.expected[indices], interval, explanation)
    return messages


def add_explanation(message: verdict_pb2.Verdict, model: LoadedModel, verdict: Verdict, time: int, significance: float) -> None:
    """Add features and reason to the message that `encode_verdict` made of a row at `time`, nanoseconds."""
    explanation = verdict.explain()
    interval = model.detector.interval(np.array([time]), verdict.forecast, explanation.scale, significance, explanation.quantiles)
    _add_explanations([message], model, verdict.observed, verdict.expected, interval, explanation)


def encode_plain(verdicts: Verdicts, index: int, time: int, name: str) -> verdict_pb2.Verdict:
    """Encode the verdict on one of several observations, without its explanation."""
    alarm = Alarm(
        score=float(verdicts.score[index]),
        anomalous=bool(verdicts.anomalous[index]),
        drift=bool(verdicts.drift[index]),
        phase=int(verdicts.phase[index]),
        start=int(verdicts.start[index]),
        peak_time=int(verdicts.peak_time[index]),
        peak=float(verdicts.peak[index]),
    )
    outcome, gap_filled, observe_time = int(verdicts.outcome[index]), int(verdicts.gap_filled[index]), timestamp_from_nanos(time)
    if outcome == _SCORED:
        p_value, out_of_distribution = float(verdicts.p_value[index]), bool(verdicts.out_of_distribution[index])
        return _encode_scored(name, observe_time, gap_filled, p_value, out_of_distribution, alarm)
    verdict = verdict_pb2.Verdict(series=name, observe_time=observe_time, status=_STATUS_LIST[outcome], gap_filled=gap_filled)
    if alarm.phase != _NO_PHASE:
        _add_episode(verdict, alarm)
    return verdict


def encode_verdict(verdict: Verdict, name: str, time: Timestamp) -> verdict_pb2.Verdict:
    """Encode the verdict on a single row, without its explanation."""
    return _encode_scored(name, time, verdict.gap_filled, verdict.p_value, verdict.out_of_distribution, verdict.alarm)


def _encode_scored(
    name: str, time: Timestamp, gap_filled: int, p_value: float, out_of_distribution: bool, alarm: Alarm
) -> verdict_pb2.Verdict:
    verdict = verdict_pb2.Verdict(
        series=name,
        observe_time=time,
        status=verdict_pb2.VERDICT_STATUS_SCORED,
        gap_filled=gap_filled,
        p_value=p_value,
        score=alarm.score,
        anomalous=alarm.anomalous,
        drift=alarm.drift,
        out_of_distribution=out_of_distribution,
    )
    if alarm.phase != _NO_PHASE:
        _add_episode(verdict, alarm)
    return verdict


def _add_episode(verdict: verdict_pb2.Verdict, alarm: Alarm) -> None:
    verdict.episode.id = _episode_id(alarm.start // NANOS_PER_SECOND)
    verdict.episode.phase = PHASE_OF[Phase(alarm.phase)]
    verdict.episode.start_time.CopyFrom(timestamp_from_nanos(alarm.start))
    verdict.episode.peak_time.CopyFrom(timestamp_from_nanos(alarm.peak_time))
    verdict.episode.peak_score = alarm.peak


@lru_cache(maxsize=1024)
def _episode_id(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _add_explanations(
    messages: list[verdict_pb2.Verdict],
    model: LoadedModel,
    observed: Floats,
    expected: Floats,
    interval: tuple[Floats, Floats],
    explanation: Explanation,
) -> None:
    """Add features and reason to verdicts on k rows; the arrays are `(k, features)`. Rows that were not scored get none."""
    names, (lower, upper) = model.feature_names, interval
    rows = zip(
        messages,
        observed.tolist(),
        expected.tolist(),
        lower.tolist(),
        upper.tolist(),
        explanation.feature_p.tolist(),
        explanation.share.tolist(),
        explanation.direction.tolist(),
        explanation.usual_peak.tolist(),
        strict=True,
    )
    for message, values, forecasts, lows, highs, p_values, shares, directions, peaks in rows:
        if message.status != verdict_pb2.VERDICT_STATUS_SCORED:
            continue
        features = zip(names, values, forecasts, lows, highs, p_values, shares, strict=True)
        for name, value, forecast, low, high, p_value, share in features:
            if math.isnan(value):
                message.features.add(feature=name, expected=forecast, lower=low, upper=high, share=share)
            else:
                message.features.add(
                    feature=name, observed=value, expected=forecast, lower=low, upper=high, p_value=p_value, share=share
                )
        top = shares.index(max(shares))
        if not math.isnan(peaks[top]):
            message.reason = describe_peak(names[top], values[top], peaks[top], shares[top], message.p_value)
            continue
        message.reason = describe(
            names[top],
            values[top],
            forecasts[top],
            lows[top],
            highs[top],
            shares[top],
            directions[top],
            message.p_value,
            model.minimum_values[top],
        )
