"""The versions of a repository: their states, the fingerprints of their folders, and which one a request refers to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path

from mods_grpc.artifact import FeatureSpec, Manifest, Metric, TimeRange
from mods_grpc.artifact.manifest import NAME_PATTERN
from mods_grpc.detection import Detector
from mods_grpc.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    ModelUnusableError,
    ModsError,
    Reason,
)
from mods_grpc.server.models.loaded_model import LoadedModel

LOADING_RETRY_SECONDS = 1.0

VersionKey = tuple[str, int]
"""Name of the model and number of the version."""

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change (ns) of every file of a folder; differs when a file changed."""


class VersionState(IntEnum):
    """State of a version, numbered as on the wire."""

    LOADING = 1
    READY = 2
    FAILED = 3
    RETIRED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionDescription:
    """What listings say of a version, as in its manifest. The rest of that, its calibration, is large.

    `smallest_p_value` is the smallest that the calibration can give. `panes` is 0 if rows hold whole windows.
    """

    features: tuple[FeatureSpec, ...]
    rows: int
    horizon: int
    window_seconds: int
    slide_seconds: int
    panes: int
    architecture: str
    parameters: int
    created: str
    training_range: TimeRange
    test_range: TimeRange | None
    false_alarms_per_day: float
    metrics: tuple[Metric, ...]
    smallest_p_value: float
    calibration_days: float

    @classmethod
    def of(cls, manifest: Manifest) -> "VersionDescription":
        """Describe a version by its manifest."""
        named = {field.name: getattr(manifest, field.name) for field in fields(cls) if field.name != "smallest_p_value"}
        return cls(**named, smallest_p_value=Detector.from_manifest(manifest).smallest_p)


@dataclass(kw_only=True)
class VersionEntry:
    """A version of the repository.

    Attributes:
        failure: Why loading failed; empty unless FAILED.
        description: None until its manifest was read. digest: of the manifest, empty until it was read.
        loaded: The version in memory; None while it is not.
        fingerprint: Of its folder when it was scanned.
    """

    name: str
    version: int
    state: VersionState = VersionState.LOADING
    failure: str = ""
    description: VersionDescription | None = None
    digest: str = ""
    loaded: LoadedModel | None = field(default=None, repr=False)
    fingerprint: Fingerprint = ()

    @property
    def takes_panes(self) -> bool | None:
        """Whether its rows hold panes of a feature; None while that is not known."""
        return None if self.description is None else self.description.panes > 0


def find_version(
    entries: Mapping[VersionKey, VersionEntry], name: str, version: int | None, panes: bool | None = None
) -> VersionEntry:
    """Find a version.

    Args:
        entries: All versions of all models.
        name: Name of the model; empty for the only one.
        version: Number of the version; None for the newest that is ready.
        panes: Whether rows hold panes: a version that does not take them is found only if it is named, or if none takes them
            that is ready or may yet be. None for any version.

    Raises:
        InvalidInputError: MODEL_NAME_INVALID.
        ModelNotFoundError: No such model or version.
    """
    names = sorted({model for model, _ in entries})
    if not name:
        if len(names) != 1:
            message = (
                f"the server serves {len(names)} models, so the request must name one" if names else "the server serves no model"
            )
            raise InvalidInputError.for_field("model.name", Reason.MODEL_NAME_INVALID, message, actual=len(names), limit=1)
        name = names[0]
    if not NAME_PATTERN.fullmatch(name):
        message = "expected 1 to 64 characters of a-z, 0-9, _ and -, beginning with a letter or digit"
        raise InvalidInputError.for_field("model.name", Reason.MODEL_NAME_INVALID, message)
    versions = {number: entry for (model, number), entry in entries.items() if model == name}
    if not versions:
        raise ModelNotFoundError(Reason.MODEL_NOT_FOUND, f"no model is named {name}", actual=name)
    if version is not None:
        if version not in versions:
            raise ModelNotFoundError(Reason.MODEL_NOT_FOUND, f"model {name} has no version {version}", actual=f"{name}/{version}")
        return versions[version]
    ready = [number for number, entry in versions.items() if entry.state is VersionState.READY]
    if panes is not None and ready:
        fitting = [number for number in ready if versions[number].takes_panes is panes]
        loading = [number for number, entry in versions.items() if entry.state is VersionState.LOADING]
        ready = fitting or [number for number in loading if versions[number].takes_panes in (panes, None)] or ready
    return versions[max(ready or versions)]


def require_rows(entry: VersionEntry, panes: bool, *, named: bool) -> None:
    """Require a version to take rows that hold panes, or that hold whole windows.

    Args:
        entry: The version.
        panes: Whether the rows hold panes.
        named: Whether the request names the version.

    Raises:
        InvalidInputError: PANES_MISMATCH, it takes the other ones, by which these would be misread.
    """
    if entry.takes_panes is None or entry.takes_panes is panes:
        return
    model, version = f"model {entry.name}", f"version {entry.version}"
    if panes and named:
        text = f"{version} of {model} takes whole windows; send such rows and leave panes out, or name a version that takes panes"
    elif panes:
        text = f"no ready version of {model} takes panes, which {version} would misread; send whole windows and leave panes out"
    else:
        text = (
            f"{version} of {model} takes panes: of each feature with `pane`, rows hold what was counted in the last slide of "
            "their window alone; send such rows and set panes"
        )
        text += ", or name a version that takes whole windows" if named else f", as no ready version of {model} takes windows"
    raise InvalidInputError.for_field("panes", Reason.PANES_MISMATCH, text, actual=str(panes).lower())


def make_not_serving_error(entry: VersionEntry) -> ModsError:
    """Return the error for a version that is not in memory."""
    subject = f"model {entry.name} version {entry.version}"
    if entry.state is VersionState.LOADING:
        return ModelUnavailableError(Reason.MODEL_LOADING, f"{subject} is loading", retry_seconds=LOADING_RETRY_SECONDS)
    if entry.state is VersionState.RETIRED:
        return ModelUnusableError(Reason.MODEL_RETIRED, f"{subject} was replaced and is no longer in memory")
    return ModelUnusableError(Reason.MODEL_FAILED, f"{subject} failed to load; GetModel says why")


def fingerprint_folder(folder: Path) -> Fingerprint:
    """Return the fingerprint of a folder; empty if the folder can't be read."""
    try:
        return fingerprint_files(folder.iterdir())
    except OSError:
        return ()  # loading the version reports the reason


def fingerprint_files(paths: Iterable[Path]) -> Fingerprint:
    """Return the fingerprint of files; empty if one of them disappears meanwhile."""
    files = []
    try:
        for path in paths:
            status = path.lstat()
            files.append((path.name, status.st_ino, status.st_size, status.st_ctime_ns))
    except OSError:
        return ()
    return tuple(sorted(files))
