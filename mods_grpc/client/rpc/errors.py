"""Maps a gRPC status to the error of `mods_grpc.errors` that the server raised: the inverse of the server's map."""

from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mods_grpc.errors import (
    ConnectionFailedError,
    DeadlineError,
    InternalError,
    InvalidInputError,
    ModsError,
    QuotaError,
    Reason,
    Violation,
)
from mods_grpc.protobuf.arrays import seconds_from_duration

ERROR_DOMAIN = "mods.v1"

TLS_UNEXPECTED = "it closed the connection at once, as a server with TLS does"
TLS_MISSING = "it does not use TLS"
UNTRUSTED = "its certificate is not trusted"
OTHER_NAME = "its certificate is of another name"
UNKNOWN_HOST = "there is no such host"
OTHER_SERVICE = "does not speak mods.v1"

# What the details of grpcio stand for.
_CAUSES = (
    ("WRONG_VERSION_NUMBER", TLS_MISSING),
    ("CERTIFICATE_VERIFY_FAILED", UNTRUSTED),
    ("is not in peer certificate", OTHER_NAME),
    ("lookup error", UNKNOWN_HOST),
    ("Socket closed", TLS_UNEXPECTED),
    ("Connection refused", "connection refused"),
    ("No such file or directory", "there is no such socket"),
)

CLASS_OF_REASON: Mapping[Reason, type[ModsError]] = {reason: cls for cls in ModsError.__subclasses__() for reason in cls.reasons}


def error_from_call(failure: grpc.RpcError, address: str) -> ModsError:
    """Return the error that a failed call stands for.

    Args:
        failure: The error that grpc raised.
        address: Address of the server, for the message.
    """
    return error_from_details(failure) or error_from_code(failure, address)


def is_overdue(failure: grpc.RpcError) -> bool:
    """Return whether a call failed because no answer came in time, not even that the server had no time for it."""
    assert isinstance(failure, grpc.Call)
    return failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED and error_from_details(failure) is None


def error_from_details(failure: grpc.RpcError) -> ModsError | None:
    """Rebuild the server's error from a failed call; None if the status carries no error of mods-grpc."""
    try:
        status = rpc_status.from_call(failure)
    except ValueError:  # the details are of another code than the status: trust the status
        return None
    return error_from_status(status) if status is not None else None


def error_from_code(failure: grpc.RpcError, address: str) -> ModsError:
    """Return the error that gRPC's status code stands for."""
    assert isinstance(failure, grpc.Call)
    return _error_without_details(failure.code(), failure.details() or "no details", address)


def error_from_status(status: status_pb2.Status) -> ModsError | None:
    """Rebuild the server's error from a status; None if it carries no error of mods-grpc."""
    info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    if not _unpack_detail(status, info) or info.domain != ERROR_DOMAIN or info.reason not in Reason.__members__:
        return None
    _unpack_detail(status, request)
    reason = Reason[info.reason]
    cls = CLASS_OF_REASON.get(reason, InternalError)
    if issubclass(cls, InvalidInputError):
        return InvalidInputError(_make_violations(status, info, request, reason))
    retry_seconds = seconds_from_duration(retry.retry_delay) if _unpack_detail(status, retry) else None
    limit, actual = info.metadata.get("limit", ""), info.metadata.get("actual", "")
    return cls(reason, status.message, limit=limit, actual=actual, retry_seconds=retry_seconds)


def stream_error_from_status(status: status_pb2.Status) -> ModsError:
    """Rebuild the error of an answer on a stream; an InternalError if it carries no error of mods-grpc."""
    return error_from_status(status) or InternalError(Reason.INTERNAL, status.message or f"status {status.code}")


def _make_violations(
    status: status_pb2.Status, info: error_details_pb2.ErrorInfo, request: error_details_pb2.BadRequest, reason: Reason
) -> list[Violation]:
    limit, actual = info.metadata.get("limit", ""), info.metadata.get("actual", "")
    violations = []
    for index, field in enumerate(request.field_violations):
        field_reason = Reason.__members__.get(field.reason, reason)
        first = index == 0  # limit and actual value are sent for the first violation only
        violations.append(
            Violation(
                field=field.field,
                reason=field_reason,
                message=field.description,
                limit=limit if first else "",
                actual=actual if first else "",
            )
        )
    return violations or [Violation(field="", reason=reason, message=status.message, limit=limit, actual=actual)]


def _error_without_details(code: grpc.StatusCode, details: str, address: str) -> ModsError:
    match code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            cause = next((text for phrase, text in _CAUSES if phrase in details), details)
            return ConnectionFailedError(f"no server answers at {address}: {cause}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(Reason.DEADLINE_TOO_SHORT, f"{address} did not answer in time: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return ConnectionFailedError(f"the server at {address} {OTHER_SERVICE}: {details}")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return ConnectionFailedError(f"{address} refused the credentials: {details}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return QuotaError(Reason.OVERLOADED, details)
        case _:
            return InternalError(Reason.INTERNAL, f"{code.name}: {details}")


def _unpack_detail(status: status_pb2.Status, detail: Any) -> bool:
    """Read the status' first detail of the type of `detail` into it, and return whether there is one."""
    return any(entry.Unpack(detail) for entry in status.details if entry.Is(detail.DESCRIPTOR))
