"""From arrays to response messages."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection import Outcome, Phase, Verdicts, describe
from mods_grpc.messages import pack_float64, timestamp_from_nanos
from mods_grpc.server.loading import LoadedModel
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

NANOS = 1_000_000_000

STATUS_OF = {
    Outcome.SCORED: verdict_pb2.VERDICT_STATUS_SCORED,
    Outcome.WARMING_UP: verdict_pb2.VERDICT_STATUS_WARMING_UP,
    Outcome.DUPLICATE: verdict_pb2.VERDICT_STATUS_DUPLICATE,
    Outcome.LATE: verdict_pb2.VERDICT_STATUS_LATE,
    Outcome.CONFLICT: verdict_pb2.VERDICT_STATUS_REJECTED,
    Outcome.OFF_GRID: verdict_pb2.VERDICT_STATUS_REJECTED,
    Outcome.INCOMPLETE: verdict_pb2.VERDICT_STATUS_REJECTED,
}
_STATUS_TABLE = np.array([STATUS_OF.get(value, 0) for value in range(max(Outcome) + 1)], np.int32)  # type: ignore[call-overload]
_STATUS_LIST = _STATUS_TABLE.tolist()
_SCORED, _NO_PHASE = int(Outcome.SCORED), int(Phase.NONE)
PHASE_OF = {
    Phase.STARTED: verdict_pb2.EPISODE_PHASE_STARTED,
    Phase.ONGOING: verdict_pb2.EPISODE_PHASE_ONGOING,
    Phase.ENDED: verdict_pb2.EPISODE_PHASE_ENDED,
}


def served(model: LoadedModel) -> pb.ServedModel:
    """Name the model that answered."""
    return pb.ServedModel(name=model.manifest.name, version=model.manifest.version, digest=model.digest)


def statuses(verdicts: Verdicts) -> list[int]:
    """Return the wire status of every observation."""
    found: list[int] = _STATUS_TABLE[verdicts.outcome].tolist()
    return found


def score_columns(
    verdicts: Verdicts, times: NDArray[np.int64], status: Sequence[int], at: slice = slice(None)
) -> pb.ScoreColumns:
    """Write the scores of some observations as columns."""
    return pb.ScoreColumns(
        observe_time_unix_nano=times[at].tolist(),
        status=status[at],  # type: ignore[arg-type]
        p_value=pack_float64(verdicts.p_value[at]),
        anomalous=verdicts.anomalous[at].tolist(),
    )


def to_explain(verdicts: Verdicts, explain: int) -> NDArray[np.intp]:
    """Return the observations whose verdicts are written in full."""
    if explain == verdict_pb2.EXPLAIN_NONE:
        return np.zeros(0, np.intp)
    if explain == verdict_pb2.EXPLAIN_ALL:
        return np.arange(len(verdicts.outcome))
    changes = (verdicts.phase == Phase.STARTED) | (verdicts.phase == Phase.ENDED)
    return np.flatnonzero(verdicts.anomalous | changes)


def explained(
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
    lower, upper = model.detector.interval(verdicts.expected[at], 1 - significance)
    share = verdicts.share[at]
    found = []
    for k, (index, name) in enumerate(zip(at.tolist(), names, strict=True)):
        verdict = plain(verdicts, index, int(times[index]), name)
        if verdict.status == verdict_pb2.VERDICT_STATUS_SCORED:
            _add_features(verdict, model.feature_names, verdicts, index, lower[k], upper[k], share[k])
        found.append(verdict)
    return found


def plain(verdicts: Verdicts, index: int, time: int, name: str) -> verdict_pb2.Verdict:
    """Write one verdict without its explanation."""
    outcome = int(verdicts.outcome[index])
    verdict = verdict_pb2.Verdict(
        series=name,
        observe_time=timestamp_from_nanos(time),
        status=_STATUS_LIST[outcome],
        gap_filled=int(verdicts.gap_filled[index]),
    )
    if outcome == _SCORED:
        verdict.p_value = float(verdicts.p_value[index])
        verdict.score = float(verdicts.score[index])
        verdict.anomalous = bool(verdicts.anomalous[index])
        verdict.drift = bool(verdicts.drift[index])
        verdict.out_of_distribution = bool(verdicts.out_of_distribution[index])
    if int(verdicts.phase[index]) != _NO_PHASE:
        start = int(verdicts.start[index])
        verdict.episode.id = datetime.fromtimestamp(start // NANOS, UTC).strftime("%Y%m%dT%H%M%SZ")
        verdict.episode.phase = PHASE_OF[Phase(int(verdicts.phase[index]))]
        verdict.episode.start_time.CopyFrom(timestamp_from_nanos(start))
        verdict.episode.peak_time.CopyFrom(timestamp_from_nanos(int(verdicts.peak_time[index])))
        verdict.episode.peak_score = float(verdicts.peak[index])
    return verdict


def _add_features(
    verdict: verdict_pb2.Verdict,
    features: tuple[str, ...],
    verdicts: Verdicts,
    index: int,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    share: NDArray[np.float64],
) -> None:
    observed, expected, p = verdicts.observed[index], verdicts.expected[index], verdicts.feature_p[index]
    for j, name in enumerate(features):
        part = verdict.features.add(
            feature=name, expected=float(expected[j]), lower=float(lower[j]), upper=float(upper[j]), share=float(share[j])
        )
        if not np.isnan(observed[j]):
            part.observed, part.p_value = float(observed[j]), float(p[j])
    top = int(np.argmax(share))
    verdict.reason = describe(
        features[top],
        float(observed[top]),
        float(expected[top]),
        float(lower[top]),
        float(upper[top]),
        float(p[top]),
        float(share[top]),
        int(verdicts.direction[index, top]),
        float(verdicts.p_value[index]),
    )
