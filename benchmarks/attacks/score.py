"""Episodes of alerts and of scores: which are right, which false, of how many events, and whether p-values are what they say."""

import math
from bisect import bisect, bisect_left
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import numpy as np

from mods_grpc.alarm_rules.episode_rule import holdoff_rows
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.features.locality import SITE

MAX_EXAMPLES = 5  # of an alert of a rule; own hosts beyond them are not named
SETTLE_ROWS = 20  # of the model's window: so long after an attack rows are still judged against it
LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert: the first window of an episode.

    Attributes:
        host: The host, or `SITE` where a rule counts what is done to several own hosts together.
        start, end: The window, seconds since 1970.
        rule: The fixed rule that raised it; empty for the model.
        names: What the alert of a rule names beside its host: source and destination, peers, domains, and uids of records.
        names_all: Whether it names all of the own hosts that it is of.
    """

    host: str
    start: float
    end: float
    rule: str = ""
    names: frozenset = frozenset()
    names_all: bool = True

    def concerns(self, hosts):
        """Return whether it is, or may be, of one of the hosts."""
        return self.host in hosts or not self.names_all or (self.host == SITE and not self.names.isdisjoint(hosts))


class Relation(Enum):
    """What an alert has to do with an attack at its time."""

    OF_IT = "of it"
    REACHED = "of a host that it reaches inside"
    NONE = "none"


def find_starts(stands_out, holdoff):
    """Return the rows at which episodes start, `(hosts, rows)`: of rows that stand out, those with none just before.

    Args:
        stands_out: `(hosts, rows)`.
        holdoff: Largest distance in rows of two in a row of one episode.
    """
    rows = np.arange(stands_out.shape[1])
    last = np.maximum.accumulate(np.where(stands_out, rows, -(10**9)), axis=1)
    before = np.concatenate([np.full((len(last), 1), -(10**9)), last[:, :-1]], axis=1)
    return stands_out & (rows - before > holdoff)


def list_episodes(stands_out, table, windows, is_counted):
    """Return the episodes that start in some rows of a table.

    Args:
        stands_out: `(hosts, rows)` of the table.
        table: The table.
        windows: Its windows.
        is_counted: Rows to list, `(rows,)`.
    """
    starts = find_starts(stands_out, holdoff_rows(windows.window, windows.slide)) & is_counted
    return [_make_episode(table, windows, host, row) for host, row in zip(*np.nonzero(starts), strict=True)]


def _make_episode(table, windows, host, row):
    start = table.times[row].item()
    return Episode(table.hosts[host], start, start + windows.window)


def choose_threshold(scores, budget, holdoff):
    """Return the lowest score down to which no more than `budget` episodes start; infinity if there is none.

    Where episodes join at still lower scores, there are fewer again, which is no reason to go on; and a score that more than half
    of the rows reach does not stand out.

    Args:
        scores: `(hosts, rows)`; NaN for rows that were not scored.
        budget: Number of episodes.
        holdoff: As for `find_starts`.
    """
    episodes, threshold = 0, np.inf
    for score, begun, joined in _list_changes(scores, holdoff):
        episodes += len(begun) - len(joined)
        if episodes > budget:
            break
        threshold = score
    return threshold


def _list_changes(scores, holdoff):
    """Yield each score above the median, from the highest down, with what changes if rows of that score stand out as well.

    That is where episodes start that did not before, and where those started that are now part of one before them: lists of
    `(host, row)`, all of the first before those of the second.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    is_scored = ranked > -np.inf
    if not is_scored.any():
        return
    hosts, rows = np.nonzero(is_scored & (ranked > np.median(ranked[is_scored])))
    values = ranked[hosts, rows]
    order = np.argsort(-values, kind="stable")
    by_host, begun, joined = {}, [], []
    for place, index in enumerate(order.tolist()):
        host, row = int(hosts[index]), int(rows[index])
        own = by_host.setdefault(host, [])
        position = bisect(own, row)
        before = own[position - 1] if position else -np.inf
        after = own[position] if position < len(own) else np.inf
        if row - before > holdoff:
            begun.append((host, row))
        if after - row <= holdoff < after - before:
            joined.append((host, after))
        own.insert(position, row)
        if place + 1 == len(order) or values[order[place + 1]] < values[index]:
            yield float(values[index]), begun, joined
            begun, joined = [], []


class _DayClock:
    """Times of the day of alerts, which are one event if each is at most the hold-off after the one before, past midnight too.

    Attributes:
        times: Seconds of the day, in order.
        gaps: How many are followed by none for longer than the hold-off.
    """

    def __init__(self, holdoff):
        self.holdoff, self.times, self.gaps = holdoff, [], 0

    @property
    def events(self):
        return max(1, self.gaps) if self.times else 0

    def add(self, time):
        position = bisect(self.times, time)
        self.gaps += self._count_new_gaps(position, time)
        self.times.insert(position, time)

    def remove(self, time):
        position = bisect_left(self.times, time)
        self.times.pop(position)
        self.gaps -= self._count_new_gaps(position, time)

    def _count_new_gaps(self, position, time):
        """Return how many more gaps there are with a time at a position than without."""
        if not self.times:
            return 0
        before, after = self.times[position - 1], self.times[position % len(self.times)]
        return self._is_gap(before, time) + self._is_gap(time, after) - self._is_gap(before, after)

    def _is_gap(self, before, after):
        return int((after - before) % DAY_SECONDS > self.holdoff)


class EventCounter:
    """Counts the distinct events of backgrounds that alerts are.

    Alerts of hosts of one background are one event if their windows begin at the same time of its day, or at most the hold-off
    after each other. An alert of no host of the scene, as of the whole site, is an event of its own.
    """

    def __init__(self, scene, windows):
        self.count = 0
        self._scene = scene
        self._holdoff = holdoff_rows(windows.window, windows.slide) * windows.slide
        self._clocks = {}

    def add(self, episode):
        self._change(episode, _DayClock.add, 1)

    def remove(self, episode):
        """Take back an alert that was added."""
        self._change(episode, _DayClock.remove, -1)

    def _change(self, episode, change, of_its_own):
        moment = self._scene.trace(episode.host, episode.start)
        if moment is None:
            self.count += of_its_own
            return
        source, time = moment
        clock = self._clocks.setdefault(source, _DayClock(self._holdoff))
        before = clock.events
        change(clock, time)
        self.count += clock.events - before


def count_events(episodes, scene, windows):
    """Return how many distinct events of backgrounds episodes are, as `EventCounter` counts."""
    counter = EventCounter(scene, windows)
    for episode in episodes:
        counter.add(episode)
    return counter.count


def choose_event_threshold(scores, budget, table, scene, windows, grace):
    """Return the lowest score down to which no more than `budget` distinct things are raised; infinity if there is none.

    Each episode of an attack is one of them, and each event of a background, as `EventCounter` counts it, that the others are.
    As for `choose_threshold`, what joins at still lower scores is no reason to go on.

    Args:
        scores: `(hosts, rows)` of the table; NaN for rows that were not scored.
        budget: Number of distinct things.
        table: The table.
        scene: The scene.
        windows: Its windows.
        grace: As for `judge`.
    """
    of_attacks, events, threshold = 0, EventCounter(scene, windows), np.inf
    for score, begun, joined in _list_changes(scores, holdoff_rows(windows.window, windows.slide)):
        for starts, change, sign in ((begun, events.add, 1), (joined, events.remove, -1)):
            for host, row in starts:
                episode = _make_episode(table, windows, host, row)
                if any(_relate_at_time(episode, attack, grace) is Relation.OF_IT for attack in scene.placements):
                    of_attacks += sign
                else:
                    change(episode)
        if of_attacks + events.count > budget:
            break
        threshold = score
    return threshold


def split_alerts(lines):
    """Return the episodes that the model raised, those that fixed rules raised, and the number of notices by code.

    Args:
        lines: Objects of the format `jsonl`. The window of a rule may be a day, so it begins with the first record it counted.
    """
    model, rules, notices = [], [], Counter()
    for line in lines:
        kind = line.get("kind")
        if kind == "notice":
            notices[line["code"]] += line["state"] == "raised"
        elif line["phase"] == "start":
            end = _to_seconds(line["window"]["end"])
            if kind == "rule":
                rules.append(_make_rule_episode(line, end))
            else:
                model.append(Episode(line["series"], _to_seconds(line["window"]["start"]), end))
    return model, rules, notices


def _make_rule_episode(line, end):
    groups = [entry["name"] for entry in line["top"]]
    named = {line["source_ip"], line["destination_ip"], line["group"], *groups, *line["examples"], *line["uids"]}
    names = frozenset(name for name in named if name and not name.isdecimal())  # a number is a port
    # of guessing from outside the examples are own hosts, those of the first group
    is_from_outside = line["source_ip"] != line["host"]
    names_all = not is_from_outside or (len(groups) < 2 and (line["host"] != SITE or len(line["examples"]) < MAX_EXAMPLES))
    return Episode(line["host"], _to_seconds(line["first"]), end, line["rule"], names - {line["host"], SITE}, names_all)


def _to_seconds(text):
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method raised on the last day at a budget.

    Attributes:
        method: Its name.
        budget: The budget, as a reader says it.
        delays: Seconds from the start of an attack to the end of the first window that raised an alert of it, by the index of
            the placement; attacks that were not found are not in it.
        false: Alerts of no attack.
        events: How many distinct events of backgrounds these are.
        allowed: How many false alerts the budget allows; None if it is none of false alerts.
        chance: How many attacks alerts as frequent as the false ones would find by chance.
    """

    method: str
    budget: str
    delays: dict
    false: tuple
    events: int
    allowed: float | None
    chance: float


def judge(method, budget, episodes, scene, windows, grace, per_day=None):
    """Tell the alerts of attacks from false ones.

    An attack is found by an alert of it whose first window overlaps it, or begins at most `grace` seconds after it. An alert at
    that time on a host that the attack reaches inside is neither.
    """
    start, end = scene.last_day
    counted = scene.counted_hosts
    delays, false = {}, []
    for episode in sorted(episodes, key=lambda each: each.end):
        if not start < episode.end <= end:
            continue
        relations = {
            number: relation
            for number, attack in enumerate(scene.placements)
            if (relation := _relate_at_time(episode, attack, grace)) is not Relation.NONE
        }
        for number, relation in relations.items():
            if relation is Relation.OF_IT:
                delays.setdefault(number, max(0.0, episode.end - scene.placements[number].start))
        if not relations and episode.concerns(counted):
            false.append(episode)
    allowed = None if per_day is None else per_day * len(counted)
    chance = _expect_by_chance(scene, episodes, false, grace)
    return Outcome(method, budget, delays, tuple(false), count_events(false, scene, windows), allowed, chance)


def _relate_at_time(episode, attack, grace):
    """Tell whether an alert is of an attack, and not one of another time."""
    is_at_time = episode.start < attack.end + grace and episode.end > attack.start
    return relate(episode, attack) if is_at_time else Relation.NONE


def relate(episode, attack):
    """Tell whether an alert at the time of an attack is of it.

    That of the model is if it is on the host. That of a rule says what it counted, so it must also name something of the attack:
    a peer, a domain or a record.
    """
    if not episode.rule:
        if episode.host == attack.host:
            return Relation.OF_IT
        return Relation.REACHED if episode.host in attack.others else Relation.NONE
    named = episode.names | {episode.host}
    has_record = any(name.startswith(attack.mark) for name in episode.names)
    if attack.host in named:
        rest = named - {attack.host, SITE}
        is_of_it = has_record or not rest or not rest.isdisjoint(attack.names) or not rest.isdisjoint(attack.others)
    else:
        is_of_it = not episode.names_all and (has_record or not named.isdisjoint(attack.names))
    if is_of_it:
        return Relation.OF_IT
    has_evidence = has_record or not named.isdisjoint(attack.names)
    return Relation.REACHED if has_evidence and not named.isdisjoint(attack.others) else Relation.NONE


def _expect_by_chance(scene, episodes, false, grace):
    """Return the expected number of attacks that alerts overlap by chance, with the false ones at random times.

    Alerts of rules name what they are of, so that none is right by chance.
    """
    windows = [episode.end - episode.start for episode in episodes if not episode.rule]
    window = float(np.mean(windows)) if windows else 0.0
    spans = [attack.end - attack.start + grace + window for attack in scene.placements]
    own = sum(span for attack, span in zip(scene.placements, spans, strict=True) if attack.host in scene.counted_hosts)
    rate = sum(not episode.rule for episode in false) / max(1.0, DAY_SECONDS * len(scene.counted_hosts) - own)
    return sum(1 - math.exp(-rate * span) for span in spans)


def is_free(scene, table, windows):
    """Return which rows of the last day no attack reaches, `(hosts, rows)`, on the hosts that count."""
    start, end = scene.last_day
    free = np.zeros((len(table.hosts), len(table.times)), dtype=bool)
    counted = scene.counted_hosts
    free[[host in counted for host in table.hosts]] = table.is_between(start, end)
    for attack in scene.placements:
        reached = table.is_between(attack.start - windows.window, attack.end + SETTLE_ROWS * windows.slide + windows.window)
        for host in {attack.host, *attack.others} & set(table.hosts):
            free[table.hosts.index(host)] &= ~reached
    return free


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often p-values were as small as a level.

    Attributes:
        method, group: What they are of.
        rows: Number of scored rows without an attack.
        observed: Number of those with a p-value at or below each of `LEVELS`.
    """

    method: str
    group: str
    rows: int
    observed: tuple


def calibrate(method, p_values, scene, table, free):
    """Return the calibration of p-values, `(hosts, rows)`, by group."""
    results = []
    for group in sorted(set(scene.groups.values())):
        of_group = np.array([scene.groups[host] == group for host in table.hosts])
        chosen = p_values[of_group][free[of_group]]
        chosen = chosen[~np.isnan(chosen)]
        if len(chosen):
            results.append(Calibration(method, group, len(chosen), tuple(int((chosen <= level).sum()) for level in LEVELS)))
    return results
