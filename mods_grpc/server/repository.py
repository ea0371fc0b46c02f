"""The models of the repository: loaded beside each other, found by name and version, with the reason of those refused."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from mods_grpc.artifact import Artifact, Manifest, list_versions, read_artifact
from mods_grpc.artifact.manifest import NAME_PATTERN
from mods_grpc.detection import Detector, Monitor, SeriesTable
from mods_grpc.errors import (
    ArtifactError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    ModelUnusableError,
    ModsError,
    Reason,
)
from mods_grpc.server.series_states import SeriesStates
from mods_grpc.server.session import Session, open_session

LOADING_RETRY_SECONDS = 1.0
MAX_FAILURE_CHARACTERS = 1000

log = logging.getLogger(__name__)


class State(IntEnum):
    """State of a version, numbered as on the wire."""

    LOADING = 1
    READY = 2
    FAILED = 3
    RETIRED = 4


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A version that serves: what it is, how it runs, how it judges, and the series it watches."""

    manifest: Manifest
    digest: str
    session: Session
    detector: Detector
    kinds_not_negative: np.ndarray[tuple[int], np.dtype[np.bool_]]
    feature_names: tuple[str, ...]
    states: SeriesStates

    def monitor(self, table: SeriesTable) -> Monitor:
        """Make a monitor that watches the series of a table with this model."""
        return Monitor(
            self.detector,
            self.session.forecast,
            table,
            slide_seconds=self.manifest.slide_seconds,
            holdoff_rows=self.manifest.calibration.holdoff_rows,
        )


@dataclass(kw_only=True)
class Entry:
    """A version of the repository. `manifest` and `digest` are known once it was read; `loaded` once it is READY."""

    name: str
    version: int
    state: State = State.LOADING
    failure: str = ""
    manifest: Manifest | None = None
    digest: str = ""
    loaded: LoadedModel | None = field(default=None, repr=False)


class Repository:
    """The models a server serves.

    Args:
        folder: The model repository.
        provider: Execution provider to load on.
        max_series: Series held per model. max_series_per_sensor: per sensor of a model.
        state_idle_seconds: How long state of a series that sends nothing is kept.
    """

    def __init__(
        self, folder: Path, *, provider: str, max_series: int, max_series_per_sensor: int, state_idle_seconds: float
    ) -> None:
        self._folder = folder
        self._provider = provider
        self._series_limits = (max_series, max_series_per_sensor, state_idle_seconds)
        self._entries: dict[tuple[str, int], Entry] = {}

    def scan(self) -> None:
        """Take note of the versions in the folder, as LOADING.

        Raises:
            ArtifactError: The folder can't be read.
        """
        for name, version in list_versions(self._folder):
            self._entries.setdefault((name, version), Entry(name=name, version=version))

    def load_all(self) -> None:
        """Load every version that is LOADING; what can't be loaded becomes FAILED with its reason."""
        for entry in [entry for entry in self._entries.values() if entry.state is State.LOADING]:
            started = time.perf_counter()
            try:
                artifact = read_artifact(self._folder, entry.name, entry.version)
                entry.manifest, entry.digest = artifact.manifest, artifact.digest
                entry.loaded = self._load(artifact)
            except ArtifactError as error:
                self._refuse(entry, error.message)
            except Exception:  # whatever is wrong with one model, the others serve
                log.exception("model_broke model=%s version=%d", entry.name, entry.version)
                self._refuse(entry, "it made loading fail in a way that is not foreseen; the server's log says how")
            else:
                entry.state = State.READY
                log.info(
                    "model_ready model=%s version=%d digest=%s provider=%s seconds=%.3f",
                    entry.name,
                    entry.version,
                    entry.digest[:12],
                    entry.loaded.session.provider,
                    time.perf_counter() - started,
                )

    @staticmethod
    def _refuse(entry: Entry, reason: str) -> None:
        entry.failure = reason.encode(errors="replace").decode()[:MAX_FAILURE_CHARACTERS]
        entry.state = State.FAILED
        log.error("model_failed model=%s version=%d reason=%r", entry.name, entry.version, entry.failure)

    def _load(self, artifact: Artifact) -> LoadedModel:
        manifest = artifact.manifest
        session = open_session(artifact, self._provider)
        table = SeriesTable(manifest.rows, len(manifest.features))
        max_series, per_sensor, idle = self._series_limits
        return LoadedModel(
            manifest=manifest,
            digest=artifact.digest,
            session=session,
            detector=Detector.from_manifest(manifest),
            kinds_not_negative=np.array([feature.kind != "mean" for feature in manifest.features]),
            feature_names=tuple(feature.name for feature in manifest.features),
            states=SeriesStates(table, max_series=max_series, max_series_per_sensor=per_sensor, idle_seconds=idle),
        )

    def entries(self) -> Iterator[Entry]:
        """Yield all versions, by name and then newest first."""
        yield from (self._entries[key] for key in sorted(self._entries, key=lambda key: (key[0], -key[1])))

    @property
    def ready(self) -> bool:
        """Whether nothing is loading any more and at least one model serves."""
        states = {entry.state for entry in self._entries.values()}
        return State.LOADING not in states and State.READY in states

    def find(self, name: str, version: int | None) -> Entry:
        """Find a version: of the only model when the name is empty, the newest ready one when the version is None.

        Raises:
            InvalidInputError: MODEL_NAME_INVALID.
            ModelNotFoundError: No such model or version.
        """
        names = sorted({known for known, _ in self._entries})
        if not name:
            if len(names) != 1:
                message = f"the server serves {len(names)} models, so the request must name one"
                raise InvalidInputError.of("model.name", Reason.MODEL_NAME_INVALID, message, actual=len(names), limit=1)
            name = names[0]
        if not NAME_PATTERN.fullmatch(name):
            message = "expected 1 to 64 characters of a-z, 0-9, _ and -, beginning with a letter or digit"
            raise InvalidInputError.of("model.name", Reason.MODEL_NAME_INVALID, message)
        versions = {number: entry for (known, number), entry in self._entries.items() if known == name}
        if not versions:
            raise ModelNotFoundError(Reason.MODEL_NOT_FOUND, f"no model is named {name}", actual=name)
        if version is not None:
            if version not in versions:
                raise ModelNotFoundError(
                    Reason.MODEL_NOT_FOUND, f"model {name} has no version {version}", actual=f"{name}/{version}"
                )
            return versions[version]
        ready = [number for number, entry in versions.items() if entry.state is State.READY]
        return versions[max(ready or versions)]

    def serving(self, name: str, version: int | None) -> LoadedModel:
        """Find a version that serves.

        Raises:
            InvalidInputError, ModelNotFoundError: As `find`.
            ModelUnavailableError: It is still loading.
            ModelUnusableError: It failed to load.
        """
        entry = self.find(name, version)
        if entry.loaded is not None and entry.state is not State.LOADING:
            return entry.loaded
        raise self._why_not(entry)

    @staticmethod
    def _why_not(entry: Entry) -> ModsError:
        what = f"model {entry.name} version {entry.version}"
        if entry.state is State.LOADING:
            return ModelUnavailableError(Reason.MODEL_LOADING, f"{what} is loading", retry_seconds=LOADING_RETRY_SECONDS)
        return ModelUnusableError(Reason.MODEL_FAILED, f"{what} failed to load; GetModel says why")
