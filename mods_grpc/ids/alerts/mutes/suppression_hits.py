"""How often each rule of suppression muted something."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_GONE = 1_000
"""Rules that are not in the file any more and whose hits are still saved."""


@dataclass(kw_only=True, slots=True)
class RuleHits:
    """Of one rule: how often it muted something, since when it is watched, and when last; times in UTC."""

    number: int = 0
    since: datetime
    last: datetime | None = None


class SuppressionHits:
    """The hits of all rules, by name. Counts the anomalous windows that a rule muted, and the alerts of fixed rules.

    They outlive a change of the rules: the hits of a rule whose name stays go on.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, RuleHits] = {}
        self._last: tuple[str, ...] = ()

    def count(self, name: str, when: datetime, *subject: str) -> None:
        """Count what a rule muted.

        Args:
            name: The rule.
            when: Time of what was muted.
            subject: What it was; the same one is counted once, however often it is asked for in a row.
        """
        key = (name, when.isoformat(), *subject)
        if subject and key == self._last:
            return
        self._last = key
        hits = self._by_name.setdefault(name, RuleHits(since=when))
        hits.number += 1
        hits.last = when if hits.last is None else max(hits.last, when)

    def watch(self, names: Collection[str], now: datetime) -> None:
        """Take note of the rules that there are now. Forgets those that have long gone, if there are many."""
        for name in names:
            self._by_name.setdefault(name, RuleHits(since=now))
        gone = [name for name in self._by_name if name not in names]
        for name in gone[: max(0, len(gone) - MAX_GONE)]:
            del self._by_name[name]

    def numbers(self) -> dict[str, int]:
        """Return how often each rule muted something."""
        return {name: hits.number for name, hits in list(self._by_name.items())}  # metrics ask from another thread

    def since(self, name: str) -> datetime | None:
        """Return since when a rule that never muted anything is watched; None if it did, or is not watched."""
        hits = self._by_name.get(name)
        return hits.since if hits is not None and hits.number == 0 else None

    def state(self) -> dict[str, Any]:
        """Return the hits as values for JSON."""
        return {
            name: [hits.number, hits.since.isoformat(), None if hits.last is None else hits.last.isoformat()]
            for name, hits in self._by_name.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add what `state` returned; hits since then stay."""
        for name, (number, since, last) in state.items():
            hits = self._by_name.setdefault(name, RuleHits(since=datetime.fromisoformat(since)))
            hits.number += int(number)
            hits.since = min(hits.since, datetime.fromisoformat(since))
            if last is not None:
                hits.last = max(datetime.fromisoformat(last), hits.last or datetime.fromisoformat(last))
