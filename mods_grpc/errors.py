"""The error tree of the domain. Standard library only; `server/rpc/status.py` alone maps it to gRPC statuses.

ModsError                        a reason, a message, and the data that a handler needs
├── InvalidInputError            the request is invalid in any state of the server; carries all violations
├── OutOfRangeError              well-formed, but beyond what the model or the series accepts
├── DuplicateConflictError       a time that is held already, with other values
├── SequenceGapError             a stream message out of order; carries the expected sequence
├── StreamProtocolError          the stream protocol was violated; the stream ends
├── ModelNotFoundError           no such model or version
├── ModelUnavailableError        the model is still loading; retry
├── ModelUnusableError           the model failed to load, or was withdrawn under a stream
├── ModelOutputError             the model's output is not finite, or it took too long
├── UnauthenticatedError         no valid credentials
├── PermissionDeniedError        authenticated, but without the required scope
├── QuotaError                   a limit of the server was reached; carries the limit and when to retry
├── DrainingError                the server is shutting down; retry elsewhere or later
├── StreamTimeoutError           the peer did not read or write in time
├── DeadlineError                the caller's deadline has passed or can't be met
├── InternalError                a defect; the client sees an id and nothing else
├── ConnectionFailedError        client side: the server can't be reached, or the connection was lost and retries failed
├── ArtifactError                an exported model is not acceptable
└── DataError                    data of the user is not acceptable: tables, logs, checkpoints, rules, or a query over them
    └── NoLogsError              there is no log to read; carries what was left out
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Reason(StrEnum):
    """Why a request failed. Sent as `google.rpc.ErrorInfo.reason`; the meaning of a value never changes."""

    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    MODEL_NAME_INVALID = "MODEL_NAME_INVALID"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_LOADING = "MODEL_LOADING"
    MODEL_FAILED = "MODEL_FAILED"
    MODEL_RETIRED = "MODEL_RETIRED"
    MODEL_OUTPUT_INVALID = "MODEL_OUTPUT_INVALID"
    CONFIG_REQUIRED = "CONFIG_REQUIRED"
    CONFIG_REPEATED = "CONFIG_REPEATED"
    FIELD_REQUIRED = "FIELD_REQUIRED"
    FIELD_INVALID = "FIELD_INVALID"
    ENUM_UNKNOWN = "ENUM_UNKNOWN"
    EMPTY_INPUT = "EMPTY_INPUT"
    WINDOW_TOO_SHORT = "WINDOW_TOO_SHORT"
    WINDOW_TOO_LONG = "WINDOW_TOO_LONG"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    HORIZON_INVALID = "HORIZON_INVALID"
    HORIZON_TOO_LONG = "HORIZON_TOO_LONG"
    SHAPE_MISMATCH = "SHAPE_MISMATCH"
    PANES_MISMATCH = "PANES_MISMATCH"
    FEATURE_MISSING = "FEATURE_MISSING"
    FEATURE_UNKNOWN = "FEATURE_UNKNOWN"
    FEATURE_DUPLICATE = "FEATURE_DUPLICATE"
    VALUE_NAN = "VALUE_NAN"
    VALUE_INFINITE = "VALUE_INFINITE"
    VALUE_NEGATIVE = "VALUE_NEGATIVE"
    TIMESTAMP_INVALID = "TIMESTAMP_INVALID"
    TIMESTAMP_FUTURE = "TIMESTAMP_FUTURE"
    TIMESTAMP_OUT_OF_ORDER = "TIMESTAMP_OUT_OF_ORDER"
    INTERVAL_MISMATCH = "INTERVAL_MISMATCH"
    OBSERVATION_LATE = "OBSERVATION_LATE"
    DUPLICATE_CONFLICT = "DUPLICATE_CONFLICT"
    GAP = "GAP"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    SERIES_ID_INVALID = "SERIES_ID_INVALID"
    AUTH_REQUIRED = "AUTH_REQUIRED"
    SCOPE_MISSING = "SCOPE_MISSING"
    SERIES_QUOTA = "SERIES_QUOTA"
    STREAM_QUOTA = "STREAM_QUOTA"
    RATE_LIMIT = "RATE_LIMIT"
    OVERLOADED = "OVERLOADED"
    TOO_MANY_BAD_OBSERVATIONS = "TOO_MANY_BAD_OBSERVATIONS"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    SLOW_READER = "SLOW_READER"
    STREAM_IDLE = "STREAM_IDLE"
    DRAINING = "DRAINING"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One violation of one field.

    Attributes:
        field: Path of the field, such as `series[3].rows[1].values[0]`.
        limit: The limit that was exceeded; empty if there is none.
        actual: The value; empty if it can't be given briefly.
    """

    field: str
    reason: Reason
    message: str
    limit: str = ""
    actual: str = ""


class ModsError(Exception):
    """Base of all errors of this project.

    Args:
        reason: Machine-readable reason; one of the class's `reasons`.
        message: For people: the expected and the actual value. Never a path, a class name or a payload.
        limit: The limit that was exceeded; empty if there is none.
        actual: The actual value; empty if it can't be given briefly.
        retry_seconds: Seconds after which a retry may succeed; None if it won't.
    """

    reasons: ClassVar[frozenset[Reason]] = frozenset()

    def __init__(
        self, reason: Reason, message: str, *, limit: object = "", actual: object = "", retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.limit = str(limit)
        self.actual = str(actual)
        self.retry_seconds = retry_seconds

    @property
    def metadata(self) -> Mapping[str, str]:
        """Limit and actual value, as far as they are set."""
        return {key: value for key, value in (("limit", self.limit), ("actual", self.actual)) if value}


class InvalidInputError(ModsError):
    """The request is invalid in any state of the server.

    Args:
        violations: All violations, at least one. The first gives the reason and the message.
    """

    reasons = frozenset(
        {
            Reason.MALFORMED_REQUEST,
            Reason.MODEL_NAME_INVALID,
            Reason.FIELD_REQUIRED,
            Reason.FIELD_INVALID,
            Reason.ENUM_UNKNOWN,
            Reason.EMPTY_INPUT,
            Reason.WINDOW_TOO_SHORT,
            Reason.WINDOW_TOO_LONG,
            Reason.BATCH_TOO_LARGE,
            Reason.HORIZON_INVALID,
            Reason.SHAPE_MISMATCH,
            Reason.PANES_MISMATCH,
            Reason.FEATURE_MISSING,
            Reason.FEATURE_UNKNOWN,
            Reason.FEATURE_DUPLICATE,
            Reason.VALUE_NAN,
            Reason.VALUE_INFINITE,
            Reason.VALUE_NEGATIVE,
            Reason.TIMESTAMP_INVALID,
            Reason.TIMESTAMP_FUTURE,
            Reason.TIMESTAMP_OUT_OF_ORDER,
            Reason.INTERVAL_MISMATCH,
            Reason.GAP,
            Reason.SERIES_ID_INVALID,
        }
    )

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        where = f"{first.field}: " if first.field else ""
        super().__init__(first.reason, f"{where}{first.message}{more}", limit=first.limit, actual=first.actual)
        self.violations = tuple(violations)

    @classmethod
    def for_field(
        cls, field: str, reason: Reason, message: str, *, limit: object = "", actual: object = ""
    ) -> "InvalidInputError":
        """Create the error of a single violation."""
        return cls([Violation(field=field, reason=reason, message=message, limit=str(limit), actual=str(actual))])


class OutOfRangeError(ModsError):
    """Well-formed, but beyond what the model or the series accepts."""

    reasons = frozenset({Reason.HORIZON_TOO_LONG, Reason.OBSERVATION_LATE})


class DuplicateConflictError(ModsError):
    """A time that is held already, with other values."""

    reasons = frozenset({Reason.DUPLICATE_CONFLICT})


class SequenceGapError(ModsError):
    """A stream message out of order; `limit` is the expected sequence."""

    reasons = frozenset({Reason.SEQUENCE_GAP})


class StreamProtocolError(ModsError):
    """The stream protocol was violated; the stream ends."""

    reasons = frozenset({Reason.CONFIG_REQUIRED, Reason.CONFIG_REPEATED})


class ModelNotFoundError(ModsError):
    """No such model or version."""

    reasons = frozenset({Reason.MODEL_NOT_FOUND})


class ModelUnavailableError(ModsError):
    """The model is still loading."""

    reasons = frozenset({Reason.MODEL_LOADING})


class ModelUnusableError(ModsError):
    """The model failed to load, or was withdrawn under a stream."""

    reasons = frozenset({Reason.MODEL_FAILED, Reason.MODEL_RETIRED})


class ModelOutputError(ModsError):
    """The model's output is not finite, or it took too long."""

    reasons = frozenset({Reason.MODEL_OUTPUT_INVALID})


class UnauthenticatedError(ModsError):
    """No valid credentials."""

    reasons = frozenset({Reason.AUTH_REQUIRED})


class PermissionDeniedError(ModsError):
    """Authenticated, but without the required scope; `limit` is that scope."""

    reasons = frozenset({Reason.SCOPE_MISSING})


class QuotaError(ModsError):
    """A limit of the server was reached."""

    reasons = frozenset(
        {
            Reason.SERIES_QUOTA,
            Reason.STREAM_QUOTA,
            Reason.RATE_LIMIT,
            Reason.OVERLOADED,
            Reason.TOO_MANY_BAD_OBSERVATIONS,
        }
    )


class DrainingError(ModsError):
    """The server is shutting down."""

    reasons = frozenset({Reason.DRAINING})


class StreamTimeoutError(ModsError):
    """The peer did not read or write in time."""

    reasons = frozenset({Reason.SLOW_READER, Reason.STREAM_IDLE})


class DeadlineError(ModsError):
    """The caller's deadline has passed or can't be met."""

    reasons = frozenset({Reason.DEADLINE_TOO_SHORT})


class InternalError(ModsError):
    """A defect of this project. The client sees an id; the log has the rest under that id."""

    reasons = frozenset({Reason.INTERNAL})


class ConnectionFailedError(ModsError):
    """Client side: the server can't be reached, or the connection was lost and retries failed."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INTERNAL, message)


class ArtifactError(ModsError):
    """An exported model is not acceptable. The message may name files, because it is for operators, not for clients."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.MODEL_FAILED, message)


class DataError(ModsError):
    """Data of the user is not acceptable: tables, logs, checkpoints, rules, or a query over them."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.FIELD_INVALID, message)


class NoLogsError(DataError):
    """There is no log to read; `listing` says what was left out (`mods_grpc.ids.sources.log_files`)."""

    def __init__(self, message: str, listing: Any) -> None:
        super().__init__(message)
        self.listing = listing
