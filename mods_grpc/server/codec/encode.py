"""From arrays to response messages."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Alarm, Explanation, Outcome, Phase, Verdict, Verdicts, describe
from mods_grpc.protobuf.arrays import duration_from_seconds, timestamp_from_nanos
from mods_grpc.protobuf.wire import length_delimited_field
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loader import LoadedModel
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
_STATUS_TABLE = np.array([STATUS_OF.get(value, 0) for value in range(max(Outcome) + 1)], np.uint8)  # type: ignore[call-overload]
_STATUS_LIST = _STATUS_TABLE.tolist()
_SCORE_FIELDS = (
    pb.ScoreColumns.OBSERVE_TIME_UNIX_NANO_FIELD_NUMBER,
    pb.ScoreColumns.STATUS_FIELD_NUMBER,
    pb.ScoreColumns.P_VALUE_FIELD_NUMBER,
    pb.ScoreColumns.ANOMALOUS_FIELD_NUMBER,
)
_SCORED, _NO_PHASE = int(Outcome.SCORED), int(Phase.NONE)
PHASE_OF = {
    Phase.STARTED: verdict_pb2.EPISODE_PHASE_STARTED,
    Phase.ONGOING: verdict_pb2.EPISODE_PHASE_ONGOING,
    Phase.ENDED: verdict_pb2.EPISODE_PHASE_ENDED,
}


def encode_served_model(model: LoadedModel) -> pb.ServedModel:
    """Name the model that answered."""
    return pb.ServedModel(name=model.manifest.name, version=model.manifest.version, digest=model.digest)


def encode_opened(
    model: LoadedModel, config: ServerConfig, *, significance: float, state: "pb.StateOrigin.ValueType", held: int
) -> pb.StreamOpened:
    """Say what a client must know of its stream; `held` is how many of its series are there already."""
    manifest = model.manifest
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
        state=state,
        series_held=held,
        limits=limits,
    )


def status_column(verdicts: Verdicts) -> NDArray[np.uint8]:
    """Return the wire status of every observation, `(n,)`."""
    found: NDArray[np.uint8] = _STATUS_TABLE[verdicts.outcome]
    return found


def encode_scores(
    times: NDArray[np.int64], status: NDArray[np.uint8], p_value: NDArray[np.float64], anomalous: NDArray[np.bool_]
) -> pb.ScoreColumns:
    """Write scores of observations, all `(n,)`, as columns: as the bytes they are on the wire, since lists take 20 times as long.

    `status` is that of `statuses`.
    """
    columns = (times.astype("<i8"), status, p_value.astype("<f8"), anomalous)
    fields = zip(_SCORE_FIELDS, columns, strict=True)
    return pb.ScoreColumns.FromString(b"".join(length_delimited_field(number, column.tobytes()) for number, column in fields))


def rows_to_explain(verdicts: Verdicts, explain: int) -> NDArray[np.intp]:
    """Return the observations whose verdicts are written in full."""
    if explain == verdict_pb2.EXPLAIN_NONE:
        return np.zeros(0, np.intp)
    if explain == verdict_pb2.EXPLAIN_ALL:
        return np.arange(len(verdicts.outcome))
    changes = (verdicts.phase == Phase.STARTED) | (verdicts.phase == Phase.ENDED)
    return np.flatnonzero(verdicts.anomalous | changes)


def encode_explained(
    model: LoadedModel,
    verdicts: Verdicts,
    times: NDArray[np.int64],
    names: Iterable[str],
    at: NDArray[np.intp],
    significance: float,
) -> list[verdict_pb2.Verdict]:
    """Write verdicts in full: with episode, features and reason. `names` are the series of the observations `at`."""
    if not at.size:
        return []
    found = [encode_plain(verdicts, index, int(times[index]), name) for index, name in zip(at.tolist(), names, strict=True)]
    why = verdicts.explain(at)
    interval = model.detector.interval(times[at], verdicts.forecast[at], why.scale, significance)
    _add_explanations(found, model, verdicts.observed[at], verdicts.expected[at], interval, why)
    return found


def add_explanation(message: verdict_pb2.Verdict, model: LoadedModel, verdict: Verdict, time: int, significance: float) -> None:
    """Add features and reason to what `written` wrote of a row at `time`, nanoseconds."""
    why = verdict.explain()
    interval = model.detector.interval(np.array([time]), verdict.forecast, why.scale, significance)
    _add_explanations([message], model, verdict.observed, verdict.expected, interval, why)


def encode_plain(verdicts: Verdicts, index: int, time: int, name: str) -> verdict_pb2.Verdict:
    """Write one verdict without its explanation."""
    alarm = Alarm(
        score=float(verdicts.score[index]),
        anomalous=bool(verdicts.anomalous[index]),
        drift=bool(verdicts.drift[index]),
        phase=int(verdicts.phase[index]),
        start=int(verdicts.start[index]),
        peak_time=int(verdicts.peak_time[index]),
        peak=float(verdicts.peak[index]),
    )
    outcome, gap_filled = int(verdicts.outcome[index]), int(verdicts.gap_filled[index])
    if outcome == _SCORED:
        p_value, outside = float(verdicts.p_value[index]), bool(verdicts.out_of_distribution[index])
        return _encode_scored(name, timestamp_from_nanos(time), gap_filled, p_value, outside, alarm)
    verdict = verdict_pb2.Verdict(
        series=name, observe_time=timestamp_from_nanos(time), status=_STATUS_LIST[outcome], gap_filled=gap_filled
    )
    _add_episode(verdict, alarm)
    return verdict


def encode_verdict(verdict: Verdict, name: str, time: Timestamp) -> verdict_pb2.Verdict:
    """Write the verdict on one row without its explanation."""
    return _encode_scored(name, time, 0, verdict.p_value, verdict.out_of_distribution, verdict.alarm)


def _encode_scored(name: str, time: Timestamp, gap_filled: int, p_value: float, outside: bool, alarm: Alarm) -> verdict_pb2.Verdict:
    verdict = verdict_pb2.Verdict(
        series=name,
        observe_time=time,
        status=verdict_pb2.VERDICT_STATUS_SCORED,
        gap_filled=gap_filled,
        p_value=p_value,
        score=alarm.score,
        anomalous=alarm.anomalous,
        drift=alarm.drift,
        out_of_distribution=outside,
    )
    _add_episode(verdict, alarm)
    return verdict


def _add_episode(verdict: verdict_pb2.Verdict, alarm: Alarm) -> None:
    if alarm.phase == _NO_PHASE:
        return
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
    observed: NDArray[np.float64],
    expected: NDArray[np.float64],
    interval: tuple[NDArray[np.float64], NDArray[np.float64]],
    why: Explanation,
) -> None:
    names = model.feature_names
    columns = (observed, expected, *interval, why.feature_p, why.share, why.direction)
    for message, row in zip(messages, zip(*(column.tolist() for column in columns), strict=True), strict=True):
        if message.status == verdict_pb2.VERDICT_STATUS_SCORED:
            for name, seen, middle, lower, upper, p_value, share in zip(names, *row[:6], strict=True):
                known = {} if math.isnan(seen) else {"observed": seen, "p_value": p_value}
                message.features.add(feature=name, expected=middle, lower=lower, upper=upper, share=share, **known)
            top = row[5].index(max(row[5]))  # of the shares
            seen, middle, lower, upper, p_value, share, direction = (values[top] for values in row)
            message.reason = describe(names[top], seen, middle, lower, upper, p_value, share, direction, message.p_value)
