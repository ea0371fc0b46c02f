"""A model version that is loaded: what runs, scores and holds its series."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import Manifest
from mods_grpc.detection import Detector, Monitor, SeriesTable
from mods_grpc.detection.engine.chunking import Chunking
from mods_grpc.detection.engine.prefetch import PrefetchCache
from mods_grpc.server.onnx.cost_model import CostModel
from mods_grpc.server.onnx.session import Session
from mods_grpc.server.scheduling.micro_batcher import MicroBatcher
from mods_grpc.server.series.prefetcher import Prefetcher
from mods_grpc.server.series.row_batcher import RowBatcher
from mods_grpc.server.series.slots import SeriesSlots


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model version in memory: manifest, ONNX session, detector and the state of its series.

    Attributes:
        manifest: What the version declares.
        digest: SHA-256 of the manifest, in hexadecimal.
        session: Runs the ONNX graphs.
        forecast: Maps windows `(n, rows, features)` in raw units and the times of their last rows, `(n,)` nanoseconds, to
            forecasts `(n, horizon, outputs_per_feature * features)`; see `Forecaster`.
        micro_batcher: Does the same for the windows of concurrent calls; None if a forecast may depend on the other windows of
            its batch.
        prefetch_cache: Scoring contexts computed ahead of time for next rows.
        prefetcher: Fills that cache.
        row_batcher: Scores single rows of several streams together; None where `micro_batcher` is.
        cost: Measured run time by batch size.
        detector: Turns rows and their forecasts into calibrated p-values.
        minimums: Smallest valid value of each feature, `(features,)`.
        minimum_values: The same as Python floats.
        feature_names: Names of the features, in the order of columns.
        series: The series that this version scores, with their state.
        chunking: How large batches are split into chunks.
    """

    manifest: Manifest
    digest: str
    session: Session
    forecast: Callable[[Floats, Times], Floats]
    micro_batcher: MicroBatcher | None
    prefetch_cache: PrefetchCache
    prefetcher: Prefetcher
    row_batcher: RowBatcher | None
    cost: CostModel
    detector: Detector
    minimums: Floats
    minimum_values: tuple[float, ...]
    feature_names: tuple[str, ...]
    series: SeriesSlots
    chunking: Chunking

    def monitor(
        self,
        table: SeriesTable,
        *,
        adapt: bool = False,
        own_scales: bool = False,
        own_envelope: bool = False,
        own_intervals: bool = False,
    ) -> Monitor:
        """Create a monitor of the series in a table; `adapt` and what they have of their own as for `Monitor`."""
        return Monitor(
            self.detector,
            self.forecast,
            table,
            slide_seconds=self.manifest.slide_seconds,
            holdoff_rows=self.manifest.calibration.holdoff_rows,
            adapt=adapt,
            own_scales=own_scales,
            own_envelope=own_envelope,
            own_intervals=own_intervals,
            chunking=self.chunking,
            prefetch_cache=self.prefetch_cache if table is self.series.table else None,
        )

    @cached_property  # one tuple, which all streams of the version refer to
    def grid(self) -> Any:
        """Features, what rows hold of them, and time grid. Versions with equal grids can continue each other's windows."""
        manifest = self.manifest
        features = tuple((feature.name, feature.unit, feature.kind) for feature in manifest.features)
        grid = (features, manifest.slide_seconds, manifest.window_seconds)
        # without panes as in the state files of versions that don't know them
        return (*grid, tuple(feature.pane for feature in manifest.features)) if manifest.panes else grid

    def can_continue(self, other: "LoadedModel") -> bool:
        """Return whether this version can continue the windows of another one."""
        return bool(self.grid == other.grid)
