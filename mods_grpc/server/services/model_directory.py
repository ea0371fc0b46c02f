"""The ListModels and GetModel RPCs."""

import json
from dataclasses import dataclass
from datetime import datetime

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import TimeRange
from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import duration_from_seconds, timestamp_from_nanos
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.models.versions import VersionEntry
from mods_grpc.v1 import model_pb2 as pb

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
KINDS = {"count": pb.FEATURE_KIND_COUNT, "sum": pb.FEATURE_KIND_SUM, "mean": pb.FEATURE_KIND_MEAN}


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """Describes the models of a repository."""

    repository: Repository

    def list_models(self, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        """List a page of versions, by name and then newest first.

        Raises:
            InvalidInputError: FIELD_INVALID, page size or token.
        """
        if request.page_size > MAX_PAGE_SIZE:
            text = f"expected at most {MAX_PAGE_SIZE}, found {request.page_size}"
            raise InvalidInputError.for_field(
                "page_size", Reason.FIELD_INVALID, text, limit=MAX_PAGE_SIZE, actual=request.page_size
            )
        size = request.page_size or DEFAULT_PAGE_SIZE
        entries = list(self.repository.entries())
        first = 0
        if request.page_token:
            positions = {_token(entry): index for index, entry in enumerate(entries)}
            if request.page_token not in positions:
                raise InvalidInputError.for_field(
                    "page_token", Reason.FIELD_INVALID, "expected next_page_token of an earlier page"
                )
            first = positions[request.page_token]
        page = entries[first : first + size]
        rest = entries[first + size :]
        return pb.ListModelsResponse(
            models=[_encode_model(entry) for entry in page], next_page_token=_token(rest[0]) if rest else ""
        )

    def get_model(self, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """Describe one version.

        Raises:
            InvalidInputError, ModelNotFoundError: As `Repository.find`.
        """
        entry = self.repository.find(request.name, request.version if request.HasField("version") else None)
        message = _encode_model(entry)
        if entry.loaded and (envelope := entry.loaded.manifest.calibration.envelope):
            message.envelope = json.dumps(to_jsonable(envelope), separators=(",", ":")).encode()
        return pb.GetModelResponse(model=message)


def _token(entry: VersionEntry) -> str:
    """Return the page token that names the first version of a page; it stays valid while other versions come and go."""
    return f"{entry.name}/{entry.version}"


def _encode_model(entry: VersionEntry) -> pb.Model:
    message = pb.Model(
        name=entry.name,
        version=entry.version,
        state=int(entry.state),  # type: ignore[arg-type]
        failure=entry.failure,
        digest=entry.digest,
        provider=entry.loaded.session.provider if entry.loaded else "",
    )
    description = entry.description
    if description is None:
        return message
    for feature in description.features:
        message.features.add(
            name=feature.name,
            unit=feature.unit,
            protocol=feature.protocol,
            column=feature.column,
            kind=KINDS[feature.kind],
            training_minimum=feature.training_minimum,
            training_maximum=feature.training_maximum,
            pane=feature.pane,
        )
    message.window_rows = description.rows
    message.horizon = description.horizon
    message.window.CopyFrom(duration_from_seconds(description.window_seconds))
    message.slide.CopyFrom(duration_from_seconds(description.slide_seconds))
    message.architecture = description.architecture
    message.parameters = description.parameters
    message.create_time.CopyFrom(
        timestamp_from_nanos(int(datetime.fromisoformat(description.created).timestamp()) * NANOS_PER_SECOND)
    )
    message.training_range = _encode_range(description.training_range)
    message.test_range = _encode_range(description.test_range)
    message.default_false_alarms_per_day = description.false_alarms_per_day
    message.smallest_p_value = description.smallest_p_value
    message.calibration_days = description.calibration_days
    for metric in description.metrics:
        message.metrics.add(
            metric=metric.metric, feature=metric.feature, step=metric.step, value=metric.value, persistence=metric.persistence
        )
    return message


def _encode_range(span: TimeRange | None) -> str:
    return f"<{span.start},{span.end})" if span else ""
