"""The versions of a repository: in which state each is, and which one a request means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from mods_grpc.artifact import Manifest
from mods_grpc.artifact.manifest import NAME_PATTERN
from mods_grpc.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    ModelUnusableError,
    ModsError,
    Reason,
)
from mods_grpc.server.models.fingerprint import Fingerprint
from mods_grpc.server.models.loader import LoadedModel

LOADING_RETRY_SECONDS = 1.0

VersionKey = tuple[str, int]


class VersionState(IntEnum):
    """State of a version, numbered as on the wire."""

    LOADING = 1
    READY = 2
    FAILED = 3
    RETIRED = 4


@dataclass(kw_only=True)
class VersionEntry:
    """A version of the repository. `manifest` and `digest` are known once it was read; `loaded` while it is in memory."""

    name: str
    version: int
    state: VersionState = VersionState.LOADING
    failure: str = ""
    manifest: Manifest | None = None
    digest: str = ""
    loaded: LoadedModel | None = field(default=None, repr=False)
    fingerprint: Fingerprint = ()


def find_version(entries: Mapping[VersionKey, VersionEntry], name: str, version: int | None) -> VersionEntry:
    """Find a version: of the only model when the name is empty, the newest ready one when the version is None.

    Raises:
        InvalidInputError: MODEL_NAME_INVALID.
        ModelNotFoundError: No such model or version.
    """
    names = sorted({known for known, _ in entries})
    if not name:
        if len(names) != 1:
            message = f"the server serves {len(names)} models, so the request must name one"
            raise InvalidInputError.for_field("model.name", Reason.MODEL_NAME_INVALID, message, actual=len(names), limit=1)
        name = names[0]
    if not NAME_PATTERN.fullmatch(name):
        message = "expected 1 to 64 characters of a-z, 0-9, _ and -, beginning with a letter or digit"
        raise InvalidInputError.for_field("model.name", Reason.MODEL_NAME_INVALID, message)
    versions = {number: entry for (known, number), entry in entries.items() if known == name}
    if not versions:
        raise ModelNotFoundError(Reason.MODEL_NOT_FOUND, f"no model is named {name}", actual=name)
    if version is not None:
        if version not in versions:
            raise ModelNotFoundError(Reason.MODEL_NOT_FOUND, f"model {name} has no version {version}", actual=f"{name}/{version}")
        return versions[version]
    ready = [number for number, entry in versions.items() if entry.state is VersionState.READY]
    return versions[max(ready or versions)]


def not_serving_error(entry: VersionEntry) -> ModsError:
    """Say why a version that is not in memory does not serve."""
    what = f"model {entry.name} version {entry.version}"
    if entry.state is VersionState.LOADING:
        return ModelUnavailableError(Reason.MODEL_LOADING, f"{what} is loading", retry_seconds=LOADING_RETRY_SECONDS)
    if entry.state is VersionState.RETIRED:
        return ModelUnusableError(Reason.MODEL_RETIRED, f"{what} was replaced and is no longer held")
    return ModelUnusableError(Reason.MODEL_FAILED, f"{what} failed to load; GetModel says why")
