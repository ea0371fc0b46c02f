"""A version on its way from the folder to serving: read, tried by the canary, opened."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import LISTED_FILES, MANIFEST_FILE, SIGNATURE_FILE, Manifest, TrustedKeys, read_artifact
from mods_grpc.detection import Detector, Monitor, SeriesTable
from mods_grpc.detection.engine.chunking import Share, Sharing, alone
from mods_grpc.detection.engine.gap_forecasts import WINDOWS_PER_RUN
from mods_grpc.detection.engine.prefetch import StandingRows
from mods_grpc.errors import ArtifactError
from mods_grpc.server.models.canary import Canary
from mods_grpc.server.onnx.cost_model import CostModel, measure_cost
from mods_grpc.server.onnx.graph_choice import choose_graph
from mods_grpc.server.onnx.session import Session, open_session
from mods_grpc.server.scheduling.micro_batcher import MAX_RUN_SECONDS, MAX_WINDOWS, MicroBatcher, RoundHook
from mods_grpc.server.series.prefetcher import Prefetcher
from mods_grpc.server.series.row_batcher import RowBatcher
from mods_grpc.server.series.slots import SeriesSlots

Instrument = Callable[[int, float], None]
"""Is told of every run of a model: how many windows, how many seconds."""

REJECTION_STAGES = LISTED_FILES | {MANIFEST_FILE, SIGNATURE_FILE, "manifest", "canary"}
MAX_FAILURE_CHARACTERS = 1000
# of a part of a large batch, from window to p-value: what is between stays in the caches, and several threads find enough to
# do. A device takes all at once.
CHUNK_ROWS = {"CPUExecutionProvider": 1024}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A version that serves: what it is, how it runs, how it judges, and the series it watches.

    `forecast` maps windows `(n, rows, features)` in raw units and the times of their last rows, `(n,)` nanoseconds, to
    `(n, horizon, told * features)`, see `Forecaster`; `gatherer` does so for many calls at once. `standing` holds what is
    known of next rows, which `ahead` works out. `rows` judges those of several streams at once. `gatherer` and `rows` are None
    where a window's forecast may depend on others. `least` is the least value that each feature can have, and `lowest` the same
    in numbers. `sharing` tells how large batches are worked on.
    """

    manifest: Manifest
    digest: str
    session: Session
    forecast: Callable[[Floats, Times], Floats]
    micro_batcher: MicroBatcher | None
    prefetch_cache: StandingRows
    prefetcher: Prefetcher
    row_batcher: RowBatcher | None
    cost: CostModel
    detector: Detector
    minimums: Floats
    minimum_values: tuple[float, ...]
    feature_names: tuple[str, ...]
    states: SeriesSlots
    sharing: Sharing

    def monitor(self, table: SeriesTable, *, adapt: bool = False, own_scales: bool = False) -> Monitor:
        """Make a monitor that watches the series of a table with this model; `adapt` and `own_scales` as for Monitor."""
        return Monitor(
            self.detector,
            self.forecast,
            table,
            slide_seconds=self.manifest.slide_seconds,
            holdoff_rows=self.manifest.calibration.holdoff_rows,
            adapt=adapt,
            own_scales=own_scales,
            sharing=self.sharing,
            standing=self.prefetch_cache if table is self.states.table else None,
        )

    @property
    def grid(self) -> Any:
        """What another version must agree on to go on with the windows of this one: features, and their grid of time."""
        manifest = self.manifest
        features = tuple((feature.name, feature.unit, feature.kind) for feature in manifest.features)
        return (features, manifest.slide_seconds, manifest.window_seconds)

    def tracks_state(self, other: "LoadedModel") -> bool:
        """Tell whether this version can go on with the windows of another."""
        return bool(self.grid == other.grid)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """How loading a version went: `loaded`, or why not. Manifest and digest are known once they were read."""

    manifest: Manifest | None = None
    digest: str = ""
    loaded: LoadedModel | None = None
    failure: str = ""

    @property
    def rejected_by(self) -> str:
        """Which part of the version was refused, in a word."""
        part = self.failure.partition(":")[0]
        return part if part in REJECTION_STAGES else "other" if part else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loader:
    """Loads versions. Changes nothing, so it may run on any thread.

    Attributes:
        folder: The model repository. provider: Execution provider to load on.
        max_series: Series held per model. max_series_per_sensor: per sensor of a model.
        state_idle_seconds: How long state of a series that sends nothing is kept.
        canary: Tries a version in a child process first; None to do without.
        meter_of: Makes what is told of every run of a model.
        run_seconds: How long a run may take.
        trusted: Tells the keys of which one must have signed a version; None to do without.
        share: Works on the parts of large batches.
        at_end_of_round: Of gatherers.
    """

    folder: Path
    provider: str
    max_series: int
    max_series_per_sensor: int
    state_idle_seconds: float
    canary: Canary | None
    instrument_for: Callable[[str], Instrument]
    run_seconds: float
    trusted: Callable[[], TrustedKeys] | None = None
    share: Share = alone
    on_round_end: RoundHook | None = None

    def load(self, name: str, version: int) -> LoadResult:
        """Load a version, whatever is wrong with it."""
        started = time.perf_counter()
        manifest, digest = None, ""
        try:
            artifact = read_artifact(self.folder, name, version, self.trusted() if self.trusted else None)
            manifest, digest = artifact.manifest, artifact.digest
            if self.canary and self.canary.check(self.folder, name, version, self.provider) != digest:
                raise ArtifactError("manifest: changed while it was checked")
            session = replace(open_session(artifact, self.provider), run_seconds=self.run_seconds, share=self.share)
            loaded = self._build(manifest, digest, session)
        except ArtifactError as error:
            failure = error.message
        except Exception:  # whatever is wrong with one model, the others serve
            log.exception("model_broke model=%s version=%d", name, version)
            failure = "it made loading fail in a way that is not foreseen; the server's log says how"
        else:
            seconds = time.perf_counter() - started
            text = "model_loaded model=%s version=%d digest=%s provider=%s seconds=%.3f"
            log.info(text, name, version, digest[:12], session.provider, seconds)
            return LoadResult(manifest=manifest, digest=digest, loaded=loaded)
        failure = failure.encode(errors="replace").decode()[:MAX_FAILURE_CHARACTERS]
        log.error("model_failed model=%s version=%d reason=%r", name, version, failure)
        return LoadResult(manifest=manifest, digest=digest, failure=failure)

    def _build(self, manifest: Manifest, digest: str, session: Session) -> LoadedModel:
        detector = Detector.from_manifest(manifest)
        lowest = tuple(-sys.float_info.max if feature.kind == "mean" else 0.0 for feature in manifest.features)
        middle = [(feature.training_minimum + feature.training_maximum) / 2 for feature in manifest.features]
        usual = np.tile(np.array(middle), (1, manifest.rows, 1))
        if session.large_graph is not None:
            session = choose_graph(session, usual)
            text = "second_graph model=%s version=%d batches_from=%s"
            log.info(text, manifest.name, manifest.version, session.min_large_batch if session.large_graph else "none")
        cost = measure_cost(session.forecast, usual, session.run_seconds)
        most = cost.max_batch_within(MAX_RUN_SECONDS, MAX_WINDOWS)
        forecast = _instrumented(session, self.instrument_for(manifest.name))
        states = SeriesSlots(
            detector.table(manifest.rows),
            max_series=self.max_series,
            max_series_per_sensor=self.max_series_per_sensor,
            idle_seconds=self.state_idle_seconds,
        )
        return LoadedModel(
            manifest=manifest,
            digest=digest,
            session=session,
            forecast=forecast,
            micro_batcher=MicroBatcher(forecast, most, self.on_round_end) if session.batch_invariant else None,
            prefetch_cache=StandingRows(),
            prefetcher=Prefetcher(states.lock),
            cost=cost,
            detector=detector,
            minimums=np.array(lowest),
            minimum_values=lowest,
            feature_names=tuple(feature.name for feature in manifest.features),
            states=states,
            sharing=Sharing(self.share, CHUNK_ROWS.get(session.provider, WINDOWS_PER_RUN)),
            row_batcher=RowBatcher(states, most) if session.batch_invariant else None,
        )


def _instrumented(session: Session, meter: Instrument) -> Callable[[Floats, Times], Floats]:
    """Return what runs a model and tells of it. It holds nothing of the model but the session, so no cycle keeps that alive."""

    def forecast(windows: Floats, times: Times) -> Floats:
        started = time.perf_counter()
        found = session.forecast(windows, times)
        meter(len(windows), time.perf_counter() - started)
        return found

    return forecast
