"""Errors of single observations of a stream message, and their place in its answer."""

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.detection import Outcome
from mods_grpc.errors import DuplicateConflictError, InvalidInputError, ModsError, OutOfRangeError, Reason
from mods_grpc.server.codec.decode import ObservationColumns
from mods_grpc.server.codec.validation import (
    check_name,
    check_time,
    describe_invalid_value,
    find_invalid_times,
    find_invalid_values,
)
from mods_grpc.server.rpc.status import MAX_VIOLATIONS, to_status
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb

OUTCOME_ERRORS: dict[Outcome, ModsError] = {
    Outcome.LATE: OutOfRangeError(
        Reason.OBSERVATION_LATE, "observe_time: is older than the last applied observation of the series"
    ),
    Outcome.CONFLICT: DuplicateConflictError(Reason.DUPLICATE_CONFLICT, "observe_time: was applied before with other values"),
    Outcome.OFF_GRID: InvalidInputError.for_field(
        "observe_time", Reason.INTERVAL_MISMATCH, "is not a multiple of the model's slide after the last observation"
    ),
    Outcome.INCOMPLETE: InvalidInputError.for_field(
        "values", Reason.FEATURE_MISSING, "the first observation of a window must be complete, and every other hold a value"
    ),
}
"""Of observations that the monitor does not apply."""


def find_row_errors(
    columns: ObservationColumns, new: list[int], path: str, minimums: Floats, max_future_seconds: float
) -> dict[int, ModsError]:
    """Find the observations that are invalid whatever the state of their series.

    Args:
        columns: The observations.
        new: Indices into `columns.names` of the series that are not held, whose names are checked.
        path: Prefix of field paths.
        minimums: `(features,)`, the smallest valid value of each feature.
        max_future_seconds: How far ahead of this machine's clock a time may be.

    Returns:
        An error per invalid observation, by its index.
    """
    errors: dict[int, ModsError] = {}
    name_errors = {}
    for series in new:
        violation = check_name(columns.names[series], f"{path}series[{series}]")
        if violation is not None:
            name_errors[series] = violation
    if name_errors:
        for index in np.flatnonzero(np.isin(columns.series_index, list(name_errors))).tolist():
            errors[index] = InvalidInputError([name_errors[int(columns.series_index[index])]])
    for index in np.flatnonzero(find_invalid_times(columns.times, max_future_seconds)).tolist():
        violation = check_time(int(columns.times[index]), max_future_seconds, f"{path}observe_time[{index}]")
        if violation is not None:
            errors[index] = InvalidInputError([violation])
    invalid = find_invalid_values(columns.zero_filled, minimums)
    for index in np.flatnonzero(invalid.any(axis=1)).tolist() if invalid.any() else ():
        errors[index] = InvalidInputError(
            [
                describe_invalid_value(float(columns.zero_filled[index, column]), f"{path}values[{index}][{column}]")
                for column in np.flatnonzero(invalid[index])
            ]
        )
    return errors


def add_row_errors(answer: pb.StreamAnswer, errors: dict[int, ModsError], metrics: Metrics) -> None:
    """Add the errors of observations, by index, to an answer, and count them."""
    encoded: dict[tuple[str, str], pb.ObservationError] = {}
    for error in errors.values():
        metrics.count_rejected(error.reason)
    for count, index in enumerate(sorted(errors)):
        # the first ones in full; after these, errors with the same reason share one status
        key = (errors[index].reason, errors[index].message) if count < MAX_VIOLATIONS else (errors[index].reason, "")
        if key not in encoded:
            encoded[key] = pb.ObservationError(status=to_status(errors[index]))
        answer.errors.add(index=index, status=encoded[key].status)
