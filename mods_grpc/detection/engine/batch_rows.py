"""Batches as most calls bring them: one complete row each of n series, directly after a full window. Scored in chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mods_grpc.array_types import Floats, Indices, Singles, Times
from mods_grpc.detection.engine.chunking import Chunking, chunks_of
from mods_grpc.detection.engine.gap_forecasts import StepForecaster
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.scoring_batch import ScoringBatch, ScoringResult, SeriesMemory
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer, pack
from mods_grpc.detection.state.pane_sums import PaneSums
from mods_grpc.detection.state.series_table import SeriesTable


class Scorer(Protocol):
    """The part of a detector that a monitor needs."""

    expectation: Expectation
    forecast_buffer: ForecastBuffer
    pattern_rows: int
    panes: PaneSums | None

    def extremal_index_at(self, level: float, /) -> float:
        """Return the episodes per row that reaches a significance level."""

    def score(self, batch: ScoringBatch, memory: SeriesMemory | None, /) -> ScoringResult:
        """Score rows; with `memory` by what their own series learned, which learn from them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FullWindowScorer:
    """Applies and scores rows of series with full windows.

    Attributes:
        detector: Scores. steps: Forecasts.
        table: State of the series.
        slide: Distance between rows in nanoseconds.
        memory_of: Returns the memory of series; None if rows are judged by the calibration alone.
        chunking: How large batches are split.
    """

    detector: Scorer
    steps: StepForecaster
    table: SeriesTable
    slide: int
    memory_of: Callable[[Indices], SeriesMemory] | None
    chunking: Chunking

    def score(self, slots: Indices, times: Times, values: Floats) -> tuple[Floats, Floats, ScoringResult]:
        """Apply and score one row `(features,)` each of n series.

        Returns:
            The forecasts of the rows, `(n, outputs_per_feature * features)`; what was observed, `(n, features)`; their scores.

        Raises:
            ModelOutputError: As `steps`; no series was changed.
        """
        table, detector, memory_of = self.table, self.detector, self.memory_of
        panes, positions = detector.panes, detector.forecast_buffer.positions(times // self.slide)

        def forecast_chunk(chunk: slice) -> tuple[ScoringBatch, Singles, ScoringResult | None]:
            windows, rows = table.windows(slots[chunk]), values[chunk]
            steps = self.steps(windows, times[chunk] - self.slide)
            batch = ScoringBatch(
                times=times[chunk],
                observed=rows if panes is None else panes.add(panes.shared(windows), rows),
                forecast=steps[:, 0],
                pending=table.pending_at(slots[chunk], positions[chunk]),
                patterns=pattern_windows(windows, rows, detector.pattern_rows),
                complete=True,
            )
            stored = pack(detector.expectation.to_stored(steps[:, 1:], detector.forecast_buffer.delays))
            return batch, stored, None if memory_of else detector.score(batch, None)

        chunks = self.chunking.run(forecast_chunk, len(slots))
        table.store_pending(slots, positions, np.concatenate([stored for _, stored, _ in chunks]))  # changes start here
        table.push(slots, times, values)
        forecasts = np.concatenate([batch.forecast for batch, _, _ in chunks])
        observed = values if panes is None else np.concatenate([batch.observed for batch, _, _ in chunks])
        results = [result for _, _, result in chunks if result is not None]
        if memory_of:
            slices = chunks_of(len(slots), self.chunking.size)
            results = [
                detector.score(batch, memory_of(slots[chunk])) for (batch, _, _), chunk in zip(chunks, slices, strict=True)
            ]
        return forecasts, observed, ScoringResult.concatenate(results)


def pattern_windows(windows: Floats, values: Floats, rows: int) -> Singles:
    """Return the last `rows` rows, `(n, rows, features)`, of windows followed by the values `(n, features)`."""
    patterns = np.empty((len(windows), rows, windows.shape[2]), np.float32)
    patterns[:, : rows - 1], patterns[:, rows - 1] = windows[:, windows.shape[1] + 1 - rows :], values
    return patterns
