"""What the detector is shown, and what it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringBatch:
    """n observations as the detector is shown them.

    Attributes:
        times: `(n,)` nanoseconds.
        observed: `(n, features)` raw units, NaN where missing.
        forecast: `(n, told * features)` raw units, what was forecast one step before.
        ahead: `(n, horizons - 1, numbers * features)` what was forecast more steps before, as an `Expectation` keeps it; NaN
            where there was no forecast.
        patterns: `(n, rows, features)` raw units, single precision: the last rows with the observation itself,
            what is missing filled.
        complete: Whether it is known that no value is missing.
    """

    times: NDArray[np.int64]
    observed: Floats
    forecast: Floats
    pending: Floats | NDArray[np.float32]
    patterns: NDArray[np.float32]
    complete: bool = False

    def take(self, at: NDArray[np.intp] | slice) -> "ScoringBatch":
        """Return some of them."""
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
class Explanation:
    """Why observations were judged as they were, all `(n, features)`.

    Attributes:
        feature_p: Of the forecast one step before; NaN where the value was missing.
        share: Of the evidence, 0 to 1, adding up to 1 over a row.
        direction: 1 where the strongest evidence of the forecasts and of the level says too high, -1 where too low, 0 where
            there is little of it.
        scale: What the scale of residuals of one step is multiplied by for the series' own sake.
    """

    feature_p: Floats
    share: Floats
    direction: NDArray[np.int8]
    scale: NDArray[np.float32]

    @classmethod
    def empty(cls, n: int, features: int) -> "Explanation":
        """Say of n observations that nothing is known: NaN, direction 0 and scale 1."""
        shape = (n, features)
        return cls(
            feature_p=np.full(shape, np.nan),
            share=np.full(shape, np.nan),
            direction=np.zeros(shape, np.int8),
            scale=np.ones(shape, np.float32),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringResult:
    """Verdicts on n observations.

    Attributes:
        p_value: `(n,)`, of all evidence; NaN where every value was missing.
        out_of_distribution: `(n,)`, whether a value lies further outside the training range than that range is wide.
        explain: Says why, for the observations of these numbers; most need no explanation.
    """

    p_value: Floats
    out_of_distribution: NDArray[np.bool_]
    explain: Callable[[NDArray[np.intp]], Explanation]

    @classmethod
    def concatenate(cls, parts: Sequence["ScoringResult"]) -> "ScoringResult":
        """Put verdicts on parts of a batch together, all but the last of which are of the same size."""
        if len(parts) == 1:
            return parts[0]
        rows = len(parts[0].p_value)

        def explain(at: NDArray[np.intp]) -> Explanation:
            which, numbers = np.divmod(at, rows)
            found = [(which == part, parts[part].explain(numbers[which == part])) for part in np.unique(which).tolist()]
            whole = Explanation.empty(len(at), found[0][1].share.shape[1] if found else 0)
            for mine, told in found:
                whole.feature_p[mine], whole.share[mine] = told.feature_p, told.share
                whole.direction[mine], whole.scale[mine] = told.direction, told.scale
            return whole

        return cls(
            p_value=np.concatenate([part.p_value for part in parts]),
            out_of_distribution=np.concatenate([part.out_of_distribution for part in parts]),
            explain=explain,
        )
