"""The envelopes of the series of a table, and how they are calibrated. What they are says `mods_grpc.alarm_rules.envelope`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mods_grpc.alarm_rules.envelope import EVIDENCE_STEP, MAX_EVIDENCE, MIN_P_SPREAD, MIN_SPREAD, Envelope, EnvelopeEvidence
from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Indices, Integers, Times
from mods_grpc.artifact.calibration import EnvelopeReference
from mods_grpc.artifact.manifest import FeatureKind
from mods_grpc.detection.scores.adaptive_scale import distinct_groups
from mods_grpc.detection.scores.conformal import Curves, make_cautious_curve, make_curve
from mods_grpc.detection.state.series_table import SeriesTable

BLOCK_SECONDS, BLOCK_ROWS = 3600, 6  # of a block at least
MIN_ROWS = 300  # to learn tails from
DIGITS = 5  # significant digits of stored numbers
_LEVELS = np.arange(1, round(MAX_EVIDENCE / EVIDENCE_STEP) + 1) * EVIDENCE_STEP


def make_envelope(reference: EnvelopeReference, training_range: TrainingRange) -> Envelope:
    """Create the envelope that a manifest describes."""
    return Envelope(**reference.arguments, training_range=training_range)


def judge_in_order(
    envelope: Envelope, table: SeriesTable, slots: Indices, times: Times, observed: Floats, p_value: Floats
) -> EnvelopeEvidence:
    """Judge rows as `Envelope.judge` does, of series that may repeat, the later rows of a series after its earlier ones."""
    groups = distinct_groups(slots)
    if len(groups) == 1:
        return envelope.judge(table, slots, times, observed, p_value)
    parts = [envelope.judge(table, slots[at], times[at], observed[at], p_value[at]) for at in groups]
    back = np.argsort(np.concatenate(groups))
    return EnvelopeEvidence(*(np.concatenate(columns)[back] for columns in zip(*parts, strict=True)))


def fit_envelope(
    times: Times,
    values: Floats,
    p_value: Floats,
    members: Sequence[Integers],
    *,
    kinds: Sequence[FeatureKind],
    small_values: Sequence[float],
    samples: int,
    slide_seconds: int,
    holdoff_rows: int,
) -> EnvelopeReference | None:
    """Learn where envelopes start, and their tails, pooled over series. None if there is too little data.

    Args:
        times: `(length,)` nanoseconds.
        values: `(length, features)` raw units, NaN where missing.
        p_value: `(length,)`, of the model; NaN where there is none.
        members: Rows of each series, in order of time.
        kinds: Kind of each feature.
        small_values: Of each feature the value below which differences mean little.
        samples: Rows of the calibration range, by which values far above the training range are judged.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode: window over slide.
    """
    present = np.asarray(~np.isnan(values).all(axis=1))
    members = [rows for rows in (rows[present[rows]] for rows in members) if rows.size]
    if not members:
        return None
    draft = EnvelopeReference(
        block_seconds=max(BLOCK_SECONDS, holdoff_rows * slide_seconds, BLOCK_ROWS * slide_seconds),
        offsets=tuple(None if kind == "mean" else small for kind, small in zip(kinds, small_values, strict=True)),
        spread=(MIN_SPREAD,) * len(kinds) + (MIN_P_SPREAD,),
        scores=((0.0,),) * (len(kinds) + 1),
        p_values=(1.0,),
        samples=samples,
    )
    whole = TrainingRange(np.nanmin(values, axis=0), np.nanmax(values, axis=0), kinds, samples)  # which scores don't depend on
    spread = _measure_spread(make_envelope(draft, whole), draft.block_seconds, times, values, p_value, members)
    draft = replace(draft, spread=spread)
    scores, is_known = _replay(make_envelope(draft, whole), times, values, p_value, members)
    if is_known.sum() < MIN_ROWS:
        return None
    scores = scores[is_known]
    columns = tuple(map(_tabulate, scores.T))
    strongest = np.stack([np.searchsorted(column, score) for column, score in zip(columns, scores.T, strict=True)]).max(axis=0)
    evidence = strongest * EVIDENCE_STEP
    # the extreme events of many series are many events
    curve = Curves([make_curve(evidence) if len(members) > 1 else make_cautious_curve(evidence, holdoff_rows)])
    levels = np.round(np.arange(max(map(len, columns)) + 1) * EVIDENCE_STEP, DIGITS)  # as a curve has them, not a bit above
    p_values = np.minimum.accumulate(curve.p_value(levels[:, None])[:, 0])
    return replace(draft, scores=columns, p_values=(1.0, *_round(p_values[1:])))


def _tabulate(sample: Floats) -> tuple[float, ...]:
    """Return the scores at which -log10 p reaches each of _LEVELS, as far as it does.

    Where no row was ever above the usual peak of its series, a mean excess takes the place of the highest score: a byte more is
    not as strange as the number of rows would have it.
    """
    curve = Curves([make_curve(sample if sample.any() else sample + 1.0)])
    scores = np.array([curve.scores_at(10**-level)[0] for level in _LEVELS])
    return _round(np.maximum.accumulate(np.maximum(scores[np.isfinite(scores)], 0.0))) or (float(sample.max()),)


def _round(numbers: Floats) -> tuple[float, ...]:
    return tuple(float(f"{number:.{DIGITS}g}") for number in numbers.tolist())


def _measure_spread(
    envelope: Envelope, block_seconds: int, times: Times, values: Floats, p_value: Floats, members: Sequence[Integers]
) -> tuple[float, ...]:
    """Return the mean excess of blocks over the median of their series, of all series."""
    excesses = []
    for rows in members:
        blocks = times[rows] // (block_seconds * NANOS_PER_SECOND)
        starts = np.flatnonzero(np.diff(blocks, prepend=blocks[0] - 1))
        highest = np.fmax.reduceat(envelope.columns(values[rows], p_value[rows]), starts, axis=0)
        is_empty = np.isnan(highest).all(axis=0)
        excesses.append(highest - np.nanmedian(np.where(is_empty, 0.0, highest), axis=0))
    whole = np.concatenate(excesses)
    above = whole > 0
    means = np.where(above, whole, 0.0).sum(axis=0) / np.maximum(above.sum(axis=0), 1)
    smallest = np.full(len(means), MIN_SPREAD)
    smallest[-1] = MIN_P_SPREAD
    return _round(np.maximum(means, smallest))


def _replay(
    envelope: Envelope, times: Times, values: Floats, p_value: Floats, members: Sequence[Integers]
) -> tuple[Floats, Bools]:
    """Return the scores of all rows, member by member, `(rows, features + 1)`, and whether their series were known."""
    table = SeriesTable(1, values.shape[1])
    slots = np.array([table.allocate() for _ in members], np.intp)
    scores = [np.empty((len(rows), values.shape[1] + 1)) for rows in members]
    is_known = [np.empty(len(rows), np.bool_) for rows in members]
    for index, at in _by_index(members):
        rows = np.array([members[number][index] for number in at], np.intp)
        scored, _, is_known_row = envelope.score(table, slots[at], times[rows], values[rows], p_value[rows])
        for row, number in enumerate(at):
            scores[number][index], is_known[number][index] = scored[row], is_known_row[row]
    return np.concatenate(scores), np.concatenate(is_known)


def _by_index(members: Sequence[Integers]) -> Iterator[tuple[int, list[int]]]:
    """Yield 0, 1, 2, ... and which members have so many rows before another."""
    for index in range(max(map(len, members))):
        yield index, [number for number, rows in enumerate(members) if index < len(rows)]
