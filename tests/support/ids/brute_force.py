"""The rows of windows, computed from the list of all records by the definitions of the columns, in plain Python and slowly."""

import math
from collections import Counter, defaultdict

from mods_grpc.features import AggregatorOptions
from mods_grpc.features.definitions import Definition, Kind
from mods_grpc.features.distinct_count import DistinctCounter
from mods_grpc.features.hashing import HASH_RANGE, hash_value
from mods_grpc.features.key_memory import LEARNING_SECONDS, MAX_PROTECTED_KEYS, MAX_REMEMBERED_KEYS, MEMORY_SECONDS
from mods_grpc.features.keyed_count import SKETCH_BITS, SKETCH_CELLS, SKETCH_ROWS
from mods_grpc.features.locality import Locality

SECOND = 1_000_000_000
ICMP_ERRORS = {1, 2, 3, 4, 5, 11, 12}  # unreachable, too big, time exceeded, parameter problem, source quench, redirect
ICMP_ANSWERS = {0, 9, 14, 16, 18, 43, 129, 131, 132, 134, 136, 137, 140, 142, 143, 145, 147, 161}
NEW_KINDS = {Kind.NEW, Kind.NEW_COUNT, Kind.NEW_SUM}


class BruteForce:
    """Keeps all records that count, and computes windows from them. `max_series` is not applied."""

    def __init__(self, definition: Definition, options: AggregatorOptions, max_keys: int = MAX_REMEMBERED_KEYS) -> None:
        self.definition, self.options, self.max_keys = definition, options, max_keys
        self.locality = Locality(options.local_networks, options.group_by)
        self.fates = Counter()
        self.placed = defaultdict(list)  # by series, side, protocol, direction and pane
        self.panes_of_series = defaultdict(set)
        self.logged_panes = defaultdict(set)  # the panes in which records of a series were logged
        self.earliest = options.begin_ns
        self.open_ns = options.begin_ns or 0
        self.next_start = None
        self.new_values = {}
        of_protocols = [(feature.protocol, feature.measure.is_own) for feature in definition.features]
        self.sides = {
            protocol: sorted({is_own for name, is_own in of_protocols if name == protocol}) for protocol, _ in of_protocols
        }

    def add(self, record):
        """Place a record; returns whether it counts."""
        begin = self.options.begin_ns or 0
        sides = self.sides.get(record.protocol)
        if sides is None:
            self.fates["unwanted"] += 1
            return
        times = {is_own: record.logged_ns if is_own else record.ts for is_own in sides}
        last = max(times.values())
        if last < begin:
            self.fates["before_begin"] += 1
            return
        if last < self.open_ns:
            self.fates["late"] += 1
            return
        direction = self.locality.direction(record)
        if direction is None:
            self.fates["remote"] += 1
            return
        self.fates["added"] += 1
        names = self.locality.series_names(record, direction)
        counted = {is_own: time for is_own, time in times.items() if time >= self.open_ns}
        self.fates["partly_late"] += sides == [False, True] and False not in counted and record.ts >= begin
        for is_own, time in counted.items():
            pane = time // self.options.pane_ns
            for number, series in enumerate(names):
                way = "none" if is_own and (number or is_icmp_reply(record)) else direction
                self.placed[series, is_own, record.protocol, way, pane].append(record)
                self.panes_of_series[series].add(pane)
                if is_own or sides == [False]:
                    self.logged_panes[series].add(pane)
        if self.options.begin_ns is None:
            self.earliest = min([*counted.values(), *([] if self.earliest is None else [self.earliest])])

    def advance(self, complete_until_ns):
        """Return the rows that are complete, as (series, start in ns, values); later records of their panes are late."""
        options, pane_ns = self.options, self.options.pane_ns
        end_pane = complete_until_ns // pane_ns
        self.open_ns = max(self.open_ns, end_pane * pane_ns)
        if self.next_start is None:
            if self.earliest is None:
                return []
            first = -(-self.earliest // (options.slide_seconds * SECOND)) * options.slide_panes
            if first + options.window_panes > self.open_ns // pane_ns:
                return []
            self.next_start = first
        rows = []
        while self.next_start + options.window_panes <= self.open_ns // pane_ns:
            start, end = self.next_start, self.next_start + options.window_panes
            for series in sorted(self.panes_of_series):
                if any(end - options.idle_timeout_panes <= pane < end for pane in self.panes_of_series[series]):
                    values = {feature.key: self.value(feature, series, start, end) for feature in self.definition.features}
                    rows.append((series, start * pane_ns, values))
            self.next_start += options.slide_panes
        return rows

    def records(self, feature, series, pane):
        return self.placed.get((series, feature.measure.is_own, feature.protocol, feature.direction, pane), [])

    def value(self, feature, series, start, end):
        """Return the value of a feature in the window `[start, end)` of panes."""
        kind, measure = feature.measure.kind, feature.measure
        panes = [self.records(feature, series, pane) for pane in range(start, end)]
        records = [record for of_pane in panes for record in of_pane]
        if kind in NEW_KINDS:
            return self.new_value(feature, series, start, end)
        if kind is Kind.TOP_SUM:
            return largest_sum(panes, field_of(feature), measure.second, self.options.distinct_limit)
        if kind is Kind.TOP_DISTINCT:
            return largest_number_of_values(panes, field_of(feature), measure.second, self.options.distinct_limit)
        values = [value for record in records for value in values_of(record, field_of(feature))]
        if kind is Kind.DISTINCT:
            return distinct(panes, field_of(feature), self.options.distinct_limit)
        if kind in {Kind.COUNT, Kind.SUM}:
            return float(sum(values))
        if kind in {Kind.TRUE, Kind.FALSE}:
            return float(sum(value is (kind is Kind.TRUE) for value in values))
        if kind is Kind.MAX:
            return float(max(values, default=0))
        if kind is Kind.MEAN:
            return sum(values) / len(values) / SECOND if values else math.nan
        assert kind is Kind.BALANCE
        others = sum(value for record in records for value in values_of(record, measure.second))
        total = sum(values) + others
        return (sum(values) - others) / total if total else math.nan

    def new_value(self, feature, series, start, end):
        """Return a number of what was not seen before, from the memory as it was pane by pane."""
        memory_panes = MEMORY_SECONDS * SECOND // self.options.pane_ns
        keyed = (series, feature.protocol, feature.direction, field_of(feature), feature.measure.second, end)
        if keyed not in self.new_values:
            self.new_values[keyed] = self.remember(feature, series, end, memory_panes)
        first, last, by_pane = self.new_values[keyed]
        learning = -(-LEARNING_SECONDS * SECOND // self.options.pane_ns)
        if first is None or last < end - 1 - memory_panes:
            first = end  # its memory begins later
        of_all = runs(set().union(*self.logged_panes.values()), end, memory_panes)
        if not of_all or (first < of_all[-1][0] + learning and start < first + learning):
            return math.nan
        row = {Kind.NEW: 0, Kind.NEW_COUNT: 1, Kind.NEW_SUM: 2}[feature.measure.kind]
        return float(sum(by_pane.get(pane, (0, 0, 0))[row] for pane in range(start, end)))

    def remember(self, feature, series, end, memory_panes):
        """Return the first and the last pane of the memory of a series, and what was new in each pane before `end`."""
        first, last, memory, by_pane = None, None, {}, {}
        for pane in sorted(pane for pane in self.logged_panes[series] if pane < end):
            if last is not None and last < pane - memory_panes:
                first, memory = None, {}
            last = pane
            first = pane if first is None else first
            keys, threshold = sample(self.records(feature, series, pane), field_of(feature), self.options.distinct_limit)
            memory = {key: (panes, at) for key, (panes, at) in memory.items() if at >= pane - memory_panes}
            share = threshold / HASH_RANGE
            new = [of_key for key, of_key in keys.items() if key not in memory]
            numbers = [len(new), sum(count_of(of_key) for of_key in new)]
            numbers.append(sum(sum_of(record, feature.measure.second) for of_key in new for record, _ in of_key))
            by_pane[pane] = numbers if threshold == HASH_RANGE else [round(number / share) for number in numbers]
            for key in keys:
                memory[key] = (min(memory.get(key, (0, 0))[0] + 1, 255), pane)
            order = sorted(memory, key=lambda key: (memory[key][1], key))
            protected = {*[key for key in order if memory[key][0] > 1][-MAX_PROTECTED_KEYS:]}
            order.sort(key=lambda key: key in protected)
            memory = {key: memory[key] for key in order[-self.max_keys :]}
        return first, last, by_pane


def runs(panes, end, gap):
    """Return the first and the last of the panes before `end` that follow each other without a longer gap."""
    found = []
    for pane in sorted(pane for pane in panes if pane < end):
        if found and pane <= found[-1][1] + gap:
            found[-1] = (found[-1][0], pane)
        else:
            found.append((pane, pane))
    return found if found and found[-1][1] >= end - 1 - gap else []


def field_of(feature):
    """Return the attribute of the record that a feature reads."""
    if feature.measure.field == "remote_host":
        return "orig_h" if feature.direction == "in" else "resp_h"
    return feature.measure.field


def is_icmp_reply(record):
    is_icmp = record.protocol == "conn" and "icmp" in (record.proto or "")
    return is_icmp and record.orig_p in ICMP_ERRORS | ICMP_ANSWERS


def values_of(record, field):
    if field in {"port", "responder"} and "icmp" in (record.proto or ""):
        return [f"{record.resp_h} icmp"] if field == "responder" else []
    value = getattr(record, field)
    return list(value) if isinstance(value, tuple) else [] if value is None else [value]


def sum_of(record, field):
    return (getattr(record, field) or 0) if field else 0


def count_of(records):
    return sum(bool(record.transactions) if is_of_several else record.transactions for record, is_of_several in records)


def by_key(records, field):
    """Return the records by the hash of their key, each with whether it has several keys."""
    keys = defaultdict(list)
    for record in records:
        for key in values_of(record, field):
            keys[hash_value(key)].append((record, isinstance(getattr(record, field), tuple)))
    return keys


def sample(records, field, limit):
    """Return the records by key, of the keys with the smallest hashes, and the threshold."""
    keys = by_key(records, field)
    ordered = sorted(keys)
    threshold = ordered[limit] if len(ordered) > limit else HASH_RANGE
    return {key: keys[key] for key in ordered[:limit]}, threshold


def distinct(panes, field, limit):
    counter = DistinctCounter(limit)
    for of_pane in panes:
        single = DistinctCounter(limit)  # an estimate of a pane stays one
        for record in of_pane:
            for value in values_of(record, field):
                single.add(value)
        counter.merge(single)
    return float(counter.count())


def largest_sum(panes, field, second, limit):
    sums = Counter()
    for of_pane in panes:
        for key, records in by_key(of_pane, field).items():
            sums[key] += sum(sum_of(record, second) for record, _ in records)
    if all(len(by_key(of_pane, field)) <= limit for of_pane in panes):
        return float(max(sums.values(), default=0))
    rows = [Counter() for _ in range(SKETCH_ROWS)]
    for key, value in sums.items():
        for row, cells in enumerate(rows):
            cells[(key >> (row * SKETCH_BITS)) % SKETCH_CELLS] += value
    return float(min(max(cells.values()) for cells in rows))


def mixed(key, value):
    """Return the hash of a pair: SplitMix64 of both hashes."""
    number = (hash_value(key) * 0x9E3779B97F4A7C15 + hash_value(value)) % HASH_RANGE
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % HASH_RANGE
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % HASH_RANGE
    return number ^ (number >> 31)


def largest_number_of_values(panes, field, second, limit):
    united, threshold = {}, HASH_RANGE
    for of_pane in panes:
        pairs = {}
        for record in of_pane:
            keys, values = values_of(record, field), values_of(record, second)
            for key, value in zip(keys, values, strict=False):  # an empty name has no domain
                if value is not None:  # a reverse lookup
                    pairs[mixed(key, value)] = key
        if len(pairs) > limit:
            threshold = min(threshold, sorted(pairs)[limit])
        united |= pairs
    numbers = Counter(key for pair, key in united.items() if pair < threshold)
    largest = max(numbers.values(), default=0)
    return float(largest if threshold == HASH_RANGE else round(largest * HASH_RANGE / threshold))
