"""State of many series in contiguous arrays: one ring window each, the last time, and the open episode.

A series takes `rows * features * 9 + (waiting * numbers + horizons) * features * 4 + 68` bytes: 8 for each value of the window,
1 to know whether it was missing, 4 for each number of the forecasts that wait for their row and for each residual's own
scale, and the fixed fields.
"""

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Indices
from mods_grpc.detection.state.zeros import zeros

NO_TIME = np.iinfo(np.int64).min
MIN_CAPACITY = 16
SLOT_BLOCK = 1024  # slots made ready at a time


class SeriesTable:
    """Rows of state, addressed by slot. Slots are handed out by `allocate` and given back by `release`.

    Args:
        rows: Length of the window.
        features: Number of features.
        waiting: Rows of forecasts that wait for their row.
        horizons: Residuals of a feature that have a scale of the series' own.
        numbers: Numbers of a feature in a forecast that waits: 1, or middle and width of an interval.

    Attributes:
        values: `(capacity, rows, features)` ring windows in raw units, holes filled.
        missing: `(capacity, rows, features)` which of them were missing when observed.
        head: `(capacity,)` where the next row goes. filled: `(capacity,)` rows held.
        last_time: `(capacity,)` nanoseconds of the last row.
        episode_start, episode_last, episode_peak_time: `(capacity,)` nanoseconds, NO_TIME when no episode is open:
            first and last anomalous row, and the row of the highest score. episode_peak: `(capacity,)` that score.
        factor: `(capacity,)` what the significance level of the series is multiplied by. wealth: `(capacity,)` logarithm
            of what the bet on drift has won. Both see `alarms`.
        ahead: `(capacity, waiting, numbers * features)` forecasts that wait for their row, see `ahead`; NaN where there is none.
        own: `(capacity, horizons, features)` logarithms of what the scales of residuals are multiplied by. taught:
            `(capacity,)` rows they were learnt from. See `own_scale`.
    """

    def __init__(self, rows: int, features: int, waiting: int = 0, horizons: int = 0, numbers: int = 1) -> None:
        self.rows = rows
        self.features = features
        self.pending_rows = waiting
        self.horizons = horizons
        self.stored_per_feature = numbers
        self._free: list[int] = []
        self._ready = 0  # slots before this one were made ready, those after it are zeros
        self._allocate_arrays(0)

    def _allocate_arrays(self, capacity: int) -> None:
        window, ahead = (self.rows, self.features), (self.pending_rows, self.stored_per_feature * self.features)
        self.values = zeros(capacity, *window)
        self.missing = zeros(capacity, *window, kind=np.bool_)
        self.head = zeros(capacity, kind=np.int32)
        self.filled = zeros(capacity, kind=np.int32)
        self.last_time = zeros(capacity, kind=np.int64)
        self.episode_start = zeros(capacity, kind=np.int64)
        self.episode_last = zeros(capacity, kind=np.int64)
        self.episode_peak_time = zeros(capacity, kind=np.int64)
        self.episode_peak = zeros(capacity)
        self.factor = zeros(capacity)
        self.wealth = zeros(capacity)
        self.pending = zeros(capacity, *ahead, kind=np.float32)
        self.log_scale = zeros(capacity, self.horizons, self.features, kind=np.float32)
        self.scale_rows = zeros(capacity, kind=np.int32)

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
        )

    @property
    def series_bytes(self) -> int:
        """Bytes of state of one series."""
        return sum(array.itemsize * int(np.prod(array.shape[1:])) for array in self._arrays())

    def reserve(self, capacity: int) -> None:
        """Make room for so many series, of which only those there are take memory. The table must be empty.

        Without, or where the system doesn't give as much, the arrays grow by powers of two, which copies what they hold.
        """
        try:
            self._allocate_arrays(capacity)
        except (MemoryError, OSError, OverflowError):
            self._allocate_arrays(0)

    def allocate(self) -> int:
        """Return an empty slot, growing the arrays when none is left."""
        if not self._free:
            if self._ready == self.head.size:
                self._grow()
            last = min(self.head.size, self._ready + SLOT_BLOCK)
            self._clear(slice(self._ready, last))
            self._free = list(range(last - 1, self._ready - 1, -1))
            self._ready = last
        return self._free.pop()

    def release(self, slot: int) -> None:
        """Give a slot back; its state is forgotten."""
        self._clear(slot)
        self._free.append(slot)

    def _grow(self) -> None:
        old, size = self._arrays(), self.head.size
        self._allocate_arrays(max(MIN_CAPACITY, 2 * size))
        for new, kept in zip(self._arrays(), old, strict=True):
            new[:size] = kept

    def _clear(self, slots: slice | int) -> None:
        self.filled[slots] = self.head[slots] = 0
        self.last_time[slots] = NO_TIME
        self.episode_start[slots] = self.episode_last[slots] = self.episode_peak_time[slots] = NO_TIME
        self.episode_peak[slots] = 0.0
        self._reset_learned(slots)
        self.pending[slots] = np.nan

    def _reset_learned(self, slots: slice | int) -> None:
        self.factor[slots], self.wealth[slots] = 1.0, 0.0
        self.log_scale[slots], self.scale_rows[slots] = 0.0, 0

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """What of a series is kept: rows, features, and so on, as the table is made with."""
        return self.rows, self.features, self.pending_rows, self.horizons, self.stored_per_feature

    def empty_like(self) -> "SeriesTable":
        """Make an empty table of the same shape."""
        return SeriesTable(*self.shape)

    def reset_learned(self, *, ahead: bool) -> None:
        """Let all series begin anew with what they learnt of a calibration, and with `ahead` also with forecasts that wait."""
        self._reset_learned(slice(self._ready))
        if ahead:
            self.pending[: self._ready] = np.nan

    def windows(self, slots: Indices) -> Floats:
        """Return the full windows of series, `(n, rows, features)`, oldest row first."""
        head, rows = self.head[slots], self.rows
        if (head == head[:1]).all():  # as of series that bring their rows at the same time: see `replace`
            return self._rotated(slots, int(head[0]) * self.features if head.size else 0)
        order = (head[:, None] + np.arange(rows)) % rows
        # taking whole rows by one index is two to three times as fast as indexing by series and row
        return self.values.reshape(-1, self.features).take(slots[:, None] * rows + order, axis=0)

    def _rotated(self, slots: Indices, first: int) -> Floats:
        """Return the windows of series whose oldest number is the one of this index."""
        held = self.values.reshape(len(self.head), -1)
        if slots.size > 1 and (slots[1:] - slots[:-1] == 1).all():  # as of series that came together
            held = held[slots[0] : slots[-1] + 1]
        else:
            held = held.take(slots, axis=0)
        windows = np.empty_like(held)
        turn = held.shape[1] - first
        windows[:, :turn], windows[:, turn:] = held[:, first:], held[:, :first]
        return windows.reshape(-1, self.rows, self.features)

    def pending_at(self, slots: Indices, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what waits of series at some places `(n, k)`, `(n, k, numbers * features)`."""
        return self.pending.reshape(-1, self.pending.shape[2]).take(slots[:, None] * self.pending_rows + places, axis=0)

    def store_pending(self, slots: Indices, places: NDArray[np.int64], waits: NDArray[np.float32]) -> None:
        """Let forecasts wait at the places of different series, shaped as `waiting_at` returns them."""
        self.pending.reshape(-1, self.pending.shape[2])[slots[:, None] * self.pending_rows + places] = waits

    def window(self, slot: int, out: Floats | None = None) -> Floats:
        """Return the full window of one series, `(1, rows, features)`, in `out` if given: what `windows` does, in less time."""
        out = np.empty((1, self.rows, self.features)) if out is None else out
        held, head = self.values[slot], self.head.item(slot)
        out[0, : self.rows - head] = held[head:]
        if head:
            out[0, self.rows - head :] = held[:head]
        return out

    def version_of(self, slot: int) -> bytes:
        """Return all that forecasts of one series follow from but its time: its window, and what waits for its next rows."""
        return b"".join((self.values[slot].tobytes(), self.pending[slot].tobytes(), self.head[slot].tobytes()))

    def history(self, slot: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the rows held of one series, oldest first, `(filled, features)`, and which values were missing."""
        order = (self.head[slot] - self.filled[slot] + np.arange(self.filled[slot])) % self.rows
        return self.values[slot, order], self.missing[slot, order]

    def start(self, slots: Indices, numbers: NDArray[np.int64]) -> None:
        """Let empty windows begin where rows of these numbers stand, see `replace`."""
        self.head[slots] = numbers % self.rows

    def push(self, slots: Indices, times: NDArray[np.int64], rows: Floats) -> None:
        """Append one complete row to each of several different series."""
        head = self.head[slots]
        at = slots * self.rows + head
        self.values.reshape(-1, self.features)[at] = rows
        self.missing.reshape(-1, self.features)[at] = False
        self.head[slots] = (head + 1) % self.rows
        self.filled[slots] = np.minimum(self.filled[slots] + 1, self.rows)
        self.last_time[slots] = times

    def push_one(self, slot: int, time: int, row: Floats) -> None:
        """Append one complete row `(features,)` to a full window."""
        head = self.head.item(slot)
        self.values[slot, head] = row
        self.missing[slot, head] = False
        self.head[slot] = (head + 1) % self.rows
        self.last_time[slot] = time

    def replace(self, slot: int, time: int, values: Floats, missing: NDArray[np.bool_], number: int = -1) -> None:
        """Set the window of one series to the last rows of `values` `(n, features)`, the newest of which is at `time`.

        `number` is that of the newest row on the grid of time. Each row stands where its number says, so windows of series
        that are at the same row turn at the same place, which makes many of them fast to take.
        """
        kept = min(self.rows, values.shape[0])
        at = (number + 1 - kept + np.arange(kept)) % self.rows
        self.values[slot, at] = values[-kept:]
        self.missing[slot, at] = missing[-kept:]
        self.filled[slot] = kept
        self.head[slot] = (number + 1) % self.rows
        self.last_time[slot] = time
