"""The state of all series of one model version in columns: what another version, or another process, goes on with."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Times
from mods_grpc.detection import SeriesTable
from mods_grpc.server.series.replay_cache import CachedReplies
from mods_grpc.server.series.slots import NO_SLOT, SeriesSlots


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesSnapshot:
    """State of n series.

    Attributes:
        sensors, names: n each, whose series they are.
        values: `(n, rows, features)`, oldest first, `filled` rows of each hold something. missing: which were missing.
        last_time: `(n,)` nanoseconds. idle_seconds: `(n,)` since they were last used.
        ahead: `(n, waiting, numbers * features)` forecasts that wait for their row.
        adaptation: `(2, n)` factor of the significance level, and what the bet on drift has won.
        own: `(n, horizons, features)` logarithms of the series' own scales. taught: `(n,)` rows they were learnt from.
        episode: `(3, n)` start, last anomalous row and peak, in nanoseconds. peak: `(n,)` its score.
        answers: The last requests and answers of each sensor's stream.
    """

    sensors: tuple[str, ...]
    names: tuple[str, ...]
    values: Floats
    missing: NDArray[np.bool_]
    filled: NDArray[np.int32]
    last_time: Times
    idle_seconds: Floats
    ahead: NDArray[np.float32]
    adaptation: Floats
    own: NDArray[np.float32]
    taught: NDArray[np.int32]
    episode: Times
    peak: Floats
    answers: dict[str, CachedReplies]


def capture(states: SeriesSlots, sensors: Sequence[str] | None = None) -> SeriesSnapshot:
    """Copy the state of the series of some sensors; None for all."""
    table, sensors = states.table, states.sensors() if sensors is None else sensors
    slots, owners, idle = states.owners_of(sensors)
    order = (table.head[slots, None] - table.filled[slots, None] + np.arange(table.rows)) % table.rows
    rows = slots[:, None] * table.rows + order  # one index is twice as fast as two
    return SeriesSnapshot(
        sensors=tuple(sensor for sensor, _ in owners),
        names=tuple(name for _, name in owners),
        values=table.values.reshape(-1, table.features).take(rows, axis=0),
        missing=table.missing.reshape(-1, table.features).take(rows, axis=0),
        filled=table.filled[slots],
        last_time=table.last_time[slots],
        idle_seconds=idle,
        ahead=table.pending[slots],
        adaptation=np.stack([table.factor[slots], table.wealth[slots]]),
        own=table.log_scale[slots],
        taught=table.scale_rows[slots],
        episode=np.stack([table.episode_start[slots], table.episode_last[slots], table.episode_peak_time[slots]]),
        peak=table.episode_peak[slots],
        answers={sensor: deque(kept) for sensor, kept in states.cached_replies(sensors).items()},
    )


def restore(states: SeriesSlots, snapshot: SeriesSnapshot, *, same_model: bool) -> int:
    """Go on with the series of a snapshot; those held already that are further on stay as they are.

    What a series taught of a model's calibration, its level, its scales and the bet on drift, stays with that model.

    A longer window than the snapshot's warms up for as many rows as it is longer; of a longer one the last rows are kept.

    Returns:
        How many series were adopted.
    """
    table, n = states.table, len(snapshot.names)
    slots = np.array([states.add(*owner) for owner in zip(snapshot.sensors, snapshot.names, strict=True)], np.intp)
    at = np.flatnonzero(slots != NO_SLOT)
    at = at[table.last_time[slots[at]] < snapshot.last_time[at]] if n else at
    mine = slots[at]
    filled = snapshot.filled[at]
    kept = np.minimum(filled, table.rows)
    rows = np.minimum((filled - kept)[:, None] + np.arange(table.rows), snapshot.values.shape[1] - 1)
    table.values[mine] = snapshot.values[at[:, None], rows]
    table.missing[mine] = snapshot.missing[at[:, None], rows]
    table.filled[mine] = kept
    table.head[mine] = kept % table.rows
    table.last_time[mine] = snapshot.last_time[at]
    table.pending[mine] = snapshot.ahead[at] if is_compatible(table, snapshot, same_model=same_model) else np.nan
    table.episode_start[mine], table.episode_last[mine], table.episode_peak_time[mine] = snapshot.episode[:, at]
    table.factor[mine], table.wealth[mine] = snapshot.adaptation[:, at] if same_model else ((1.0,), (0.0,))
    table.log_scale[mine], table.scale_rows[mine] = (snapshot.own[at], snapshot.taught[at]) if same_model else (0.0, 0)
    table.episode_peak[mine] = snapshot.peak[at]
    states.restore_usage(mine, snapshot.idle_seconds[at], snapshot.answers)
    return int(at.size)


def is_compatible(table: SeriesTable, other: SeriesTable | SeriesSnapshot, *, same_model: bool) -> bool:
    """Tell whether forecasts that wait elsewhere can wait in a table.

    They were made in residual space, the same for both; another model may keep other ones, and takes its own intervals for its
    measure.
    """
    stored = other.pending if isinstance(other, SeriesTable) else other.ahead
    return stored.shape[1:] == table.pending.shape[1:] and (same_model or table.stored_per_feature == 1)
