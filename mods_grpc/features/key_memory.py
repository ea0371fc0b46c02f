"""Memory of the keys that a series has seen, such as its remote hosts, so that new ones can be told apart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Hashes, Indices
from mods_grpc.features.hashing import decode_array, encode_array, no_hashes

MAX_REMEMBERED_KEYS = 2_048
MAX_PROTECTED_KEYS = 1_536  # the others have room for what is to be seen again
MEMORY_SECONDS = 7 * 86_400
LEARNING_SECONDS = 3_600


class KeyMemory:
    """The hashes of the keys that were seen in earlier panes.

    A key that is not seen for `MEMORY_SECONDS` is forgotten. When a pane's keys make more than `MAX_REMEMBERED_KEYS`, those not
    seen for longest are forgotten first, of these those with the smallest hashes; but not those that were seen in several panes,
    up to the `MAX_PROTECTED_KEYS` of them that were seen last. So a scan, whose hosts are seen once, does not push out a host
    that was seen twice, and a memory that is full still learns what comes again. It takes 13 bytes a key.

    Args:
        memory_panes: Number of panes in `MEMORY_SECONDS`.
    """

    __slots__ = ("_is_repeated", "_keys", "_last", "_memory_panes", "_oldest")

    def __init__(self, memory_panes: int) -> None:
        self._memory_panes = memory_panes
        self._keys = no_hashes()  # (n,), ordered
        self._last: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)  # pane in which each was last seen
        self._is_repeated = np.empty(0, dtype=np.bool_)  # whether it was seen in more than one pane
        self._oldest = 0  # no key was last seen before this pane

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Hashes, pane: int) -> Bools:
        """Add the keys of a pane that is later than all before; return which of them are new.

        Args:
            keys: Different hashes in order, `(n,)`.
            pane: Number of the pane since 1970.
        """
        if self._oldest < pane - self._memory_panes:
            self._forget_old(pane)
        at = self._keys.searchsorted(keys)
        if not len(self._keys):
            is_new = np.ones(len(keys), dtype=np.bool_)
        else:
            is_new = self._keys.take(at, mode="clip") != keys
            old = at[~is_new]
            self._last[old] = pane
            self._is_repeated[old] = True
        if is_new.any():
            self._insert(at[is_new], keys[is_new], pane)
        return is_new

    def _forget_old(self, pane: int) -> None:
        """Forget the keys that were not seen for too long."""
        is_recent = self._last >= pane - self._memory_panes
        if not is_recent.all():
            self._select(is_recent)
        self._oldest = int(self._last.min(initial=pane))

    def _insert(self, places: Indices, keys: Hashes, pane: int) -> None:
        """Insert new keys before the given places, `(n,)`, which are those before the insertion."""
        at = places + np.arange(len(places))
        is_old = np.ones(len(self._keys) + len(keys), dtype=np.bool_)
        is_old[at] = False
        all_keys = np.empty(len(is_old), dtype=np.uint64)
        last = np.empty(len(is_old), dtype=np.uint32)
        is_repeated = np.empty(len(is_old), dtype=np.bool_)
        all_keys[is_old], all_keys[at] = self._keys, keys
        last[is_old], last[at] = self._last, pane
        is_repeated[is_old], is_repeated[at] = self._is_repeated, False
        self._keys, self._last, self._is_repeated = all_keys, last, is_repeated
        if (excess := len(all_keys) - MAX_REMEMBERED_KEYS) > 0:
            by_age = np.lexsort((all_keys, last))
            repeated = by_age[is_repeated[by_age]]
            is_protected = np.zeros(len(all_keys), dtype=np.bool_)
            is_protected[repeated[-MAX_PROTECTED_KEYS:]] = True
            is_kept = np.ones(len(all_keys), dtype=np.bool_)
            is_kept[by_age[~is_protected[by_age]][:excess]] = False
            self._select(is_kept)

    def _select(self, is_kept: Bools) -> None:
        self._keys, self._last, self._is_repeated = self._keys[is_kept], self._last[is_kept], self._is_repeated[is_kept]

    def state(self) -> list[str]:
        """Return the state as values for JSON."""
        return [encode_array(self._keys), encode_array(self._last), encode_array(self._is_repeated)]

    @classmethod
    def restore(cls, state: Any, memory_panes: int) -> "KeyMemory":
        """Return the memory of a state.

        Raises:
            ValueError: Not the state of a memory.
        """
        memory = cls(memory_panes)
        keys, last, is_repeated = state
        memory._keys, memory._last = decode_array(keys, "u8"), decode_array(last, "u4")
        memory._is_repeated = decode_array(is_repeated, "u1").astype(np.bool_)
        if not len(memory._keys) == len(memory._last) == len(memory._is_repeated) <= MAX_REMEMBERED_KEYS:
            raise ValueError("not the keys of a memory")
        if not (memory._keys[1:] > memory._keys[:-1]).all():
            raise ValueError("not ordered hashes")
        return memory


class SeriesMemory:
    """What a series remembers: the panes in which it was first and last seen, and keys by protocol, direction and field."""

    __slots__ = ("first", "keys", "last")

    def __init__(self, pane: int) -> None:
        self.first = self.last = pane
        self.keys: dict[tuple[str, str, str], KeyMemory] = {}


class KeyMemories:
    """The memories of all series.

    The memory of a series that has no record for `MEMORY_SECONDS` is dropped, and of more than `max_series` memories those of the
    series that had none for longest. Records are those of all protocols that have columns; of an internal one both ends' series
    have it. A series learns for `LEARNING_SECONDS` from its first record, unless there had been records of others for as long
    before: then it had been silent, and all that it does is new.

    Args:
        pane_ns: Length of a pane in nanoseconds.
        max_series: Limit on the number of memories.
    """

    def __init__(self, pane_ns: int, max_series: int) -> None:
        self._memory_panes = MEMORY_SECONDS * NANOS_PER_SECOND // pane_ns
        self._learning_panes = -(-LEARNING_SECONDS * NANOS_PER_SECOND // pane_ns)
        self._max_series = max_series
        self._series: dict[str, SeriesMemory] = {}
        self._first: int | None = None  # the first pane with a record of any series
        self._last = 0  # the last one
        self._next_sweep = 0

    def __len__(self) -> int:
        return len(self._series)

    def note(self, series: str, pane: int) -> SeriesMemory:
        """Note that a series has a record in a pane, no earlier than those before; return its memory."""
        if self._first is None or self._last < pane - self._memory_panes:
            self._first = pane
        self._last = pane
        memory = self._series.get(series)
        if memory is None or memory.last < pane - self._memory_panes:
            memory = self._series[series] = SeriesMemory(pane)
        memory.last = pane
        return memory

    def keys_of(self, memory: SeriesMemory, protocol: str, direction: str, field: str) -> KeyMemory:
        """Return the memory of keys of a series' memory, empty at first."""
        keys = memory.keys.get((protocol, direction, field))
        if keys is None:
            keys = memory.keys[protocol, direction, field] = KeyMemory(self._memory_panes)
        return keys

    def has_learned(self, series: str, start: int, end: int) -> bool:
        """Return whether a series had learned its keys before a window.

        A protocol that it uses later for the first time has nothing to learn: all of it is new.

        Args:
            series: Name of the series.
            start: First pane of the window.
            end: Pane after its last one; the records of all panes before were noted, and of no later one.
        """
        if self._first is None or self._last < end - 1 - self._memory_panes:
            return False
        memory = self._series.get(series)
        is_silent = memory is None or memory.last < end - 1 - self._memory_panes
        first = end if memory is None or is_silent else memory.first
        return first >= self._first + self._learning_panes or start >= first + self._learning_panes

    def sweep(self, pane: int) -> None:
        """Drop what is too old in a pane, or too many."""
        if pane >= self._next_sweep:  # seldom, because it goes through all series
            self._next_sweep = pane + max(1, self._memory_panes // 50)
            first = pane - self._memory_panes
            self._series = {series: memory for series, memory in self._series.items() if memory.last >= first}
        if (excess := len(self._series) - self._max_series) > 0:
            for series in sorted(self._series, key=lambda series: (self._series[series].last, series))[:excess]:
                del self._series[series]

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        of_series = [
            [series, memory.last, memory.first, [[*key, *keys.state()] for key, keys in memory.keys.items()]]
            for series, memory in self._series.items()
        ]
        return {"first": self._first, "last": self._last, "series": of_series}

    def restore(self, state: Any) -> None:
        """Replace the memories by those of a state.

        Raises:
            ValueError: Not the state of memories.
        """
        memories: dict[str, SeriesMemory] = {}
        for series, last, first, of_keys in state["series"]:
            memory = memories[str(series)] = SeriesMemory(int(last))
            memory.first = int(first)
            for protocol, direction, field, *keys in of_keys:
                memory.keys[str(protocol), str(direction), str(field)] = KeyMemory.restore(keys, self._memory_panes)
        self._first = None if state["first"] is None else int(state["first"])
        self._series, self._last, self._next_sweep = memories, int(state["last"]), 0
