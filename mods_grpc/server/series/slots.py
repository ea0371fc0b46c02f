"""The series of one model and the slots of their state: looked up by sensor and name, bounded, least recently used evicted."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set

import numpy as np

from mods_grpc.array_types import Bools, Floats, Indices, Singles, Times
from mods_grpc.detection import SeriesTable
from mods_grpc.server.scheduling.fair_lock import FairLock
from mods_grpc.server.series.replay_cache import CachedReplies, LastReplies
from mods_grpc.server.series.total_alarms import TotalAlarms

NO_SLOT = -1
MAX_CACHED_STREAMS = 1024
MAX_GROUP_REPLIES = 20_000  # cached replies of a group of sensors; more belong to one sensor only
MAX_READS = 3  # of state that changes meanwhile
MAX_RESERVED = 1 << 20  # series that memory is reserved for in advance
NEVER_USED = np.inf  # last use of a free slot, so that it is never idle
_NO_SERIES: dict[str, int] = {}
_NONE_STALE: frozenset[str] = frozenset()


class SeriesSlots:
    """The series of one model, by sensor.

    Args:
        table: Their state, empty.
        max_series: Series held in all; above it the least recently used are evicted.
        max_series_per_sensor: Series per sensor; above it new ones are refused.
        idle_seconds: Time without an observation after which a series is evicted.

    Attributes:
        table: The state of the series, by slot.
        evicted: Series evicted so far, by reason: "idle" or "capacity".
        lock: Held by work on the series that runs on a thread or had to wait. Other work runs on the event loop while it is free.
    """

    def __init__(self, table: SeriesTable, *, max_series: int, max_series_per_sensor: int, idle_seconds: float) -> None:
        table.reserve(min(max_series, MAX_RESERVED))
        self.table = table
        self.evicted: Counter[str] = Counter()
        self.lock = FairLock()
        self._pins: Counter[str] = Counter()  # streams that stay with this model version, by sensor
        self._stale: dict[str, set[str]] = {}  # names of the stale series, by sensor
        self._replies: OrderedDict[str, CachedReplies] = OrderedDict()
        self._last_replies: OrderedDict[str, LastReplies] = OrderedDict()
        self._total_alarms: OrderedDict[str, TotalAlarms] = OrderedDict()
        self._max_series = max_series
        self._max_per_sensor = max_series_per_sensor
        self._idle_seconds = idle_seconds
        self._sensors: dict[str, dict[str, int]] = {}
        self._owners: dict[int, tuple[str, str]] = {}
        self._last_used = np.zeros(0)

    def count_series(self, sensor: str) -> int:
        """Count the series of a sensor."""
        self.evict_idle()
        return len(self._sensors.get(sensor, ()))

    def find_slots(self, sensor: str, names: Sequence[str]) -> Indices:
        """Return the slots of a sensor's series, `(n,)`; NO_SLOT where a series is new."""
        slot_of = self._sensors.get(sensor, _NO_SERIES)
        try:
            slots = np.array(list(map(slot_of.__getitem__, names)), np.intp)
        except KeyError:
            slots = np.array([slot_of.get(name, NO_SLOT) for name in names], np.intp)
            self._last_used[slots[slots != NO_SLOT]] = time.monotonic()
        else:
            self._last_used[slots] = time.monotonic()
        return slots

    def find_slot(self, sensor: str, name: str) -> int:
        """Return the slot of one series; NO_SLOT where it is new."""
        slot = self._sensors.get(sensor, _NO_SERIES).get(name, NO_SLOT)
        if slot != NO_SLOT:
            self._last_used[slot] = time.monotonic()
        return slot

    def own_quantiles(self, sensor: str, names: Sequence[str]) -> tuple[Singles, Bools]:
        """Return the own quantiles of a sensor's series, `(n, horizons, levels, features)`, and which have any, `(n,)`.

        They are as in the table, 0 where a series is new or learned none. Only reads, and may run on any thread beside the one
        that scores.
        """
        for _ in range(MAX_READS):
            table = self.table
            first, second = (self._read_quantiles(table, sensor, names) for _ in range(2))
            # a row that is applied meanwhile may be half in a copy, but not in two that are equal
            if np.array_equal(first, second) and table is self.table:
                break
        return first, np.asarray(first.any(axis=(1, 2, 3)), np.bool_)

    def _read_quantiles(self, table: SeriesTable, sensor: str, names: Sequence[str]) -> Singles:
        slot_of = self._sensors.get(sensor, _NO_SERIES)
        slots = np.array([slot_of.get(name, NO_SLOT) for name in names], np.intp)
        quantiles = np.zeros((len(slots), *table.quantiles.shape[1:]), np.float32)
        held = np.flatnonzero((slots != NO_SLOT) & (slots < len(table.quantiles)))
        quantiles[held] = table.quantiles[slots[held]]
        return quantiles

    def last_times(self, sensor: str, names: Sequence[str]) -> Times:
        """Return the time of the last row of a sensor's series, `(n,)`, nanoseconds; 0 where there is none."""
        slots, times = self.find_slots(sensor, names), np.zeros(len(names), np.int64)
        held = np.flatnonzero(slots != NO_SLOT)
        held = held[self.table.filled[slots[held]] > 0]
        times[held] = self.table.last_time[slots[held]]
        return times

    def add(self, sensor: str, name: str) -> int:
        """Return the slot of a series, allocated if it is new; NO_SLOT where the sensor is at its limit."""
        slot_of = self._sensors.setdefault(sensor, {})
        if name in slot_of:
            return slot_of[name]
        if len(slot_of) >= self._max_per_sensor:
            return NO_SLOT
        if len(self._owners) >= self._max_series:
            self.evict_idle()
        if len(self._owners) >= self._max_series:
            self._evict_oldest()
        slot = self.table.allocate()
        if slot >= self._last_used.size:
            added = np.full(self.table.head.size - self._last_used.size, NEVER_USED)
            self._last_used = np.concatenate([self._last_used, added])
        self._last_used[slot] = time.monotonic()
        self._sensors.setdefault(sensor, slot_of)[name] = slot
        self._owners[slot] = (sensor, name)
        return slot

    def release_empty(self, slots: Indices) -> None:
        """Release the slots that hold no row: series whose first observation was refused."""
        held = slots[slots != NO_SLOT]
        for slot in np.unique(held[self.table.filled[held] == 0]).tolist():
            self._release(slot)

    def swap_replies(self, sensor: str, replies: CachedReplies) -> CachedReplies:
        """Return the cached replies of the sensor's previous stream, and hold those of its new stream from now on."""
        previous = self._replies.pop(sensor, deque())
        self._replies[sensor] = replies
        while len(self._replies) > MAX_CACHED_STREAMS:
            self._replies.popitem(last=False)
        return previous

    def last_replies(self, sensor: str) -> LastReplies:
        """Return the last replies to a sensor's series, to which its streams add."""
        last = self._last_replies.setdefault(sensor, LastReplies())
        self._last_replies.move_to_end(sensor)
        while len(self._last_replies) > MAX_CACHED_STREAMS:
            self._last_replies.popitem(last=False)
        return last

    def total_alarms(self, sensor: str, total: float, holdoff: int, slide_seconds: int) -> TotalAlarms:
        """Return the alarms of a sensor whose series have one budget together; new ones where it had another total.

        Arguments as of `TotalAlarms`.
        """
        alarms = self._total_alarms.pop(sensor, None)
        if alarms is None or alarms.rule.total != total:
            alarms = TotalAlarms(total, slide_seconds, holdoff)
        self._total_alarms[sensor] = alarms
        while len(self._total_alarms) > MAX_CACHED_STREAMS:
            self._total_alarms.popitem(last=False)
        return alarms

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def last_used(self) -> float:
        """When a series was last used, by the monotonic clock; -inf if there is none."""
        return float(self._last_used[self._last_used < NEVER_USED].max(initial=-np.inf))

    def empty_like(self) -> "SeriesSlots":
        """Create slots for series of the same shape, with the same limits."""
        limits = {"max_series": self._max_series, "max_series_per_sensor": self._max_per_sensor}
        return SeriesSlots(self.table.empty_like(), idle_seconds=self._idle_seconds, **limits)

    def sensors(self) -> list[str]:
        """Return all sensors with series or cached replies: those with replies first, in the order their streams were opened."""
        return list({**self._replies, **self._sensors})

    def sensor_groups(self, min_series: int) -> Iterator[list[str]]:
        """Yield all sensors in groups that are copied fast.

        A group ends once it has `min_series` series, and before it has more than MAX_GROUP_REPLIES cached replies.
        """
        group, series, replies = list[str](), 0, 0
        for sensor in self.sensors():
            added = len(self._replies.get(sensor, ()))
            if group and (series >= min_series or replies + added > MAX_GROUP_REPLIES):
                yield group
                group, series, replies = [], 0, 0
            group.append(sensor)
            series += len(self._sensors.get(sensor, ()))
            replies += added
        if group:
            yield group

    def owners_of(self, sensors: Sequence[str]) -> tuple[Indices, list[tuple[str, str]], Floats]:
        """Return the slots of some sensors, the sensor and name of each, and the seconds since it was last used."""
        listed = [slot for sensor in sensors for slot in self._sensors.get(sensor, _NO_SERIES).values()]
        slots = np.array(listed, np.intp)
        return slots, [self._owners[slot] for slot in listed], time.monotonic() - self._last_used[slots]

    def cached_replies(self, sensors: Sequence[str]) -> dict[str, CachedReplies]:
        """Return the cached replies of some sensors: the deques themselves, to which open streams add."""
        return {sensor: self._replies[sensor] for sensor in sensors if sensor in self._replies}

    def copy_replies(self, sensors: Sequence[str]) -> dict[str, CachedReplies]:
        """Copy the cached replies of some sensors: those of the last stream, after the last ones of other streams."""
        copies = {}
        for sensor, replies in self.cached_replies(sensors).items():
            last = self._last_replies[sensor].list_replies() if sensor in self._last_replies else []
            others = {id(entry): entry for entry in last}
            for entry in reversed(replies):  # an entry is shared by the two, and is mostly among the newest
                if not others:
                    break
                others.pop(id(entry), None)
            copies[sensor] = deque([*others.values(), *replies])
        return copies

    def restore_usage(self, slots: Indices, idle_seconds: Floats, replies: dict[str, CachedReplies]) -> None:
        """Set the seconds since slots were last used, both `(n,)`, and add cached replies of sensors that have none."""
        if slots.size:
            self._last_used[slots] = time.monotonic() - idle_seconds
        self._replies = OrderedDict({**replies, **self._replies})

    def restore_last_replies(self, find_series: Callable[[bytes], str]) -> None:
        """Find the last replies to each series among the cached replies of sensors whose streams have not come back yet.

        Args:
            find_series: Returns the first series of a request.
        """
        for sensor in [sensor for sensor in self._replies if sensor not in self._last_replies]:
            last = self.last_replies(sensor)
            for entry in self._replies[sensor]:
                last.store(find_series(entry.request), entry, entry.size)

    def add_replies(self, other: "SeriesSlots", sensors: Collection[str]) -> None:
        """Add the cached replies of another version for those of some sensors that have none: the objects, not copies."""
        replies = {sensor: other._replies[sensor] for sensor in sensors if sensor in other._replies}
        last = {sensor: other._last_replies[sensor] for sensor in sensors if sensor in other._last_replies}
        self._replies = OrderedDict({**replies, **self._replies})
        self._last_replies = OrderedDict({**last, **self._last_replies})

    def share_last_replies(self, other: "SeriesSlots") -> None:
        """Add the last replies of another version, whose streams go on with this one, and the alarms of their sensors."""
        self._last_replies = OrderedDict({**self._last_replies, **other._last_replies})
        self._total_alarms = OrderedDict({**self._total_alarms, **other._total_alarms})

    @property
    def pinned_sensors(self) -> Set[str]:
        """Sensors with streams that stay with this model version."""
        return self._pins.keys()

    def pin(self, sensor: str) -> None:
        """Count a stream of a sensor that stays with this model version."""
        self._pins[sensor] += 1

    def unpin(self, sensor: str) -> None:
        """Count such a stream no longer. Its series stay, for the stream that comes after it."""
        self._pins[sensor] -= 1
        if not self._pins[sensor]:
            del self._pins[sensor]

    @property
    def stale_sensors(self) -> Set[str]:
        """Sensors with stale series, which may lack observations that their clients were told were applied."""
        return self._stale.keys()

    def stale_series(self, sensor: str) -> Set[str]:
        """Return the stale series of a sensor."""
        return self._stale.get(sensor, _NONE_STALE)

    def mark_stale(self, sensors: Iterable[str]) -> None:
        """Mark all series of some sensors as stale."""
        for sensor in sensors:
            if sensor in self._sensors:
                self._stale[sensor] = set(self._sensors[sensor])

    def clear_stale(self, sensor: str, names: Iterable[str]) -> None:
        """Clear the marks of series because a client has sent again what it had of them."""
        if sensor in self._stale:
            self._stale[sensor].difference_update(names)
            if not self._stale[sensor]:
                del self._stale[sensor]

    def share_stale(self, other: "SeriesSlots") -> None:
        """Mark the series as stale that are stale in another version."""
        for sensor in other._stale.keys() & self._sensors.keys():
            if held := other._stale[sensor].intersection(self._sensors[sensor]):
                self._stale.setdefault(sensor, set()).update(held)

    def absorb(self, other: "SeriesSlots") -> None:
        """Take over all series of another version, which holds none afterwards. This one must hold none yet."""
        self.table, self._sensors, self._owners = other.table, other._sensors, other._owners
        self._last_used = other._last_used
        self._replies = OrderedDict({**other._replies, **self._replies})
        self.share_last_replies(other)
        self._stale = other._stale
        other.clear()

    def clear(self) -> None:
        """Release all series and their memory."""
        self.table = self.table.empty_like()
        self.table.reserve(min(self._max_series, MAX_RESERVED))
        self._sensors, self._owners, self._last_used = {}, {}, np.zeros(0)
        self._replies, self._last_replies, self._stale = OrderedDict(), OrderedDict(), {}
        self._total_alarms = OrderedDict()

    def evict_idle(self) -> None:
        """Drop the series that were not used for too long, and the cached replies of sensors that have none left."""
        oldest = time.monotonic() - self._idle_seconds
        for slot in np.flatnonzero(self._last_used < oldest).tolist():
            sensor, _ = self._owners[slot]
            self._release(slot)
            self.evicted["idle"] += 1
            if sensor not in self._sensors:
                self._replies.pop(sensor, None)
                self._last_replies.pop(sensor, None)
                self._total_alarms.pop(sensor, None)

    def _evict_oldest(self) -> None:
        """Evict the least recently used hundredth, so that a flood of new series does not search once per series."""
        slots = np.fromiter(self._owners, np.intp, len(self._owners))
        count = max(1, slots.size // 100)
        for slot in slots[np.argpartition(self._last_used[slots], count - 1)[:count]].tolist():
            self._release(slot)
            self.evicted["capacity"] += 1

    def _release(self, slot: int) -> None:
        sensor, name = self._owners.pop(slot)
        slot_of = self._sensors[sensor]
        del slot_of[name]
        if not slot_of:
            del self._sensors[sensor]
        self.clear_stale(sensor, (name,))
        self._last_used[slot] = NEVER_USED
        self.table.release(slot)
