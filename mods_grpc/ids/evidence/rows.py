"""Records as rows of numbers: what is counted of series with few records, one after another, in little memory.

Ten thousand hosts have a few records each in a pane, and most of their values occur once. To note a row is then cheaper than to
count, and a row needs less room than its counts. Rows of a series, pane and direction with many records are handed over to be
counted (`mods_grpc.ids.evidence.value_counts`).
"""

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats, Indices, Integers, SmallIntegers, Uids

HEAVY_ROWS = 1_024
"""A group with more rows is counted instead."""

MIN_SETTLED = 65_536  # new rows, before those of heavy groups are searched for
MAX_UID_BYTES = 64
_COMPRESSION = 1


class Rows(NamedTuple):
    """n records.

    Attributes:
        places: `(n,)`, the numbers of their groups: pane, direction and series.
        values: `(dimensions, n)`, the numbers of their values; -1 where a record has none.
        weights: Each `(n,)`, what they count.
        uids: `(n,)`, empty where a record has none; None if they were forgotten.
    """

    places: Integers
    values: SmallIntegers
    weights: tuple[NDArray[Any], ...]
    uids: Uids | None

    def take(self, rows: Indices | slice) -> "Rows":
        """Return some of the rows."""
        uids = None if self.uids is None else self.uids[rows]
        return Rows(self.places[rows], self.values[:, rows], tuple(weight[rows] for weight in self.weights), uids)

    def weight_matrix(self) -> Floats:
        """Return all weights, `(n, weights)`."""
        return np.column_stack([weight.astype(np.float64) for weight in self.weights])


def encode_uids(uids: Sequence[str | None]) -> Uids:
    """Return uids as bytes, `(n,)`; those that are too long for one as empty."""
    encoded = [uid.encode(errors="replace") if uid else b"" for uid in uids]
    array: Uids = np.array(encoded, dtype=np.bytes_)
    if array.itemsize > MAX_UID_BYTES:
        array = np.array([uid if len(uid) <= MAX_UID_BYTES else b"" for uid in encoded], dtype=np.bytes_)
    return array


def shrink(weight: Floats) -> NDArray[Any]:
    """Return the same numbers in the smallest type that holds them exactly."""
    for kind in (np.uint8, np.uint32):
        smaller: NDArray[Any] = weight.astype(kind) if not len(weight) or weight.max() <= np.iinfo(kind).max else weight
        if smaller is not weight and (smaller == weight).all():
            return smaller
    return weight


def _join(chunks: Sequence[Rows]) -> Rows:
    if len(chunks) == 1:
        return chunks[0]
    return Rows(
        np.concatenate([chunk.places for chunk in chunks]),
        np.concatenate([chunk.values for chunk in chunks], axis=1),
        tuple(np.concatenate(parts) for parts in zip(*(chunk.weights for chunk in chunks), strict=True)),
        np.concatenate([chunk.uids for chunk in chunks if chunk.uids is not None]),  # open rows have theirs
    )


class RowStore:
    """The rows of one side, of all groups; those of complete panes in order of place.

    Attributes:
        heavy: Places whose rows are counted instead, in order.
    """

    def __init__(self) -> None:
        self._open: list[Rows] = []
        self._complete: list[Rows] = []
        # by id of a chunk the chunk, so that no other has its id, and its saved state: without uids, and these
        self._texts: dict[int, tuple[Rows, str, str]] = {}
        self._open_rows = self._settle_at = 0
        self.heavy: Integers = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._open_rows + sum(len(chunk.places) for chunk in self._complete)

    @property
    def _chunks(self) -> list[Rows]:
        return self._complete + self._open

    @property
    def is_full(self) -> bool:
        """Whether so many rows came that `settle` is worth its time."""
        return self._open_rows >= max(MIN_SETTLED, self._settle_at)

    def add(self, rows: Rows) -> None:
        """Take rows."""
        self._open.append(rows)
        self._open_rows += len(rows.places)

    def settle(self, first_open: int, heavy_rows: int) -> Rows | None:
        """Put the rows of complete panes in order, and remove and return those of groups that have more rows than a number.

        Args:
            first_open: Lower places are of panes of which no record comes any more.
            heavy_rows: The number.
        """
        if not self._open:
            return None
        rows = _join(self._open)
        rows = rows.take(np.argsort(rows.places, kind="stable"))
        is_heavy = self._find_heavy(rows.places, heavy_rows)
        taken = rows.take(np.flatnonzero(is_heavy)) if is_heavy.any() else None
        end = int(np.searchsorted(rows.places, first_open))
        done, still_open = np.flatnonzero(~is_heavy[:end]), end + np.flatnonzero(~is_heavy[end:])
        if len(done):
            self._complete.append(rows.take(done))
        self._open = [rows.take(still_open)] if len(still_open) else []
        self._open_rows, self._settle_at = len(still_open), 2 * len(still_open)
        return taken

    def take_heavy(self, heavy_rows: int) -> list[Rows]:
        """Remove and return the rows of complete groups that have more rows than a number."""
        taken, rest = [], []
        for chunk in self._complete:
            is_heavy = self._find_heavy(chunk.places, heavy_rows)
            if is_heavy.any():
                taken.append(chunk.take(np.flatnonzero(is_heavy)))
            rest.append(chunk.take(np.flatnonzero(~is_heavy)) if is_heavy.any() else chunk)
        self._complete = [chunk for chunk in rest if len(chunk.places)]
        self._drop_texts()
        return taken

    def _find_heavy(self, places: Integers, heavy_rows: int) -> Bools:
        """Return which of n places, in order, are of heavy groups, and remember these."""
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        sizes = np.diff(np.append(starts, len(places)))
        is_heavy = (sizes > heavy_rows) | np.isin(places[starts], self.heavy)
        if is_heavy.any():
            self.heavy = np.union1d(self.heavy, places[starts][is_heavy])
        return np.repeat(is_heavy, sizes)

    def of_place(self, place: int) -> list[Rows]:
        """Return the rows of a group, in parts."""
        parts = []
        for chunk in self._complete:
            start, end = np.searchsorted(chunk.places, [place, place + 1]).tolist()
            if start < end:
                parts.append(chunk.take(slice(start, end)))
        parts += [chunk.take(np.flatnonzero(chunk.places == place)) for chunk in self._open]
        return [part for part in parts if len(part.places)]

    def forget(self, first_held: int) -> None:
        """Drop the rows of complete panes with lower places."""
        if self._complete and any(chunk.places[0] < first_held for chunk in self._complete):
            held = (
                chunk if chunk.places[0] >= first_held else chunk.take(np.flatnonzero(chunk.places >= first_held))
                for chunk in self._complete
            )
            self._complete = [chunk for chunk in held if len(chunk.places)]
            self._drop_texts()
        self.heavy = self.heavy[self.heavy >= first_held]

    def forget_uids(self, first_held: int) -> None:
        """Drop the uids of complete chunks with lower places alone."""
        for position, chunk in enumerate(self._complete):
            if chunk.uids is not None and chunk.places[-1] < first_held:
                changed = self._complete[position] = chunk._replace(uids=None)
                if id(chunk) in self._texts:
                    self._texts[id(changed)] = changed, self._texts[id(chunk)][1], ""
        self._drop_texts()

    def _drop_texts(self) -> None:
        present = {id(chunk) for chunk in self._chunks}
        self._texts = {number: texts for number, texts in self._texts.items() if number in present}

    def first_place(self) -> int | None:
        """Return the lowest place of complete panes; None for none."""
        return min((int(chunk.places[0]) for chunk in self._complete), default=None)

    def list_numbers(self, series_of: Callable[[Integers], Integers]) -> list[Integers]:
        """Return the numbers of all values and series, each of a chunk once, in parts."""
        parts = []
        for chunk in self._chunks:
            values = np.unique(chunk.values)
            parts += [values[values >= 0].astype(np.int64), np.unique(series_of(chunk.places))]
        return parts

    def renumber(self, values: Integers, change_places: Callable[[Integers], Integers]) -> None:
        """Give values, `values[old]`, and places new numbers."""
        new = np.append(values, -1).astype(np.int32)  # so that no value, -1, stays what it is

        def change(chunk: Rows, *, is_ordered: bool) -> Rows:
            changed = chunk._replace(places=change_places(chunk.places), values=new[chunk.values])
            return changed.take(np.argsort(changed.places, kind="stable")) if is_ordered else changed

        self._complete = [change(chunk, is_ordered=True) for chunk in self._complete]
        self._open = [change(chunk, is_ordered=False) for chunk in self._open]
        self.heavy = np.sort(change_places(self.heavy))
        self._texts.clear()

    def state(self) -> list[Any]:
        """Return the rows as values for JSON. The text of each chunk is kept, because it does not change any more."""
        for chunk in self._chunks:
            if id(chunk) not in self._texts:
                self._texts[id(chunk)] = chunk, *_to_texts(chunk)
        self._drop_texts()
        parts = ([self._texts[id(chunk)][1:] for chunk in chunks] for chunks in (self._complete, self._open))
        return [*parts, self._settle_at, self.heavy.tolist()]

    @classmethod
    def from_state(cls, saved: list[Any]) -> "RowStore":
        """Return the rows that `state` described.

        Raises:
            ValueError: They are damaged.
        """
        complete, still_open, settle_at, heavy = saved
        rows = cls()
        rows._complete = [_from_texts(*texts) for texts in complete]
        rows._open = [_from_texts(*texts) for texts in still_open]
        rows._open_rows, rows._settle_at = sum(len(chunk.places) for chunk in rows._open), int(settle_at)
        rows.heavy = np.array(heavy, dtype=np.int64)
        return rows


def _to_texts(rows: Rows) -> tuple[str, str]:
    places = np.diff(rows.places, prepend=0)  # small numbers, which compress well
    arrays = [_encode(places), _encode(rows.values), [_encode(weight) for weight in rows.weights]]
    return json.dumps([rows.values.shape, *arrays], separators=(",", ":")), "" if rows.uids is None else " ".join(
        _encode(rows.uids)
    )


def _from_texts(text: str, uids_text: str) -> Rows:
    shape, places, values, weights = json.loads(text)
    uids: Uids | None = _decode(*uids_text.split(" ")) if uids_text else None
    rows = Rows(np.cumsum(_decode(*places)), _decode(*values).reshape(shape), tuple(_decode(*each) for each in weights), uids)
    lengths = {len(rows.places), rows.values.shape[1], *map(len, rows.weights), *(() if uids is None else (len(uids),))}
    if len(lengths) > 1:
        raise ValueError("columns of different lengths")
    return rows


def _encode(array: NDArray[Any]) -> tuple[str, str]:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    kind = f"S{array.itemsize}" if array.dtype.kind == "S" else f"{array.dtype.kind}{array.itemsize}"
    return kind, base64.b64encode(zlib.compress(little.tobytes(), _COMPRESSION)).decode()


def _decode(kind: str, text: str) -> NDArray[Any]:
    dtype = np.dtype(kind if kind.startswith("S") else f"<{kind}")
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype).astype(dtype.newbyteorder("="))
