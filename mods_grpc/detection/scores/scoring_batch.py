"""The rows given to the detector, the result of scoring them, and its explanation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats, Indices, Singles, Times
from mods_grpc.detection.state.series_table import QUANTILE_LEVELS, SeriesTable


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringBatch:
    """n rows to score.

    Attributes:
        times: `(n,)` nanoseconds.
        observed: `(n, features)` raw units, NaN where missing; of whole windows where rows hold panes.
        forecast: `(n, outputs_per_feature * features)` raw units, made one step before.
        pending: `(n, horizons - 1, stored_per_feature * features)` forecasts made more steps before, as stored by `Expectation`;
            NaN where there is none.
        patterns: `(n, rows, features)` raw units, single precision: the last rows, the observed one included, missing values
            filled; panes where rows hold panes.
        complete: Whether it is known that no value is missing.
    """

    times: Times
    observed: Floats
    forecast: Floats
    pending: Floats | Singles
    patterns: Singles
    complete: bool = False

    def take(self, at: Indices | slice) -> "ScoringBatch":
        """Return some of the rows."""
        return ScoringBatch(
            times=self.times[at],
            observed=self.observed[at],
            forecast=self.forecast[at],
            pending=self.pending[at],
            patterns=self.patterns[at],
            complete=self.complete,
        )

    @classmethod
    def concatenate(cls, batches: Sequence["ScoringBatch"]) -> "ScoringBatch":
        """Return the rows of several batches, at least one, as one batch."""
        return cls(
            times=np.concatenate([batch.times for batch in batches]),
            observed=np.concatenate([batch.observed for batch in batches]),
            forecast=np.concatenate([batch.forecast for batch in batches]),
            pending=np.concatenate([batch.pending for batch in batches]),
            patterns=np.concatenate([batch.patterns for batch in batches]),
            complete=all(batch.complete for batch in batches),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesMemory:
    """What rows may use, and change, of what their own series learned.

    Attributes:
        table: State of the series.
        slots: `(n,)` the series of the rows; may repeat.
        own_scales: Whether residuals are divided by the series' own scales.
        own_envelope: Whether values are judged by the series' own envelope as well.
        own_intervals: Whether the series' own intervals are learned.
    """

    table: SeriesTable
    slots: Indices
    own_scales: bool
    own_envelope: bool
    own_intervals: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """The explanation of the scores of n rows; arrays `(n, features)` unless said otherwise.

    Attributes:
        feature_p: p-value of each feature, of the forecast one step before; NaN where the value was missing.
        share: Share of each feature in the evidence, 0 to 1; adds up to 1 over a row.
        direction: Direction of the strongest evidence of the forecasts and the level: 1 too high, -1 too low, 0 if there is
            little evidence.
        scale: Factor of the series' own residual scale of one step; 1 where the calibration's scale is used.
        usual_peak: Usual peak of the series, raw units, in rows that are judged by it; else NaN.
        quantiles: `(n, levels, features)` offsets of the series' own quantiles of one step, before the row was learned from; NaN
            where the calibration's intervals are used.
    """

    feature_p: Floats
    share: Floats
    direction: NDArray[np.int8]
    scale: Singles
    usual_peak: Floats
    quantiles: Singles

    @classmethod
    def empty(cls, n: int, features: int) -> "Explanation":
        """Return the explanation of n rows that were not scored: NaN, direction 0 and scale 1."""
        shape = (n, features)
        return cls(
            feature_p=np.full(shape, np.nan),
            share=np.full(shape, np.nan),
            direction=np.zeros(shape, np.int8),
            scale=np.ones(shape, np.float32),
            usual_peak=np.full(shape, np.nan),
            quantiles=no_quantiles(n, features),
        )

    def write(self, at: Indices | Bools, rows: "Explanation") -> None:
        """Write the explanation of the rows `at`."""
        self.feature_p[at], self.share[at] = rows.feature_p, rows.share
        self.direction[at], self.scale[at], self.usual_peak[at] = rows.direction, rows.scale, rows.usual_peak
        self.quantiles[at] = rows.quantiles


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringResult:
    """The scores of n rows.

    Attributes:
        p_value: `(n,)`, of all evidence; NaN where every value was missing.
        out_of_distribution: `(n,)`, whether a value lies further outside the training range than that range is wide.
        explain: Returns the explanation of the rows with these indices. Most rows need none, so it is computed on demand.
    """

    p_value: Floats
    out_of_distribution: Bools
    explain: Callable[[Indices], Explanation]

    @classmethod
    def concatenate(cls, results: Sequence["ScoringResult"]) -> "ScoringResult":
        """Return the results of the chunks of a batch as one; all chunks but the last have the same size."""
        if len(results) == 1:
            return results[0]
        size = len(results[0].p_value)

        def explain(at: Indices) -> Explanation:
            chunk_of, index = np.divmod(at, size)
            parts = [(chunk_of == i, results[i].explain(index[chunk_of == i])) for i in np.unique(chunk_of).tolist()]
            explanation = Explanation.empty(len(at), parts[0][1].share.shape[1] if parts else 0)
            for rows, part in parts:
                explanation.write(rows, part)
            return explanation

        return cls(
            p_value=np.concatenate([result.p_value for result in results]),
            out_of_distribution=np.concatenate([result.out_of_distribution for result in results]),
            explain=explain,
        )


def no_quantiles(n: int, features: int) -> Singles:
    """Return the quantiles of an Explanation of n rows that are given the calibration's intervals."""
    return np.full((n, len(QUANTILE_LEVELS), features), np.nan, np.float32)
