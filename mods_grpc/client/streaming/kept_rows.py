"""The last rows of many series, in arrays: a fixed number of bytes a series, a few for each value."""

import base64
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Times

BLOCK_SERIES = 256
_QUICK = 1  # of zlib: counts as float64 are mostly zero bytes


class KeptRows:
    """Keeps the last rows per series, in order of time.

    Args:
        kept: Rows of a series; the oldest goes first.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._free: list[int] = []
        self._rows: list[int] = []  # ever appended, by slot
        self._times: list[Times] = []  # by block, (BLOCK_SERIES, kept)
        self._values: list[Floats] = []  # by block, (BLOCK_SERIES, kept, features)

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, the one that was appended to longest ago first."""
        return iter(self._slots)

    def last(self, series: str) -> int | None:
        """Return the time of the last row of a series in nanoseconds, None where there is none."""
        slot = self._slots.get(series)
        if slot is None:
            return None
        block, place = divmod(slot, BLOCK_SERIES)
        return int(self._times[block][place, (self._rows[slot] - 1) % self._kept])

    def append(self, series: str, nanos: int, row: Floats) -> None:
        """Append a row of values `(features,)`, NaN where they are missing."""
        slot = self._slots.get(series)
        if slot is None:
            slot = self._slots[series] = self._new_slot(len(row))
        else:
            self._slots.move_to_end(series)
        block, place = divmod(slot, BLOCK_SERIES)
        at = self._rows[slot] % self._kept
        self._times[block][place, at] = nanos
        self._values[block][place, at] = row
        self._rows[slot] += 1

    def rows(self, series: str) -> tuple[Times, Floats]:
        """Return times `(n,)` and values `(n, features)` of a series that is kept, in order of time."""
        slot = self._slots[series]
        block, place = divmod(slot, BLOCK_SERIES)
        count = self._rows[slot]
        order = np.arange(max(0, count - self._kept), count) % self._kept
        return self._times[block][place, order], self._values[block][place, order]

    def touch(self, series: str) -> None:
        """Let a series that is kept count as appended to now."""
        self._slots.move_to_end(series)

    def drop_oldest(self) -> None:
        """Forget the series that was appended to longest ago."""
        _, slot = self._slots.popitem(last=False)
        self._rows[slot] = 0
        self._free.append(slot)

    def resized(self, kept: int) -> "KeptRows":
        """Return the same with another number of rows."""
        other = KeptRows(kept)
        for series in self:
            for nanos, row in zip(*self.rows(series), strict=True):
                other.append(series, int(nanos), row)
        return other

    def all_rows(self) -> tuple[list[str], NDArray[np.intp], Times, Floats]:
        """Return the names, and for all their rows, series by series, the place of the name, the time and the values."""
        names = list(self)
        found = [self.rows(series) for series in names]
        counts = [len(times) for times, _ in found]
        times = np.concatenate([times for times, _ in found]) if found else np.zeros(0, np.int64)
        values = np.concatenate([values for _, values in found]) if found else np.zeros((0, 0))
        return names, np.repeat(np.arange(len(names)), counts), times, values

    def state(self) -> dict[str, Any]:
        """Return everything for JSON."""
        names, which, times, values = self.all_rows()
        return {
            "series": names,
            "rows": np.bincount(which, minlength=len(names)).tolist(),
            "times": _pack(times.astype("<i8").tobytes()),
            "values": _pack(values.astype("<f8").tobytes()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        if not state["series"]:
            return
        times = np.frombuffer(_unpack(state["times"]), "<i8").astype(np.int64)
        values = np.frombuffer(_unpack(state["values"]), "<f8").astype(np.float64).reshape(len(times), -1)
        names = np.repeat(np.array(state["series"], object), state["rows"])
        for series, nanos, row in zip(names.tolist(), times.tolist(), values, strict=True):
            self.append(series, nanos, row)

    def _new_slot(self, features: int) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._rows)
        if slot % BLOCK_SERIES == 0:
            self._times.append(np.zeros((BLOCK_SERIES, self._kept), np.int64))
            self._values.append(np.zeros((BLOCK_SERIES, self._kept, features)))
        self._rows.append(0)
        return slot


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, _QUICK)).decode("ascii")


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
