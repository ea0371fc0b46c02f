"""Which series hold which slot of a model's state: found by sensor and name, bounded, the least recently used out."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection import SeriesTable
from mods_grpc.server.scheduling.fair_lock import FairLock
from mods_grpc.server.series.replay_cache import CachedReplies

NO_SLOT = -1
_NONE: dict[str, int] = {}
MAX_CACHED_STREAMS = 1024
MAX_RESERVED = 1 << 20  # series that room is made for ahead of time
NEVER_USED = np.inf  # when what is not held will have been used


class SeriesSlots:
    """The series of one model, by sensor.

    Args:
        table: Their state, empty.
        max_series: Series held in all; beyond it the least recently used is dropped.
        max_series_per_sensor: Series one sensor may hold; beyond it new ones are refused.
        idle_seconds: How long a series that sends nothing is kept.

    Attributes:
        evicted: Series dropped so far, by reason: "idle" or "capacity".
        pins: Streams that stay with this version whatever comes.
        turn: Whose turn it is to work on them.
        doubted: Sensors whose series may be older than what their clients were told.
    """

    def __init__(self, table: SeriesTable, *, max_series: int, max_series_per_sensor: int, idle_seconds: float) -> None:
        self._reserved = min(max_series, MAX_RESERVED)
        table.reserve(self._reserved)
        self.table = table
        self.evicted: Counter[str] = Counter()
        self.pins = 0
        self.lock = FairLock()
        self.stale_sensors: set[str] = set()
        self._replies: OrderedDict[str, CachedReplies] = OrderedDict()
        self._max_series = max_series
        self._max_per_sensor = max_series_per_sensor
        self._idle_seconds = idle_seconds
        self._sensors: dict[str, dict[str, int]] = {}
        self._owners: dict[int, tuple[str, str]] = {}
        self._used = np.zeros(0)

    def count_series(self, sensor: str) -> int:
        """Count the series of a sensor."""
        self._drop_idle()
        return len(self._sensors.get(sensor, ()))

    def find_slots(self, sensor: str, names: Sequence[str]) -> NDArray[np.intp]:
        """Return the slots of a sensor's series; NOT_HELD where a series is new."""
        known = self._sensors.get(sensor, {})
        try:
            found = np.array(list(map(known.__getitem__, names)), np.intp)
        except KeyError:
            found = np.array([known.get(name, NO_SLOT) for name in names], np.intp)
            self._used[found[found != NO_SLOT]] = time.monotonic()
        else:
            self._used[found] = time.monotonic()
        return found

    def find_slot(self, sensor: str, name: str) -> int:
        """Return the slot of one series; NOT_HELD where it is new."""
        found = self._sensors.get(sensor, _NONE).get(name, NO_SLOT)
        if found != NO_SLOT:
            self._used[found] = time.monotonic()
        return found

    def add(self, sensor: str, name: str) -> int:
        """Return the slot of a series, made if it is new; NOT_HELD where the sensor may hold no more."""
        known = self._sensors.setdefault(sensor, {})
        if name in known:
            return known[name]
        if len(known) >= self._max_per_sensor:
            return NO_SLOT
        if len(self._owners) >= self._max_series:
            self._drop_idle()
        if len(self._owners) >= self._max_series:
            self._drop_oldest()
        slot = self.table.allocate()
        if slot >= self._used.size:
            self._used = np.concatenate([self._used, np.full(self.table.head.size - self._used.size, NEVER_USED)])
        self._used[slot] = time.monotonic()
        self._sensors.setdefault(sensor, known)[name] = slot
        self._owners[slot] = (sensor, name)
        return slot

    def release_empty(self, slots: NDArray[np.intp]) -> None:
        """Give back the slots that hold no row: series whose first observation was refused."""
        held = slots[slots != NO_SLOT]
        for slot in np.unique(held[self.table.filled[held] == 0]).tolist():
            self._drop(slot)

    def swap_replies(self, sensor: str, answers: CachedReplies) -> CachedReplies:
        """Return the last answers of the sensor's previous stream, and keep those of the stream that begins from now on."""
        previous = self._replies.pop(sensor, deque())
        self._replies[sensor] = answers
        while len(self._replies) > MAX_CACHED_STREAMS:
            self._replies.popitem(last=False)
        return previous

    def __len__(self) -> int:
        return len(self._owners)

    def sensors(self) -> list[str]:
        """Return all sensors of which anything is held: those whose streams were answered first, as they were opened."""
        return list({**self._replies, **self._sensors})

    def sensor_groups(self, series: int) -> Iterator[list[str]]:
        """Yield all sensors, as many at a time as have so many series together."""
        group, held = list[str](), 0
        for sensor in self.sensors():
            group.append(sensor)
            held += len(self._sensors.get(sensor, ()))
            if held >= series:
                yield group
                group, held = [], 0
        if group:
            yield group

    def owners_of(self, sensors: Sequence[str]) -> tuple[NDArray[np.intp], list[tuple[str, str]], NDArray[np.float64]]:
        """Return the slots of some sensors, the sensor and name of each, and for how many seconds it was not used."""
        listed = [slot for sensor in sensors for slot in self._sensors.get(sensor, _NONE).values()]
        slots = np.array(listed, np.intp)
        return slots, [self._owners[slot] for slot in listed], time.monotonic() - self._used[slots]

    def cached_replies(self, sensors: Sequence[str]) -> dict[str, CachedReplies]:
        """Return the last requests of some sensors' streams with their answers, to which those streams add."""
        return {sensor: self._replies[sensor] for sensor in sensors if sensor in self._replies}

    def restore_usage(self, slots: NDArray[np.intp], idle_seconds: NDArray[np.float64], answers: dict[str, CachedReplies]) -> None:
        """Take over when series were last used, and what their streams were answered."""
        if slots.size:
            self._used[slots] = time.monotonic() - idle_seconds
        self._replies = OrderedDict({**answers, **self._replies})

    def mark_stale(self, sensors: set[str]) -> None:
        """Add to `doubted`."""
        self.stale_sensors |= sensors

    def clear_stale(self, sensor: str) -> bool:
        """Note that a sensor's client will send again what may be lacking, and return whether that was needed."""
        doubted = sensor in self.stale_sensors
        self.stale_sensors.discard(sensor)
        return doubted

    def absorb(self, other: "SeriesSlots") -> None:
        """Go on with all series of another version, which holds none afterwards. There must be none yet."""
        self.table, self._sensors, self._owners, self._used = other.table, other._sensors, other._owners, other._used
        self._replies = OrderedDict({**other._replies, **self._replies})
        self.mark_stale(other.stale_sensors)
        other.clear()

    def clear(self) -> None:
        """Forget all series, and give their memory back."""
        self.table = self.table.like()
        self.table.reserve(self._reserved)
        self._sensors, self._owners, self._used = {}, {}, np.zeros(0)
        self._replies, self.stale_sensors = OrderedDict(), set()

    def _drop_idle(self) -> None:
        limit = time.monotonic() - self._idle_seconds
        for slot in np.flatnonzero(self._used < limit).tolist():
            self._drop(slot)
            self.evicted["idle"] += 1

    def _drop_oldest(self) -> None:
        """Drop the least recently used hundredth, so that a flood of new series does not search for each."""
        slots = np.fromiter(self._owners, np.intp, len(self._owners))
        count = max(1, slots.size // 100)
        for slot in slots[np.argpartition(self._used[slots], count - 1)[:count]].tolist():
            self._drop(slot)
            self.evicted["capacity"] += 1

    def _drop(self, slot: int) -> None:
        sensor, name = self._owners.pop(slot)
        known = self._sensors[sensor]
        del known[name]
        if not known:
            del self._sensors[sensor]
        self._used[slot] = NEVER_USED
        self.table.release(slot)
