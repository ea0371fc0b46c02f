"""The last rows of every series, with which a server that has no state is warmed up."""

import base64
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Indices, Times
from mods_grpc.client.results import Verdict, VerdictStatus
from mods_grpc.client.streaming.observations import Message
from mods_grpc.errors import DataError

BLOCK_SERIES = 256
STATE_VERSION = 1

_APPLIED = frozenset({VerdictStatus.SCORED, VerdictStatus.WARMING_UP, VerdictStatus.DUPLICATE})
_ZLIB_LEVEL = 1  # fast, and enough: counts as float64 are mostly zero bytes


class RowHistory:
    """The last rows per series that the server applied. At the limit of series, the least recently used one is dropped.

    Args:
        window_rows: Rows of the model's window. Twice as many are stored, because a server that imputes a gap inside the last
            window with a forecast needs the window before the gap.
        max_series: Limit on series; 0 for none.
        extra_rows: Rows stored per series in addition, at least the model's horizon, because a verdict also depends on the
            forecasts that were made so many rows before. None for as many as the window has.
    """

    def __init__(self, window_rows: int, max_series: int, extra_rows: int | None = None) -> None:
        self._window_rows = window_rows
        self._max_series = max_series
        self._extra_rows = extra_rows
        self._store = RowStore(self._rows_per_series())

    def __len__(self) -> int:
        return len(self._store)

    @property
    def max_series(self) -> int:
        """Limit on series; 0 for none."""
        return self._max_series

    @property
    def store(self) -> "RowStore":
        """The stored rows."""
        return self._store

    def resize(self, window_rows: int, max_series: int) -> None:
        """Adopt the window of another server or model version, and a limit on series."""
        if window_rows != self._window_rows:
            self._window_rows = window_rows
            self._store = self._store.resized(self._rows_per_series())
        self._max_series = max_series

    def add(self, message: Message, verdicts: Sequence[Verdict]) -> None:
        """Store those observations of a message that the server applied.

        Args:
            message: The message.
            verdicts: One per observation, in order.
        """
        values = np.where(message.missing, np.nan, message.values)
        for index, (series, verdict) in enumerate(zip(message.series, verdicts, strict=True)):
            if verdict.status not in _APPLIED:
                continue
            nanos, last_nanos = int(message.nanos[index]), self._store.last_time(series)
            if last_nanos is None or last_nanos < nanos:
                self._store.append(series, nanos, values[index])
            else:
                self._store.touch(series)
        while 0 < self._max_series < len(self._store):
            self._store.drop_oldest()

    def messages(self, max_observations: int, held: Mapping[str, int] | None = None) -> Iterator[Message]:
        """Yield the rows as messages, series by series in order of time.

        Args:
            max_observations: Limit per message; 0 for none.
            held: Up to which time, in nanoseconds, rows are left out, by series; None for all rows.
        """
        names, name_indices, times, values = self._store.all_rows()
        if held is not None:
            is_missing = times > np.array([held.get(name, 0) for name in names], np.int64)[name_indices]
            name_indices, times, values = name_indices[is_missing], times[is_missing], values[is_missing]
        if not len(times):
            return
        missing = np.isnan(values)
        message = Message(
            series=tuple(names[index] for index in name_indices.tolist()),
            nanos=times,
            values=np.where(missing, 0.0, values),
            missing=missing,
            single=False,
        )
        yield from message.split(max_observations)

    def _rows_per_series(self) -> int:
        return 2 * self._window_rows + (self._window_rows if self._extra_rows is None else self._extra_rows)


class RowStore:
    """The last rows of many series, in arrays: 8 bytes per value and time, allocated for `BLOCK_SERIES` series together.

    Args:
        rows_per_series: Limit on the rows of a series; the oldest is dropped first.
    """

    def __init__(self, rows_per_series: int) -> None:
        self._rows_per_series = rows_per_series
        self._slots: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._free: list[int] = []
        self._appended: list[int] = []  # rows ever appended, by slot
        self._times: list[Times] = []  # by block, (BLOCK_SERIES, rows_per_series), each series a ring
        self._values: list[Floats] = []  # by block, (BLOCK_SERIES, rows_per_series, features)

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, the least recently used first."""
        return iter(self._slots)

    def last_time(self, series: str) -> int | None:
        """Return the time of a series' last row in nanoseconds; None if it has none."""
        slot = self._slots.get(series)
        if slot is None:
            return None
        block, offset = divmod(slot, BLOCK_SERIES)
        return int(self._times[block][offset, (self._appended[slot] - 1) % self._rows_per_series])

    def append(self, series: str, nanos: int, row: Floats) -> None:
        """Append a row of values `(features,)`, NaN where they are missing, later than the series' last."""
        slot = self._slots.get(series)
        if slot is None:
            slot = self._slots[series] = self._allocate_slot(len(row))
        else:
            self._slots.move_to_end(series)
        block, offset = divmod(slot, BLOCK_SERIES)
        column = self._appended[slot] % self._rows_per_series
        self._times[block][offset, column] = nanos
        self._values[block][offset, column] = row
        self._appended[slot] += 1

    def rows(self, series: str) -> tuple[Times, Floats]:
        """Return copies of a stored series' times `(n,)` and values `(n, features)`, in order of time."""
        slot = self._slots[series]
        block, offset = divmod(slot, BLOCK_SERIES)
        count = self._appended[slot]
        order = np.arange(max(0, count - self._rows_per_series), count) % self._rows_per_series
        return self._times[block][offset, order], self._values[block][offset, order]

    def touch(self, series: str) -> None:
        """Mark a stored series as the most recently used."""
        self._slots.move_to_end(series)

    def drop_oldest(self) -> None:
        """Drop the least recently used series."""
        self.drop(next(iter(self._slots)))

    def drop(self, series: str) -> None:
        """Drop a stored series."""
        slot = self._slots.pop(series)
        self._appended[slot] = 0
        self._free.append(slot)

    def resized(self, rows_per_series: int) -> "RowStore":
        """Return a copy with another limit on the rows of a series."""
        other = RowStore(rows_per_series)
        for series in self:
            for nanos, row in zip(*self.rows(series), strict=True):
                other.append(series, int(nanos), row)
        return other

    def __contains__(self, series: str) -> bool:
        """Return whether a series is stored."""
        return series in self._slots

    def all_rows(self, series: Sequence[str] = ()) -> tuple[list[str], Indices, Times, Floats]:
        """Return all rows, series by series.

        Args:
            series: The stored series to return; all of them if none is given.

        Returns:
            The names of the series; and for each of the n rows the index of its name `(n,)`, its time `(n,)` and its values
            `(n, features)`.
        """
        names = list(series or self)
        rows = [self.rows(series) for series in names]
        counts = [len(times) for times, _ in rows]
        times = np.concatenate([times for times, _ in rows]) if rows else np.zeros(0, np.int64)
        values = np.concatenate([values for _, values in rows]) if rows else np.zeros((0, 0))
        return names, np.repeat(np.arange(len(names)), counts), times, values

    def state(self) -> dict[str, Any]:
        """Return all rows as an object for JSON, of version `STATE_VERSION`."""
        names, name_indices, times, values = self.all_rows()
        return {
            "version": STATE_VERSION,
            "series": names,
            "rows": np.bincount(name_indices, minlength=len(names)).tolist(),
            "times": _compress(times.astype("<i8").tobytes()),
            "values": _compress(values.astype("<f8").tobytes()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Append the rows that `state` returned. A state without a version is of version 1.

        Raises:
            DataError: It is of another version.
        """
        version = state.get("version", 1)
        if version != STATE_VERSION:
            raise DataError(f"rows of series: expected a state of version {STATE_VERSION}, found {version}")
        if not state["series"]:
            return
        times = np.frombuffer(_decompress(state["times"]), "<i8").astype(np.int64)
        values = np.frombuffer(_decompress(state["values"]), "<f8").astype(np.float64).reshape(len(times), -1)
        names = np.repeat(np.array(state["series"], object), state["rows"])
        for series, nanos, row in zip(names.tolist(), times.tolist(), values, strict=True):
            self.append(series, nanos, row)

    def _allocate_slot(self, features: int) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._appended)
        if slot % BLOCK_SERIES == 0:
            self._times.append(np.zeros((BLOCK_SERIES, self._rows_per_series), np.int64))
            self._values.append(np.zeros((BLOCK_SERIES, self._rows_per_series, features)))
        self._appended.append(0)
        return slot


def _compress(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, _ZLIB_LEVEL)).decode("ascii")


def _decompress(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
