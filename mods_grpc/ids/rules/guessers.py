"""Remembers who guessed passwords, for log-ins long after the guessing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.ids.rules.counter import Total

MEMORY_SECONDS = 86_400
"""How long an address that reached the threshold is remembered after it last tried. Not published."""
MAX_GUESSERS = 4_096


@dataclass(frozen=True, slots=True)
class _Guesser:
    """What an address counted at most in a window, when it reached the threshold, and when last; nanoseconds since 1970."""

    count: int
    crossed_ns: int
    last_ns: int
    first_ns: int


class Guessers:
    """The addresses that reached the threshold of a rule that needs a mark."""

    def __init__(self) -> None:
        self._by_group: dict[str, _Guesser] = {}

    def add(self, totals: Iterable[Total], ns: int) -> None:
        """Note what reached the threshold in the window that ends at a time; times never decrease."""
        for total in totals:
            if total.crossed_ns is None:
                continue
            before = self._by_group.get(total.group)
            if before is None:
                self._by_group[total.group] = _Guesser(total.amount, total.crossed_ns, ns, total.first_ns)
            else:
                self._by_group[total.group] = replace(before, count=max(before.count, total.amount), last_ns=ns)
        horizon = ns - MEMORY_SECONDS * NANOS_PER_SECOND
        left = {group: guesser for group, guesser in self._by_group.items() if guesser.last_ns > horizon}
        if len(left) > MAX_GUESSERS:
            newest = sorted(left, key=lambda group: (-left[group].last_ns, -left[group].count, group))[:MAX_GUESSERS]
            left = {group: left[group] for group in newest}
        self._by_group = left

    def judge(self, total: Total) -> Total | None:
        """Return what a log-in counts if it came after its address had reached the threshold; None if not."""
        if total.last_mark is None:
            return None
        guesser = self._by_group.get(total.group)
        if guesser is None or total.last_mark[0] <= guesser.crossed_ns:
            return None
        if total.crossed_ns is not None and total.last_mark[0] > total.crossed_ns:
            return total
        return replace(total, count=guesser.count, is_capped=False, first_ns=guesser.first_ns)

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {group: [each.count, each.crossed_ns, each.last_ns, each.first_ns] for group, each in self._by_group.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._by_group = {str(group): _Guesser(*map(int, saved)) for group, saved in state.items()}
