"""Snapshots of all series of a model version, and their hand-over to the next version or to the next process."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.envelope import NO_BLOCK, NUMBERS
from mods_grpc.array_types import Bools, Floats, Indices, Singles, Times
from mods_grpc.detection import SeriesTable
from mods_grpc.detection.state.series_table import QUANTILE_LEVELS
from mods_grpc.server.series.replay_cache import CachedReplies
from mods_grpc.server.series.slots import NO_SLOT, SeriesSlots


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesSnapshot:
    """State of n series in columns. The names of the fields are keys of the state file.

    Attributes:
        sensors, names: n each; sensor and name of the series.
        values: `(n, rows, features)`, oldest first; the first `filled` rows of each are valid. missing: which were missing.
        last_time: `(n,)` nanoseconds. idle_seconds: `(n,)` since they were last used.
        ahead: `(n, pending_rows, stored_per_feature * features)` pending forecasts, whose row has not come yet.
        adaptation: `(2, n)` factor of the significance level, and logarithm of the wealth of the bet on drift.
        own: `(n, horizons, features)` logarithms of the series' own scales. taught: `(n,)` rows they were learned from.
        quantiles: `(m, horizons, levels, features)` offsets of the own quantiles of the m series that learned any, in order.
        quantile_rows: `(n,)` rows they were learned from.
        envelope: `(n, NUMBERS, features + 1)` as in the table. blocks: `(2, n)` number of the current block, and complete ones.
        episode: `(3, n)` start, last anomalous row and peak, in nanoseconds. peak: `(n,)` its score.
        answers: The cached replies of each sensor's streams.
    """

    sensors: tuple[str, ...]
    names: tuple[str, ...]
    values: Floats
    missing: Bools
    filled: NDArray[np.int32]
    last_time: Times
    idle_seconds: Floats
    ahead: Singles
    adaptation: Floats
    own: Singles
    taught: NDArray[np.int32]
    quantiles: Singles
    quantile_rows: NDArray[np.int32]
    envelope: Singles
    blocks: Times
    episode: Times
    peak: Floats
    answers: dict[str, CachedReplies]

    def check(self) -> None:
        """Check that the columns belong together, as those of a damaged file may not.

        Raises:
            ValueError: They don't.
        """
        n, (_, rows, features) = len(self.names), self.values.shape
        columns = [getattr(self, item.name) for item in fields(self)]
        if any(column.dtype.kind not in "biuf" for column in columns if isinstance(column, np.ndarray)):
            raise ValueError("expected numbers")
        shapes = {
            "sensors": ((len(self.sensors),), (n,)),
            "values": (self.values.shape[:1], (n,)),
            "missing": (self.missing.shape, self.values.shape),
            "filled": (self.filled.shape, (n,)),
            "last_time": (self.last_time.shape, (n,)),
            "idle_seconds": (self.idle_seconds.shape, (n,)),
            "ahead": (self.ahead.shape, (n, self.ahead.shape[1], self.ahead.shape[2] // features * features)),
            "adaptation": (self.adaptation.shape, (2, n)),
            "own": (self.own.shape, (n, self.own.shape[1], features)),
            "taught": (self.taught.shape, (n,)),
            "quantile_rows": (self.quantile_rows.shape, (n,)),
            "quantiles": (
                self.quantiles.shape,
                (np.count_nonzero(self.quantile_rows), self.own.shape[1], len(QUANTILE_LEVELS), features),
            ),
            "envelope": (self.envelope.shape, (n, NUMBERS, features + 1)),
            "blocks": (self.blocks.shape, (2, n)),
            "episode": (self.episode.shape, (3, n)),
            "peak": (self.peak.shape, (n,)),
        }
        wrong = [name for name, (actual, expected) in shapes.items() if actual != expected]
        if wrong or not rows or not ((self.filled >= 0) & (self.filled <= rows)).all():
            raise ValueError(f"the arrays don't belong together: {', '.join(wrong) or 'values, filled'}")

    def table(self) -> SeriesTable:
        """Create an empty table that can take these series as they are."""
        _, rows, features = self.values.shape
        stored_per_feature = self.ahead.shape[2] // features
        return SeriesTable(rows, features, self.ahead.shape[1], self.own.shape[1], stored_per_feature)


def no_envelopes(n: int, features: int) -> dict[str, NDArray[Any]]:
    """Return the columns `envelope` and `blocks` of n series that have none."""
    empty = np.full((n, NUMBERS, features + 1), np.nan, np.float32)
    return {"envelope": empty, "blocks": np.stack([np.full(n, NO_BLOCK), np.zeros(n, np.int64)])}


def no_quantiles(n: int, horizons: int, features: int) -> dict[str, NDArray[Any]]:
    """Return the columns `quantiles` and `quantile_rows` of n series that learned none."""
    empty = np.zeros((0, horizons, len(QUANTILE_LEVELS), features), np.float32)
    return {"quantiles": empty, "quantile_rows": np.zeros(n, np.int32)}


def capture(series: SeriesSlots, sensors: Sequence[str] | None = None) -> SeriesSnapshot:
    """Copy the state of the series of some sensors; None for all."""
    table, sensors = series.table, series.sensors() if sensors is None else sensors
    slots, owners, idle_seconds = series.owners_of(sensors)
    order = (table.head[slots, None] - table.filled[slots, None] + np.arange(table.rows)) % table.rows
    rows = slots[:, None] * table.rows + order  # one index is twice as fast as two
    return SeriesSnapshot(
        sensors=tuple(sensor for sensor, _ in owners),
        names=tuple(name for _, name in owners),
        values=table.values.reshape(-1, table.features).take(rows, axis=0),
        missing=table.missing.reshape(-1, table.features).take(rows, axis=0),
        filled=table.filled[slots],
        last_time=table.last_time[slots],
        idle_seconds=idle_seconds,
        ahead=table.pending[slots],
        adaptation=np.stack([table.factor[slots], table.wealth[slots]]),
        own=table.log_scale[slots],
        taught=table.scale_rows[slots],
        quantiles=table.quantiles[slots[table.quantile_rows[slots] > 0]],
        quantile_rows=table.quantile_rows[slots],
        envelope=table.envelope[slots],
        blocks=np.stack([table.envelope_block[slots], table.envelope_blocks[slots].astype(np.int64)]),
        episode=np.stack([table.episode_start[slots], table.episode_last[slots], table.episode_peak_time[slots]]),
        peak=table.episode_peak[slots],
        answers=series.copy_replies(sensors),
    )


def restore(series: SeriesSlots, snapshot: SeriesSnapshot, *, same_model: bool, replace_equal: bool = False) -> int:
    """Restore the series of a snapshot, and return how many. Series whose rows here are no older stay as they are.

    With `replace_equal`, only those stay whose rows here are newer.

    What a series learned relative to a model's calibration (its level, its scales, its intervals and the bet on drift) is
    restored only for the same model; its envelope, which is relative to the units of the features, for any. Where the window of
    the table is longer than the snapshot's, series warm up for the difference; where it is shorter, the last rows are restored.
    """
    table, n = series.table, len(snapshot.names)
    slots = np.array([series.add(*owner) for owner in zip(snapshot.sensors, snapshot.names, strict=True)], np.intp)
    source = np.flatnonzero(slots != NO_SLOT)
    is_older = np.less_equal if replace_equal else np.less
    source = source[is_older(table.last_time[slots[source]], snapshot.last_time[source])] if n else source
    target = slots[source]
    filled = snapshot.filled[source]
    restored_rows = np.minimum(filled, table.rows)
    rows = np.minimum((filled - restored_rows)[:, None] + np.arange(table.rows), snapshot.values.shape[1] - 1)
    table.values[target] = snapshot.values[source[:, None], rows]
    table.missing[target] = snapshot.missing[source[:, None], rows]
    table.filled[target] = restored_rows
    table.head[target] = restored_rows % table.rows
    table.last_time[target] = snapshot.last_time[source]
    table.pending[target] = snapshot.ahead[source] if is_compatible(table, snapshot, same_model=same_model) else np.nan
    table.episode_start[target], table.episode_last[target], table.episode_peak_time[target] = snapshot.episode[:, source]
    table.factor[target], table.wealth[target] = snapshot.adaptation[:, source] if same_model else ((1.0,), (0.0,))
    table.log_scale[target], table.scale_rows[target] = (
        (snapshot.own[source], snapshot.taught[source]) if same_model else (0.0, 0)
    )
    _restore_quantiles(table, target, snapshot, source, same_model=same_model)
    table.envelope[target] = snapshot.envelope[source]
    table.envelope_block[target], table.envelope_blocks[target] = snapshot.blocks[:, source]
    table.episode_peak[target] = snapshot.peak[source]
    series.restore_usage(target, snapshot.idle_seconds[source], snapshot.answers)
    return int(source.size)


def _restore_quantiles(
    table: SeriesTable, target: Indices, snapshot: SeriesSnapshot, source: Indices, *, same_model: bool
) -> None:
    """Restore the own quantiles of the series `source` of a snapshot to slots, or reset them for another model."""
    before = np.flatnonzero(table.quantile_rows[target])
    table.quantiles[target[before]], table.quantile_rows[target[before]] = 0.0, 0
    if same_model:
        learned = np.flatnonzero(snapshot.quantile_rows[source])
        index = np.cumsum(snapshot.quantile_rows > 0) - 1
        table.quantiles[target[learned]] = snapshot.quantiles[index[source[learned]]]
        table.quantile_rows[target] = snapshot.quantile_rows[source]


def hand_over(previous: SeriesSlots, current: SeriesSlots, *, same_model: bool) -> None:
    """Hand the series of a model version over to the version that serves next.

    They are moved where both versions keep the same state per series, so that time and memory do not depend on their number, and
    copied otherwise. Either way `previous` is left with a copy for the sensors whose streams have pinned it. Series that such
    streams have left in `current` stay where they are no older.

    Streams of either version have to be bound again, because the tables change.
    """
    pinned = _copy(previous, previous.pinned_sensors) if previous.pinned_sensors else None
    if previous.table.shape == current.table.shape and len(current) <= len(previous):
        _move(previous, current, same_model=same_model)
    else:
        replies = previous.cached_replies(previous.sensors())  # not copies: open streams add to them
        restore(current, replace(capture(previous), answers=replies), same_model=same_model)
        current.share_last_replies(previous)
        current.share_stale(previous)
        previous.clear()
    if pinned is not None:
        previous.absorb(pinned)


def _move(previous: SeriesSlots, current: SeriesSlots, *, same_model: bool) -> None:
    """Move all series to a version with a table of the same shape, and copy into it those that it had."""
    held = current.empty_like() if len(current) else None
    if held is not None:
        held.absorb(current)
    current.absorb(previous)
    if not same_model:
        current.table.reset_learned(pending=not is_compatible(current.table, previous.table, same_model=same_model))
    if held is not None:
        restore(current, replace(capture(held), answers={}), same_model=True, replace_equal=True)
        current.add_replies(held, held.sensors())
        current.share_stale(held)


def _copy(series: SeriesSlots, sensors: Collection[str]) -> SeriesSlots:
    """Copy the series of some sensors. The copy has the same cached replies, to which open streams add."""
    copy = series.empty_like()
    restore(copy, replace(capture(series, tuple(sensors)), answers={}), same_model=True)
    copy.add_replies(series, sensors)
    copy.share_stale(series)
    return copy


def is_compatible(table: SeriesTable, other: SeriesTable | SeriesSnapshot, *, same_model: bool) -> bool:
    """Return whether pending forecasts of another table or snapshot can be used in a table.

    Forecasts are in residual space, which both share. But another model may store other horizons, and its intervals are its own.
    """
    pending = other.pending if isinstance(other, SeriesTable) else other.ahead
    return pending.shape[1:] == table.pending.shape[1:] and (same_model or table.stored_per_feature == 1)
