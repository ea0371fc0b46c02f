"""Rows of as many series, each complete and right after a full window: as most calls bring them, in parts and by columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Indices, Singles, Times
from mods_grpc.detection.engine.chunking import Chunking, chunks_of
from mods_grpc.detection.engine.gap_forecasts import Steps
from mods_grpc.detection.scores.detector import SeriesScale
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.judgement import ScoringResult, ScoringBatch
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer, pack
from mods_grpc.detection.state.series_table import SeriesTable


class Scorer(Protocol):
    """What a monitor needs of a detector."""

    expectation: Expectation
    forecast_buffer: ForecastBuffer
    pattern_rows: int
    extremal_index: float

    def score(self, seen: ScoringBatch, own: SeriesScale | None, /) -> ScoringResult:
        """Judge observations, residuals by what is the series' own where `own` is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FullWindowScorer:
    """Applies and judges such rows.

    Attributes:
        detector: Judges. steps: Makes the steps of forecasts that count.
        table: State of the series. slide: Distance between rows in nanoseconds.
        own_of: Makes what applies the own scales of series; None where the calibration's count.
        chunking: How large batches are split.
    """

    detector: Scorer
    steps: Steps
    table: SeriesTable
    slide: int
    own_of: Callable[[Indices], SeriesScale] | None
    chunking: Chunking

    def score(self, slots: Indices, times: Times, values: Floats) -> tuple[Floats, ScoringResult]:
        """Apply and judge rows `(n, features)` of n series.

        Returns:
            What was forecast, `(n, told * features)`, and the judgement.

        Raises:
            ModelOutputError: As `steps`; nothing was changed.
        """
        table, detector, own_of = self.table, self.detector, self.own_of
        places = detector.forecast_buffer.positions(times // self.slide)

        def look(part: slice) -> tuple[ScoringBatch, Singles, ScoringResult | None]:
            windows = table.windows(slots[part])
            made = self.steps(windows, times[part] - self.slide)
            seen = ScoringBatch(
                times=times[part],
                observed=values[part],
                forecast=made[:, 0],
                pending=table.pending_at(slots[part], places[part]),
                patterns=pattern_windows(windows, values[part], detector.pattern_rows),
                complete=True,
            )
            waits = pack(detector.expectation.to_stored(made[:, 1:], detector.forecast_buffer.delays))
            return seen, waits, None if own_of else detector.score(seen, None)

        found = self.chunking.run(look, len(slots))
        table.store_pending(slots, places, np.concatenate([waits for _, waits, _ in found]))  # from here on series change
        table.push(slots, times, values)
        forecasts = np.concatenate([seen.forecast for seen, _, _ in found])
        judged = [judgement for _, _, judgement in found if judgement is not None]
        if own_of:
            chunks = chunks_of(len(slots), self.chunking.size)
            judged = [detector.score(seen, own_of(slots[chunk])) for (seen, _, _), chunk in zip(found, chunks, strict=True)]
        return forecasts, ScoringResult.concatenate(judged)


def pattern_windows(windows: Floats, values: Floats, rows: int) -> NDArray[np.float32]:
    """Return the last rows with the newest, `(n, rows, features)`, of windows and the values after them, `(n, features)`."""
    patterns = np.empty((len(windows), rows, windows.shape[2]), np.float32)
    patterns[:, : rows - 1], patterns[:, rows - 1] = windows[:, windows.shape[1] + 1 - rows :], values
    return patterns
