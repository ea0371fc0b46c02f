"""State of many series in contiguous arrays: for each a ring window, the last time, stored forecasts and the open episode.

A series takes `rows * features * 9 + (pending_rows * stored_per_feature + horizons * 12 + 3) * features * 4 + 96` bytes: 8 per
value of the window, 1 for whether it was missing, 4 per number of a stored forecast, per residual scale and each of the eleven
quantiles of its own and for each of the three numbers of its envelope, and the fixed fields. Quantiles take no memory in series
that have learned none.
"""

import contextlib
import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.envelope import NO_BLOCK, NUMBERS
from mods_grpc.array_types import Bools, Floats, Indices, Integers, Singles, Times

NO_TIME = np.iinfo(np.int64).min
MIN_CAPACITY = 16
SLOT_BLOCK = 1024  # slots initialised at a time
MIN_MAPPED_BYTES = 1 << 20
QUANTILE_LEVELS = (0.005, 0.025, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.975, 0.995)  # of residuals, symmetric about the median


class SeriesTable:
    """Rows of state, addressed by slot. `allocate` hands slots out and `release` takes them back.

    Args:
        rows: Length of the window.
        features: Number of features.
        pending_rows: Rows of stored forecasts.
        horizons: Residuals of a feature that have a scale of the series' own.
        stored_per_feature: Numbers stored per feature and forecast: 1, or 2 for middle and width of an interval.

    Attributes:
        values: `(capacity, rows, features)` ring windows in raw units, missing values filled.
        missing: `(capacity, rows, features)` which values were missing when observed.
        head: `(capacity,)` index of the next row. filled: `(capacity,)` rows held.
        last_time: `(capacity,)` nanoseconds of the last row.
        episode_start, episode_last, episode_peak_time: `(capacity,)` nanoseconds, NO_TIME if no episode is open:
            first and last anomalous row, and the row of the highest score. episode_peak: `(capacity,)` that score.
        factor: `(capacity,)` multiplies the significance level of the series. wealth: `(capacity,)` logarithm of the wealth of
            the bet on drift. See `alarms` for both.
        pending: `(capacity, pending_rows, stored_per_feature * features)` stored forecasts, see `forecast_buffer`; NaN if none.
        log_scale: `(capacity, horizons, features)` logarithms of the factors of residual scales. scale_rows: `(capacity,)` rows
            they were learned from. See `adaptive_scale`.
        quantiles: `(capacity, horizons, levels, features)` offsets of the quantiles of residuals. quantile_rows: `(capacity,)`
            rows they were learned from. See `own_intervals`.
        envelope: `(capacity, NUMBERS, features + 1)` of each feature and of the model's evidence: usual peak, spread, and the
            highest value of the current block; NaN where there is none. envelope_block: `(capacity,)` number of that block.
            envelope_blocks: `(capacity,)` complete ones. See `alarm_rules.envelope`.
    """

    def __init__(self, rows: int, features: int, pending_rows: int = 0, horizons: int = 0, stored_per_feature: int = 1) -> None:
        self.rows = rows
        self.features = features
        self.pending_rows = pending_rows
        self.horizons = horizons
        self.stored_per_feature = stored_per_feature
        self._free: list[int] = []
        self._initialised = 0  # slots below this one were initialised; the rest are zeros
        self._allocate_arrays(0)

    def _allocate_arrays(self, capacity: int) -> None:
        window, pending = (self.rows, self.features), (self.pending_rows, self.stored_per_feature * self.features)
        self.values = _zeros(capacity, *window)
        self.missing = _zeros(capacity, *window, kind=np.bool_)
        self.head = _zeros(capacity, kind=np.int32)
        self.filled = _zeros(capacity, kind=np.int32)
        self.last_time = _zeros(capacity, kind=np.int64)
        self.episode_start = _zeros(capacity, kind=np.int64)
        self.episode_last = _zeros(capacity, kind=np.int64)
        self.episode_peak_time = _zeros(capacity, kind=np.int64)
        self.episode_peak = _zeros(capacity)
        self.factor = _zeros(capacity)
        self.wealth = _zeros(capacity)
        self.pending = _zeros(capacity, *pending, kind=np.float32)
        self.log_scale = _zeros(capacity, self.horizons, self.features, kind=np.float32)
        self.scale_rows = _zeros(capacity, kind=np.int32)
        self.quantiles = _zeros(capacity, self.horizons, len(QUANTILE_LEVELS), self.features, kind=np.float32)
        self.quantile_rows = _zeros(capacity, kind=np.int32)
        self.envelope = _zeros(capacity, NUMBERS, self.features + 1, kind=np.float32)
        self.envelope_block = _zeros(capacity, kind=np.int64)
        self.envelope_blocks = _zeros(capacity, kind=np.int32)

    def _arrays(self) -> tuple[NDArray[np.generic], ...]:
        return (
            self.values,
            self.missing,
            self.head,
            self.filled,
            self.last_time,
            self.episode_start,
            self.episode_last,
            self.episode_peak_time,
            self.episode_peak,
            self.factor,
            self.wealth,
            self.pending,
            self.log_scale,
            self.scale_rows,
            self.quantiles,
            self.quantile_rows,
            self.envelope,
            self.envelope_block,
            self.envelope_blocks,
        )

    @property
    def series_bytes(self) -> int:
        """Bytes of state per series."""
        return sum(array.itemsize * int(np.prod(array.shape[1:])) for array in self._arrays())

    def reserve(self, capacity: int) -> None:
        """Reserve address space for `capacity` series; only series in use take memory. The table must be empty.

        Without it, or where the system refuses that much, the arrays grow by powers of two, which copies their content.
        """
        try:
            self._allocate_arrays(capacity)
        except (MemoryError, OSError, OverflowError):
            self._allocate_arrays(0)

    def allocate(self) -> int:
        """Return an empty slot; grows the arrays if none is left."""
        if not self._free:
            if self._initialised == self.head.size:
                self._grow()
            end = min(self.head.size, self._initialised + SLOT_BLOCK)
            self._clear(slice(self._initialised, end))
            self._free = list(range(end - 1, self._initialised - 1, -1))
            self._initialised = end
        return self._free.pop()

    def release(self, slot: int) -> None:
        """Take a slot back and clear its state."""
        self._clear(slot)
        self._free.append(slot)

    def _grow(self) -> None:
        old_arrays, size = self._arrays(), self.head.size
        self._allocate_arrays(max(MIN_CAPACITY, 2 * size))
        for new, old in zip(self._arrays(), old_arrays, strict=True):
            new[:size] = old

    def _clear(self, slots: slice | int) -> None:
        self.filled[slots] = self.head[slots] = 0
        self.last_time[slots] = NO_TIME
        self.episode_start[slots] = self.episode_last[slots] = self.episode_peak_time[slots] = NO_TIME
        self.episode_peak[slots] = 0.0
        self._reset_learned(slots)
        self.pending[slots] = np.nan
        self.envelope[slots], self.envelope_block[slots], self.envelope_blocks[slots] = np.nan, NO_BLOCK, 0

    def _reset_learned(self, slots: slice | int) -> None:
        self.factor[slots], self.wealth[slots] = 1.0, 0.0
        self.log_scale[slots], self.scale_rows[slots] = 0.0, 0
        part = slots if isinstance(slots, slice) else slice(slots, slots + 1)
        learned = np.flatnonzero(self.quantile_rows[part])
        if learned.size:  # zeros that were never written to take no memory
            self.quantiles[part][learned], self.quantile_rows[part] = 0.0, 0

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The arguments that the table was created with."""
        return self.rows, self.features, self.pending_rows, self.horizons, self.stored_per_feature

    def empty_like(self) -> "SeriesTable":
        """Create an empty table of the same shape."""
        return SeriesTable(*self.shape)

    def reset_learned(self, *, pending: bool) -> None:
        """Reset what all series learned relative to a calibration; with `pending` drop their stored forecasts too.

        Their envelopes stay: they are relative to nothing but the units of the features.
        """
        self._reset_learned(slice(self._initialised))
        if pending:
            self.pending[: self._initialised] = np.nan

    def windows(self, slots: Indices) -> Floats:
        """Return the full windows of series, `(n, rows, features)`, oldest row first."""
        head, rows = self.head[slots], self.rows
        if (head == head[:1]).all():  # as for series whose rows have the same times: see `replace`
            return self._rotated(slots, int(head[0]) * self.features if head.size else 0)
        order = (head[:, None] + np.arange(rows)) % rows
        # taking whole rows by one index is two to three times as fast as indexing by series and row
        return self.values.reshape(-1, self.features).take(slots[:, None] * rows + order, axis=0)

    def _rotated(self, slots: Indices, first: int) -> Floats:
        """Return the windows of series whose oldest number has the index `first` in the flat window."""
        rings = self.values.reshape(len(self.head), -1)
        if slots.size > 1 and (slots[1:] - slots[:-1] == 1).all():  # as for series that were added together
            rings = rings[slots[0] : slots[-1] + 1]
        else:
            rings = rings.take(slots, axis=0)
        windows = np.empty_like(rings)
        split = rings.shape[1] - first
        windows[:, :split], windows[:, split:] = rings[:, first:], rings[:, :first]
        return windows.reshape(-1, self.rows, self.features)

    def pending_at(self, slots: Indices, positions: Integers) -> Singles:
        """Return the stored forecasts of series at positions `(n, k)`: `(n, k, stored_per_feature * features)`."""
        return self.pending.reshape(-1, self.pending.shape[2]).take(slots[:, None] * self.pending_rows + positions, axis=0)

    def store_pending(self, slots: Indices, positions: Integers, forecasts: Singles) -> None:
        """Store forecasts of different series, shaped as `pending_at` returns them."""
        self.pending.reshape(-1, self.pending.shape[2])[slots[:, None] * self.pending_rows + positions] = forecasts

    def window(self, slot: int, out: Floats | None = None) -> Floats:
        """Return the full window of one series, `(1, rows, features)`, in `out` if given; faster than `windows`."""
        out = np.empty((1, self.rows, self.features)) if out is None else out
        ring, head = self.values[slot], self.head.item(slot)
        out[0, : self.rows - head] = ring[head:]
        if head:
            out[0, self.rows - head :] = ring[:head]
        return out

    def version_of(self, slot: int) -> bytes:
        """Return bytes that differ whenever the window or the stored forecasts of a series do."""
        return b"".join((self.values[slot].tobytes(), self.pending[slot].tobytes(), self.head[slot].tobytes()))

    def history(self, slot: int) -> tuple[Floats, Bools]:
        """Return the rows held of one series, oldest first, `(filled, features)`, and which values were missing."""
        order = (self.head[slot] - self.filled[slot] + np.arange(self.filled[slot])) % self.rows
        return self.values[slot, order], self.missing[slot, order]

    def start(self, slots: Indices, numbers: Integers) -> None:
        """Start empty windows at rows with these numbers on the time grid, see `replace`."""
        self.head[slots] = numbers % self.rows

    def push(self, slots: Indices, times: Times, rows: Floats) -> None:
        """Append one complete row to each of several different series."""
        head = self.head[slots]
        at = slots * self.rows + head
        self.values.reshape(-1, self.features)[at] = rows
        self.missing.reshape(-1, self.features)[at] = False
        self.head[slots] = (head + 1) % self.rows
        self.filled[slots] = np.minimum(self.filled[slots] + 1, self.rows)
        self.last_time[slots] = times

    def push_one(self, slot: int, time: int, row: Floats, *, missing: bool = False) -> None:
        """Append one row `(features,)` to a full window; `missing` marks a row that was filled, not observed."""
        head = self.head.item(slot)
        self.values[slot, head] = row
        self.missing[slot, head] = missing
        self.head[slot] = (head + 1) % self.rows
        self.last_time[slot] = time

    def copy_rows(self, slot: int) -> tuple[Floats, Bools, int, int, Singles]:
        """Return a copy of the window and the stored forecasts of a series, for `restore_rows`."""
        head, last_time = self.head.item(slot), self.last_time.item(slot)
        return self.values[slot].copy(), self.missing[slot].copy(), head, last_time, self.pending[slot].copy()

    def restore_rows(self, slot: int, rows: tuple[Floats, Bools, int, int, Singles]) -> None:
        """Set the window and the stored forecasts of a series to what `copy_rows` returned."""
        self.values[slot], self.missing[slot], self.head[slot], self.last_time[slot], self.pending[slot] = rows

    def replace(self, slot: int, time: int, values: Floats, missing: Bools, number: int = -1) -> None:
        """Set the window of one series to the last rows of `values` `(n, features)`; the newest is at `time`.

        `number` is the number of the newest row on the time grid. Each row is put at the index that its number gives, so windows
        whose newest rows have the same time have the same head, which makes many of them fast to take.
        """
        count = min(self.rows, values.shape[0])
        at = (number + 1 - count + np.arange(count)) % self.rows
        self.values[slot, at] = values[-count:]
        self.missing[slot, at] = missing[-count:]
        self.filled[slot] = count
        self.head[slot] = (number + 1) % self.rows
        self.last_time[slot] = time


def _zeros(*shape: int, kind: type[np.generic] = np.float64) -> NDArray[Any]:
    """Return an array of zeros whose memory the system provides as it is written to and takes back when it is freed.

    `numpy.zeros` may get used memory from the C library and clear all of it, so a large array is a mapping of its own.

    Raises:
        MemoryError, OSError, OverflowError: The system refuses that much.
    """
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size < MIN_MAPPED_BYTES:
        return np.zeros(shape, kind)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel may have no large pages
            mapping.madvise(mmap.MADV_HUGEPAGE)  # as numpy does
    return np.frombuffer(mapping, kind).reshape(shape)
