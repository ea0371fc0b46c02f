"""The envelope of a series: how far a row is above what the series itself usually reaches.

A calibration that is pooled over many series says what is usual on average: 77 MB sent are ordinary for a file server and
unheard of for a desk. So each series has an envelope of its own. Of each counted feature, in logarithms, and of -log10 of the
model's p-value, the highest value of every block of time (an hour, or longer where windows are) has a running median and a mean
excess above it, both of the series. The score is the distance of a value above that median, in mean excesses. Scaled so,
excesses have tails that are much the same from series to series, which is why tails are pooled (regional frequency analysis:
Hosking & Wallis 1997, who pool the floods of rivers). The strongest column counts, not the sum: a feature that explodes is not
outvoted, and neither is a fall, which the model's p-value sees.

A block is learned from once, when it is over, so that values are judged by the blocks before theirs. The median moves by no more
than a bounded step (Robbins & Monro 1951) and an excess counts up to CLIP times the mean, so that an attack of one block moves
neither far. Whoever ramps for a week does widen it. The model's calibration can't be taught, so its p-value keeps a share of the
budget, POOLED_SHARE, and values a hundred times above the training range count in any case.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Indices, Integers, Singles, Times

NUMBERS = 3  # of a column of a series: usual peak, spread, highest value of the current block
MEDIAN, SPREAD, HIGHEST = range(NUMBERS)
NO_BLOCK = np.iinfo(np.int64).min
MIN_BLOCKS = 4  # complete ones of a series, from which on it is judged
MAX_BLOCKS = 24 * 28  # from here on steps stay the same
STEP, PRIOR_STEPS = 8.0, 4.0  # the median moves by at most STEP mean excesses / (blocks + PRIOR_STEPS)
CLIP, PRIOR_EXCESSES = 3.0, 3.0
MIN_SPREAD, MIN_P_SPREAD = 0.1, 0.3  # a tenth more, or twice as rare, is ordinary for any series
POOLED_SHARE = 0.25  # of the budget, for the model's p-value
EVIDENCE_STEP = 0.02  # of -log10 p in tables
MAX_EVIDENCE = 10.0
FEW_ROWS = 4  # up to which counting is faster than searching


class EnvelopeState(Protocol):
    """The envelopes of many series, by slot.

    Attributes:
        envelope: `(capacity, NUMBERS, features + 1)`, NaN where there is none.
        envelope_block: `(capacity,)` number of the current block, NO_BLOCK before the first row.
        envelope_blocks: `(capacity,)` complete ones.
    """

    envelope: Singles
    envelope_block: Integers
    envelope_blocks: NDArray[np.int32]


class EnvelopeEvidence(NamedTuple):
    """The evidence of n rows.

    Attributes:
        p_value: `(n,)`, the model's where a series is not known yet.
        by_feature: `(n, features)`, -log10 p of each feature by the envelope; 0 in rows that the model decides.
        usual: `(n, features)` raw units, the usual peak; NaN where there is none.
    """

    p_value: Floats
    by_feature: Floats
    usual: Floats

    def take(self, at: Indices) -> "EnvelopeEvidence":
        """Return the evidence of some rows."""
        return EnvelopeEvidence(self.p_value[at], self.by_feature[at], self.usual[at])


class Envelope:
    """Judges rows by the envelopes of their series, and learns from them.

    Args:
        block_seconds: Length of a block.
        offsets: Added to values before the logarithm, by feature; None for features that are not judged.
        spread: Mean excess that series start with, of each feature and of the model's evidence.
        scores: For each of these columns, score i is the highest that has a -log10 p below (i + 1) EVIDENCE_STEP. Ascending.
        p_values: p-value i is that of a row whose strongest column has a -log10 p of i EVIDENCE_STEP. Descending.
        training_range: The training range.
    """

    def __init__(
        self,
        *,
        block_seconds: int,
        offsets: Sequence[float | None],
        spread: Sequence[float],
        scores: Sequence[Sequence[float]],
        p_values: Sequence[float],
        training_range: TrainingRange,
    ) -> None:
        self._block = block_seconds * NANOS_PER_SECOND
        self._offset = np.array([np.nan if small is None else small for small in offsets])
        self._first_spread = np.array(spread, np.float32)
        self._min_spread = np.full(len(spread), MIN_SPREAD, np.float32)
        self._min_spread[-1] = MIN_P_SPREAD
        self._columns = [np.array(column) for column in scores]
        self._padded = np.full((len(scores), max(map(len, scores))), np.inf)
        for padded, column in zip(self._padded, self._columns, strict=True):
            padded[: len(column)] = column
        self._p_values = np.array(p_values) / (1 - POOLED_SHARE)
        self._range = training_range

    @property
    def smallest_p(self) -> float:
        """The smallest p-value."""
        return float(self._p_values[-1])

    def judge(self, state: EnvelopeState, slots: Indices, times: Times, observed: Floats, p_value: Floats) -> EnvelopeEvidence:
        """Judge one row of each of several different series, and learn from it.

        Args:
            state: The envelopes; those of these series are changed.
            slots: `(n,)` the series.
            times: `(n,)` nanoseconds, later than all before.
            observed: `(n, features)` raw units, NaN where missing.
            p_value: `(n,)`, of the model, values far above the training range included; NaN where there is none.
        """
        scores, usual, is_known = self.score(state, slots, times, observed, p_value)
        levels = self._find_levels(scores)
        strongest = np.minimum(np.maximum.reduce(levels, axis=1), len(self._p_values) - 1)
        own, range_p = self._p_values.take(strongest), self._range.p_value(observed)
        # where the range decides, the model's evidence is not known
        pooled = np.minimum(np.where(p_value < range_p, p_value / POOLED_SHARE, 1.0), self._range.only_enormous(range_p))
        is_judged = is_known & ~np.isnan(p_value)
        by_feature = np.where((is_judged & (own < pooled))[:, None] & (levels[:, -1:] < strongest[:, None]), levels[:, :-1], 0)
        usual_peak = np.exp(usual[:, :-1].astype(np.float64)) - self._offset
        usual_peak[usual_peak < self._offset / 2] = 0.0  # as good as none
        judged = np.where(is_judged, np.minimum(np.minimum(own, pooled), 1.0), p_value)
        return EnvelopeEvidence(judged, by_feature * EVIDENCE_STEP, usual_peak)

    def score(
        self, state: EnvelopeState, slots: Indices, times: Times, observed: Floats, p_value: Floats
    ) -> tuple[Singles, Singles, Bools]:
        """Return the scores of such rows and their usual peaks, `(n, features + 1)`, and whether the series are known."""
        blocks = times // self._block
        over = blocks != state.envelope_block[slots]  # also where another version had blocks of another length
        if np.logical_or.reduce(over):
            self._close(state, slots[over])
            state.envelope_block[slots[over]] = blocks[over]
        columns = self.columns(observed, p_value)
        numbers = state.envelope.take(slots, axis=0)
        state.envelope[slots, HIGHEST] = np.fmax(numbers[:, HIGHEST], columns)
        scores = (columns - numbers[:, MEDIAN]) / numbers[:, SPREAD]
        return np.fmax(scores, 0.0), numbers[:, MEDIAN], state.envelope_blocks[slots] >= MIN_BLOCKS

    def columns(self, observed: Floats, p_value: Floats) -> Singles:
        """Return what is compared, `(n, features + 1)`: logarithms of values, and the model's -log10 p, NaN where missing.

        In the precision of the envelopes, so that a value which a series always has is not above its usual peak.
        """
        columns = np.empty((len(observed), observed.shape[1] + 1))
        np.log(np.maximum(observed, 0.0) + self._offset, columns[:, :-1])
        np.minimum(-np.log10(p_value), MAX_EVIDENCE, out=columns[:, -1])
        return columns.astype(np.float32)

    def _find_levels(self, scores: Singles) -> Integers:
        """Return the -log10 p of scores `(n, features + 1)`, in steps."""
        if len(scores) <= FEW_ROWS:
            return np.asarray(np.add.reduce(scores[:, :, None] > self._padded, axis=2, dtype=np.int64), np.int64)
        levels = np.empty(scores.shape, np.int64)
        for index, column in enumerate(self._columns):
            levels[:, index] = column.searchsorted(scores[:, index])
        return levels

    def _close(self, state: EnvelopeState, slots: Indices) -> None:
        """Learn from the blocks of several series, which are over; those without a row teach nothing."""
        numbers, blocks = state.envelope.take(slots, axis=0), state.envelope_blocks[slots]
        usual, spread, highest = numbers[:, MEDIAN], numbers[:, SPREAD], numbers[:, HIGHEST]
        distance, weights = highest - usual, blocks[:, None].astype(np.float32)
        step = np.float32(STEP) * spread / (weights + np.float32(PRIOR_STEPS))
        moved = np.where(np.abs(distance) <= step, highest, usual + np.copysign(step, distance))
        excess = np.minimum(distance, np.float32(CLIP) * spread)
        wider = np.maximum(spread + (excess - spread) / (np.float32(PRIOR_EXCESSES) + weights / 2), self._min_spread)
        is_first, is_seen = np.isnan(usual), ~np.isnan(highest)
        numbers[:, MEDIAN] = np.where(is_first, highest, np.where(is_seen, moved, usual))
        numbers[:, SPREAD] = np.where(is_first, self._first_spread, np.where(distance > 0, wider, spread))
        numbers[:, HIGHEST] = np.nan
        state.envelope[slots] = numbers
        state.envelope_blocks[slots] = np.minimum(blocks + is_seen.any(axis=1), MAX_BLOCKS)
