"""Maps errors to gRPC statuses with `google.rpc` details. A test proves the map complete."""

from collections.abc import Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from mods_grpc import errors
from mods_grpc.errors import ModsError, Violation

DOMAIN = "mods.v1"
MAX_VIOLATIONS = 20
# Clients reject trailers above 8 KiB, base64 included, and would report that instead of the error.
MAX_TEXT_CHARACTERS = 400
MAX_VIOLATION_BYTES = 4000
STATUS_DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[type[ModsError], grpc.StatusCode] = {
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRangeError: grpc.StatusCode.OUT_OF_RANGE,
    errors.DuplicateConflictError: grpc.StatusCode.ALREADY_EXISTS,
    errors.SequenceGapError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StreamProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.ModelUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ModelUnusableError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelOutputError: grpc.StatusCode.INTERNAL,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.QuotaError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
    errors.StreamTimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.DeadlineError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
NEVER_ON_THE_WIRE = frozenset({errors.ConnectionFailedError, errors.ArtifactError, errors.DataError, errors.NoLogsError})


def to_status(error: ModsError) -> Status:
    """Convert an error to a `google.rpc.Status` with ErrorInfo and the details that help the caller to react."""
    status = Status(code=CODES[type(error)].value[0], message=_truncate(error.message))
    for detail in (_error_info(error), *_more_details(error)):
        status.details.add().Pack(detail)
    return status


def to_abort_arguments(error: ModsError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Return the arguments of `context.abort`: code, message and trailing metadata."""
    return CODES[type(error)], _truncate(error.message), ((STATUS_DETAILS_KEY, to_status(error).SerializeToString()),)


def _error_info(error: ModsError) -> details.ErrorInfo:
    return details.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata))


def _more_details(error: ModsError) -> list[Message]:
    messages: list[Message] = []
    if isinstance(error, errors.InvalidInputError):
        messages.append(_bad_request(error.violations))
    elif isinstance(error, errors.OutOfRangeError):
        messages.append(_bad_request([Violation(field="", reason=error.reason, message=error.message)]))
    elif isinstance(error, errors.ModelNotFoundError):
        messages.append(
            details.ResourceInfo(resource_type="mods.v1.Model", resource_name=error.actual, description=_truncate(error.message))
        )
    elif isinstance(error, errors.QuotaError):
        messages.append(details.QuotaFailure(violations=[{"subject": error.reason, "description": _truncate(error.message)}]))
    elif isinstance(error, errors.SequenceGapError | errors.ModelUnusableError):
        messages.append(details.PreconditionFailure(violations=[{"type": error.reason, "description": _truncate(error.message)}]))
    if error.retry_seconds is not None:
        delay = Duration(seconds=int(error.retry_seconds), nanos=int(error.retry_seconds % 1 * 1e9))
        messages.append(details.RetryInfo(retry_delay=delay))
    return messages


def _bad_request(violations: Sequence[Violation]) -> details.BadRequest:
    request, size = details.BadRequest(), 0
    for violation in violations[:MAX_VIOLATIONS]:
        entry = details.BadRequest.FieldViolation(
            field=violation.field, description=_truncate(violation.message), reason=violation.reason
        )
        size += entry.ByteSize()
        if size > MAX_VIOLATION_BYTES:
            break
        request.field_violations.append(entry)
    if rest := len(violations) - len(request.field_violations):
        request.field_violations.add(description=f"and {rest} more violations")
    return request


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[: MAX_TEXT_CHARACTERS - 3] + "..."
