"""Counts of one rule: by own host and group in panes of event time, and over the last panes of a window.

A pane is open until all its records have come, so that the order of records within the allowed lateness changes nothing, as long
as a host has at most twice `Rule.max_groups` groups, and the rule twice `MAX_HOSTS` hosts and `MAX_BYTES`; beyond that the
smallest go. Closed panes are packed for the state once.
"""

import base64
import json
import zlib
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.ids.rules.group_count import GROUP_BYTES, MAX_UIDS, GroupCount, collect_rows, iterate_rows
from mods_grpc.ids.rules.rule import Counting, Observation, Rule

MAX_HOSTS = 20_000
"""Own hosts of a rule per pane; of more the smallest are dropped and counted."""
MAX_BYTES = 800_000_000
"""About what an open pane of a rule may take, and its closed ones together; beyond it the smallest hosts go and are counted."""

_Hosts = dict[str, dict[str, GroupCount]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """What was counted for one host and group in a window; attributes as of `GroupCount`.

    Attributes:
        count: What counts: of a rule that needs a mark, what came before the last one.
        amount: The sum, with what came after it.
        crossed_ns: When what needs a mark reached the threshold; None if it did not.
    """

    group: str
    count: int
    amount: int
    is_capped: bool
    last_mark: tuple[int, str] | None
    crossed_ns: int | None
    examples: tuple[str, ...]
    first_ns: int
    uids: tuple[str, ...]


class RuleCounter:
    """Counts what a rule observes.

    Args:
        rule: The rule.
        max_bytes: About what an open pane may take, and the closed ones together.

    Attributes:
        first_open: Observations before this pane are late; None before the first pane was closed.
        over_limit: Own hosts that were dropped in a pane, because there were more than the rule has room for.
    """

    def __init__(self, rule: Rule, *, max_bytes: int = MAX_BYTES) -> None:
        self.rule = rule
        self._max_bytes = max_bytes
        self.pane_ns = rule.window_seconds * NANOS_PER_SECOND // rule.panes
        self.first_open: int | None = None
        self.over_limit = 0
        self._open: dict[int, _Hosts] = {}
        self._open_bytes: dict[int, int] = {}
        self._closed: dict[int, _Hosts] = {}
        self._closed_bytes: dict[int, int] = {}
        self._packed: dict[int, str] = {}  # closed panes as the state has them

    def add(self, observation: Observation, logged_ns: int, ts: int, uid: str | None) -> bool:
        """Count an observation; return False if it is late.

        Args:
            observation: The observation.
            logged_ns: When its record was logged, nanoseconds since 1970.
            ts: Time of the record.
            uid: Uid of the record.
        """
        pane = logged_ns // self.pane_ns
        if self.first_open is not None and pane < self.first_open:
            return False
        hosts = self._open.setdefault(pane, {})
        groups = hosts.setdefault(observation.host, {})
        group_count = groups.get(observation.group)
        if group_count is not None:
            grown = group_count.add(observation, ts, uid, self.rule)
        else:
            grown = GROUP_BYTES
            if len(groups) >= 2 * self.rule.max_groups:
                grown -= _shorten(groups, self.rule)
            group_count = groups[observation.group] = GroupCount(observation, ts, uid)
        if self.rule.needs_mark:
            _add_time(group_count, observation, ts, self.rule.max_times)
        if grown:
            self._open_bytes[pane] = self._open_bytes.get(pane, 0) + grown
            if len(hosts) > 2 * MAX_HOSTS or self._open_bytes[pane] > self._max_bytes:
                self._drop_hosts(hosts, self._max_bytes // 2)
                self._open_bytes[pane] = _sum_bytes(hosts)
        return True

    def panes_to_close(self, first_open: int, *, has_episodes: Callable[[], bool]) -> Iterator[int]:
        """Yield the panes before one that change something, in order; close each before the next.

        Args:
            first_open: The first pane that stays open.
            has_episodes: Returns whether an episode is open, which every pane may end.
        """
        pane = min(self._open, default=first_open) if self.first_open is None else self.first_open
        while pane < first_open:
            if not (self._closed or has_episodes()):
                pane = min(min(self._open, default=first_open), first_open)
                if pane == first_open:
                    break
            yield pane
            pane += 1
        if self.first_open is None or first_open > self.first_open:
            self.first_open = first_open

    def close(self, pane: int) -> list[str]:
        """Close a pane; return the hosts that were observed in it."""
        minimum, counting = self.rule.min_pane_count, self.rule.counting
        hosts = self._open.pop(pane, {})
        self._open_bytes.pop(pane, None)
        large_by_host: _Hosts = {}
        for host, groups in hosts.items():
            large = {g: each for g, each in groups.items() if each.last_mark is not None or each.size(counting) >= minimum}
            if len(large) > self.rule.max_groups:
                _shorten(large, self.rule)
            for group_count in large.values():
                group_count.close()
            if large:
                large_by_host[host] = large
        if len(large_by_host) > MAX_HOSTS:
            self._drop_hosts(large_by_host, self._max_bytes)
        for each in (self._closed, self._closed_bytes, self._packed):
            each.pop(pane - self.rule.panes, None)
        if large_by_host:
            self._closed[pane], self._closed_bytes[pane] = large_by_host, _sum_bytes(large_by_host)
            self._fit_closed()
        self.first_open = pane + 1
        return list(large_by_host)

    def _fit_closed(self) -> None:
        """Drop the smallest hosts of the largest panes until the closed ones fit."""
        while sum(self._closed_bytes.values()) > self._max_bytes:
            largest = max(self._closed_bytes, key=lambda pane: (self._closed_bytes[pane], pane))
            hosts = self._closed[largest]
            if len(hosts) == 1:
                return
            self._drop_hosts(hosts, self._closed_bytes[largest] // 2)
            self._closed_bytes[largest] = _sum_bytes(hosts)
            self._packed.pop(largest, None)

    def _drop_hosts(self, hosts: _Hosts, limit: int) -> None:
        """Drop the hosts with the smallest counts until a pane has at most `MAX_HOSTS` and takes at most a number of bytes."""
        rule = self.rule
        order = sorted(hosts, key=lambda host: (min(_rank(each, rule) for each in hosts[host].values()), host))
        taken, number_left = 0, 0
        for host in order:
            taken += _sum_bytes({host: hosts[host]})
            if number_left and (number_left >= MAX_HOSTS or taken > limit):
                del hosts[host]
                self.over_limit += 1
            else:
                number_left += 1

    def totals(self, host: str) -> list[Total]:
        """Return what was counted for a host in the window that ends with the last closed pane, the largest first."""
        group_counts: dict[str, list[GroupCount]] = {}
        for pane in self.panes():
            for group, group_count in self._closed[pane].get(host, {}).items():
                group_counts.setdefault(group, []).append(group_count)
        totals = [self._sum(group, of_group) for group, of_group in group_counts.items()]
        return sorted(totals, key=lambda total: (-total.count, total.group))

    def panes(self) -> list[int]:
        """Return the closed panes of the window in which anything was counted, in order."""
        return sorted(self._closed)

    def total_of(self, host: str, group: str, panes: Collection[int]) -> Total | None:
        """Return what was counted for a host and group in some of the closed panes; None if nothing was."""
        of_host = [self._closed[pane].get(host, {}) for pane in panes]
        group_counts = [groups[group] for groups in of_host if group in groups]
        return self._sum(group, group_counts) if group_counts else None

    def groups_of_pane(self, pane: int) -> set[str]:
        """Return the groups of all hosts in a closed pane."""
        return {group for groups in self._closed.get(pane, {}).values() for group in groups}

    def _sum(self, group: str, group_counts: list[GroupCount]) -> Total:
        is_distinct = self.rule.counting is Counting.DISTINCT
        amount = sum(group_count.amount for group_count in group_counts)
        number = len({hashed for each in group_counts for hashed in each.hashes}) if is_distinct else amount
        limit = self.rule.max_values
        is_capped = is_distinct and any(group_count.size(Counting.DISTINCT) >= limit for group_count in group_counts)
        last_mark, crossed_ns = None, None
        if self.rule.needs_mark:
            times = sorted(time for group_count in group_counts for time in group_count.times or ())
            if len(times) >= self.rule.threshold:
                crossed_ns = times[self.rule.threshold - 1]
            last_mark = max((each.last_mark for each in group_counts if each.last_mark is not None), default=None)
            if last_mark is not None:
                number = bisect_left(times, last_mark[0])
                is_capped = number == len(times) < amount
        uids = sorted(uid for group_count in group_counts for uid in group_count.uids)[:MAX_UIDS]
        return Total(
            group=group,
            count=min(number, limit) if is_capped and is_distinct else number,
            amount=amount,
            is_capped=is_capped,
            last_mark=last_mark,
            crossed_ns=crossed_ns,
            examples=tuple(sorted({value for each in group_counts for value in each.examples})[: self.rule.max_examples]),
            first_ns=min(group_count.first_ns for group_count in group_counts),
            uids=tuple(dict.fromkeys(uid for _, uid in uids)),
        )

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON; the counts are compressed, those of a closed pane once."""
        for pane, hosts in self._closed.items():
            if pane not in self._packed:
                self._packed[pane] = _pack({pane: hosts})
        return {
            "first_open": self.first_open,
            "over_limit": self.over_limit,
            "open": _pack(self._open),
            "closed": list(self._packed.values()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self.first_open = None if state["first_open"] is None else int(state["first_open"])
        self.over_limit = int(state["over_limit"])
        self._open, self._closed, self._packed = _unpack(state["open"]), {}, {}
        for packed in state["closed"]:
            for pane, hosts in _unpack(packed).items():
                self._closed[pane], self._packed[pane] = hosts, packed
        self._open_bytes = {pane: _sum_bytes(hosts) for pane, hosts in self._open.items()}
        self._closed_bytes = {pane: _sum_bytes(hosts) for pane, hosts in self._closed.items()}


def _add_time(group_count: GroupCount, observation: Observation, ts: int, max_times: int) -> None:
    """Note when an observation of a rule that needs a mark was made."""
    if observation.is_marked:
        group_count.last_mark = max(group_count.last_mark or (ts, ""), (ts, observation.value))
        return
    times = group_count.times = group_count.times or []
    for _ in range(min(observation.amount, max_times)):
        insort(times, ts)
    del times[max_times:]


def _rank(group_count: GroupCount, rule: Rule) -> tuple[bool, int]:
    """Return what comes first when there is no room for all: what is marked, then the largest."""
    return (group_count.last_mark is None, -group_count.size(rule.counting))


def _shorten(groups: dict[str, GroupCount], rule: Rule) -> int:
    """Drop the smallest groups beyond the limit; return about how many bytes they took."""
    order = sorted(groups, key=lambda group: (*_rank(groups[group], rule), group))
    return sum(groups.pop(group).memory_bytes() for group in order[rule.max_groups :])


def _sum_bytes(hosts: _Hosts) -> int:
    return sum(each.memory_bytes() for groups in hosts.values() for each in groups.values())


def _pack(panes: dict[int, _Hosts]) -> str:
    text = json.dumps(list(iterate_rows(panes)), separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"), level=1)).decode()


def _unpack(packed: str) -> dict[int, _Hosts]:
    return collect_rows(json.loads(zlib.decompress(base64.b64decode(packed)).decode("utf-8", "surrogatepass")))
