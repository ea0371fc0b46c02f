"""Loads a model version: reads and verifies its folder, tries it in the canary process, opens and measures it."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import LISTED_FILES, MANIFEST_FILE, SIGNATURE_FILE, Manifest, TrustedKeys, read_artifact
from mods_grpc.detection import Detector, SeriesTable
from mods_grpc.detection.engine.chunking import CHUNK_ROWS, Chunking, ChunkRunner, run_sequentially
from mods_grpc.detection.engine.prefetch import PrefetchCache
from mods_grpc.errors import ArtifactError
from mods_grpc.server.models.canary import Canary
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.onnx.cost_model import measure_cost
from mods_grpc.server.onnx.graph_choice import choose_graph
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.server.onnx.session import Session
from mods_grpc.server.scheduling.micro_batcher import MAX_RUN_SECONDS, MAX_WINDOWS, MicroBatcher, RoundHook
from mods_grpc.server.security.file_watcher import FileWatcher
from mods_grpc.server.series.prefetcher import Prefetcher
from mods_grpc.server.series.row_batcher import RowBatcher
from mods_grpc.server.series.slots import SeriesSlots

Instrument = Callable[[int, float], None]
"""Called after every run of a model with the number of windows and the seconds it took."""

REJECTION_STAGES = LISTED_FILES | {MANIFEST_FILE, SIGNATURE_FILE, "manifest", "canary"}
MAX_FAILURE_CHARACTERS = 1000
# Rows per chunk of a large batch, from window to p-value: intermediate arrays stay in the CPU caches, and there are enough chunks
# for several threads. A device takes CHUNK_ROWS at a time.
SCORING_CHUNK_ROWS = {"CPUExecutionProvider": 1024}

logger = logging.getLogger(__name__)


def discard_runs(_model: str) -> Instrument:
    """Return an instrument that records nothing."""
    return lambda _windows, _seconds: None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """Outcome of a load: the version in memory, or why it was rejected.

    Attributes:
        manifest: None if it could not be read. digest: of the manifest, empty if it could not be read.
        loaded: The version; None if it was rejected.
        failure: Why it was rejected, empty if it was not.
    """

    manifest: Manifest | None = None
    digest: str = ""
    loaded: LoadedModel | None = None
    failure: str = ""

    @property
    def rejected_by(self) -> str:
        """The stage that rejected the version: one of REJECTION_STAGES or "other"; empty if it was loaded."""
        stage = self.failure.partition(":")[0]
        return stage if stage in REJECTION_STAGES else "other" if stage else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loader:
    """Loads versions. Holds no state of its own, so it may run on any thread.

    Attributes:
        folder: The model repository.
        provider: Execution provider to load on.
        max_series: Series held per model.
        max_series_per_sensor: Series held per sensor of a model.
        state_idle_seconds: How long the state of a series without new rows is kept.
        canary: Loads a version in a child process first; None to load without that.
        instrument_for: Returns the instrument that records the runs of a model.
        run_seconds: Time limit of one run of a model.
        trusted_keys: Keys of which one must have signed a version; None to accept unsigned versions.
        chunk_runner: Processes the chunks of large batches.
        on_round_end: Hook for micro-batchers; see `MicroBatcher`.
    """

    folder: Path
    provider: str
    max_series: int
    max_series_per_sensor: int
    state_idle_seconds: float
    canary: Canary | None = None
    instrument_for: Callable[[str], Instrument] = discard_runs
    run_seconds: float = 30.0
    trusted_keys: FileWatcher[TrustedKeys] | None = None
    chunk_runner: ChunkRunner = run_sequentially
    on_round_end: RoundHook | None = None

    def cancel(self) -> None:
        """Stop a load in progress on another thread, and reject later ones, if there is a canary."""
        if self.canary:
            self.canary.stop()

    def load(self, name: str, version: int) -> LoadResult:
        """Load a version. Never raises: what is wrong with it is the result."""
        started = time.perf_counter()
        manifest, digest = None, ""
        try:
            artifact = read_artifact(self.folder, name, version, self.trusted_keys.read() if self.trusted_keys else None)
            manifest, digest = artifact.manifest, artifact.digest
            if self.canary and self.canary.check(self.folder, name, version, self.provider) != digest:
                raise ArtifactError("manifest: changed while it was checked")
            session = replace(open_session(artifact, self.provider), run_seconds=self.run_seconds, chunk_runner=self.chunk_runner)
            loaded = self._build(manifest, digest, session)
        except ArtifactError as error:
            failure = error.message
        except Exception:  # a defect that one model triggers must not stop the others from serving
            logger.exception("model_load_crashed", extra={"model": name, "version": version})
            failure = "loading ended in an unexpected error; see the server's log"
        else:
            fields = {
                "model": name,
                "version": version,
                "digest": digest[:12],
                "provider": session.provider,
                "seconds": round(time.perf_counter() - started, 3),
            }
            logger.info("model_loaded", extra=fields)
            return LoadResult(manifest=manifest, digest=digest, loaded=loaded)
        failure = failure.encode(errors="replace").decode()[:MAX_FAILURE_CHARACTERS]
        if self.canary and self.canary.stopped:  # the server stops, which says nothing about the version
            return LoadResult(manifest=manifest, digest=digest, failure=failure)
        logger.error("model_failed", extra={"model": name, "version": version, "reason": failure})
        return LoadResult(manifest=manifest, digest=digest, failure=failure)

    def create_series(self, table: SeriesTable) -> SeriesSlots:
        """Create slots for the series of a model, with their state in an empty table."""
        return SeriesSlots(
            table,
            max_series=self.max_series,
            max_series_per_sensor=self.max_series_per_sensor,
            idle_seconds=self.state_idle_seconds,
        )

    def _build(self, manifest: Manifest, digest: str, session: Session) -> LoadedModel:
        detector = Detector.from_manifest(manifest)
        minimums = tuple(-sys.float_info.max if feature.kind == "mean" else 0.0 for feature in manifest.features)
        middle = [(feature.training_minimum + feature.training_maximum) / 2 for feature in manifest.features]
        window = np.tile(np.array(middle), (1, manifest.rows, 1))
        if session.large_graph is not None:
            session = choose_graph(session, window)
            min_batch = session.min_large_batch if session.large_graph else None
            logger.info("batch_graph", extra={"model": manifest.name, "version": manifest.version, "min_batch": min_batch})
        cost = measure_cost(session.forecast, window, session.run_seconds)
        max_windows = cost.max_batch_within(MAX_RUN_SECONDS, MAX_WINDOWS)
        forecast = _instrumented(session, self.instrument_for(manifest.name))
        series = self.create_series(detector.table(manifest.rows))
        return LoadedModel(
            manifest=manifest,
            digest=digest,
            session=session,
            forecast=forecast,
            micro_batcher=MicroBatcher(forecast, max_windows, self.on_round_end) if session.batch_invariant else None,
            prefetch_cache=PrefetchCache(),
            prefetcher=Prefetcher(series.lock),
            cost=cost,
            detector=detector,
            minimums=np.array(minimums),
            minimum_values=minimums,
            feature_names=tuple(feature.name for feature in manifest.features),
            series=series,
            chunking=Chunking(SCORING_CHUNK_ROWS.get(session.provider, CHUNK_ROWS), self.chunk_runner),
            row_batcher=RowBatcher(series, max_windows) if session.batch_invariant else None,
        )


def _instrumented(session: Session, instrument: Instrument) -> Callable[[Floats, Times], Floats]:
    """Return `session.forecast` with every run recorded. References only the session, so that no cycle keeps the model alive."""

    def forecast(windows: Floats, times: Times) -> Floats:
        started = time.perf_counter()
        forecasts = session.forecast(windows, times)
        instrument(len(windows), time.perf_counter() - started)
        return forecasts

    return forecast
