"""Why observations of a stream are refused, each by itself, and how that is told."""

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection import Outcome
from mods_grpc.errors import DuplicateConflictError, InvalidInputError, ModsError, OutOfRangeError, Reason
from mods_grpc.server.codec.decode import ObservationColumns
from mods_grpc.server.codec.validation import invalid_times, invalid_values, check_name, check_time, describe_invalid_value
from mods_grpc.server.rpc.status import MAX_VIOLATIONS, status_of
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb

OUTCOME_ERRORS: dict[Outcome, ModsError] = {
    Outcome.LATE: OutOfRangeError(
        Reason.OBSERVATION_LATE, "observe_time: is older than the last applied observation of the series"
    ),
    Outcome.CONFLICT: DuplicateConflictError(Reason.DUPLICATE_CONFLICT, "observe_time: was applied before with other values"),
    Outcome.OFF_GRID: InvalidInputError.of(
        "observe_time", Reason.INTERVAL_MISMATCH, "is not a multiple of the model's slide after the last observation"
    ),
    Outcome.INCOMPLETE: InvalidInputError.of(
        "values", Reason.FEATURE_MISSING, "the first observation of a window must be complete, and every other hold a value"
    ),
}
"""Of what the monitor does not apply."""


def find_row_errors(
    columns: ObservationColumns, new: list[int], path: str, least: NDArray[np.float64], max_future_seconds: float
) -> dict[int, ModsError]:
    """Find the observations that can't be applied whatever the state of their series.

    Args:
        columns: The observations.
        new: Which of their series are not held.
        path: Prefix of field paths.
        least: `(features,)`, the least value that each feature can have.
        max_future_seconds: How far ahead of this machine's clock a time may be.

    Returns:
        Why, by the number of the observation.
    """
    errors: dict[int, ModsError] = {}
    bad_names = {i: found for i in new if (found := check_name(columns.names[i], f"{path}series[{i}]")) is not None}
    for index in np.flatnonzero(np.isin(columns.series_index, list(bad_names))).tolist() if bad_names else []:
        errors[index] = InvalidInputError([bad_names[int(columns.series_index[index])]])
    for index in np.flatnonzero(invalid_times(columns.times, max_future_seconds)).tolist():
        violation = check_time(int(columns.times[index]), max_future_seconds, f"{path}observe_time[{index}]")
        if violation is not None:
            errors[index] = InvalidInputError([violation])
    bad = invalid_values(columns.zero_filled, least)
    for index in np.flatnonzero(bad.any(axis=1)).tolist() if bad.any() else ():
        errors[index] = InvalidInputError(
            [describe_invalid_value(float(columns.zero_filled[index, j]), f"{path}values[{index}][{j}]") for j in np.flatnonzero(bad[index])]
        )
    return errors


def add_row_errors(answer: pb.StreamAnswer, errors: dict[int, ModsError], metrics: Metrics) -> None:
    """Tell in an answer, and count, which observations were refused and why, by their numbers."""
    shown: dict[tuple[str, str], pb.ObservationError] = {}
    for error in errors.values():
        metrics.rejected(error.reason)
    for count, index in enumerate(sorted(errors)):
        # the first in full; of the rest those that read the same share their status
        key = (errors[index].reason, errors[index].message) if count < MAX_VIOLATIONS else (errors[index].reason, "")
        if key not in shown:
            shown[key] = pb.ObservationError(status=status_of(errors[index]))
        answer.errors.add(index=index, status=shown[key].status)
