"""Findings about the fixed rules: own hosts that they had no room for."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.health.findings import HOUR_SECONDS, Finding

OVER_LIMIT_SECONDS = HOUR_SECONDS  # how long a rule must have had room before that is no finding any more


@dataclass(kw_only=True, slots=True)
class _Dropped:
    """Hosts that a rule dropped: their number, when it dropped the first, and seconds since the last."""

    number: int
    since_ns: int
    age: float = 0.0


class RuleFindings:
    """Follows the own hosts that fixed rules drop because there are more than they have room for."""

    def __init__(self) -> None:
        self._dropped: dict[str, _Dropped] = {}
        self._before: dict[str, int] = {}

    def observe(self, now_ns: int, elapsed_seconds: float, facts: ReadFacts) -> None:
        """Take note of what was read; arguments as of `LogFindings.observe`."""
        for dropped in self._dropped.values():
            dropped.age += elapsed_seconds
        for rule, number in facts.rules_over_limit.items():
            before = self._before.get(rule, 0)
            new = number - before if number >= before else number  # less: the rule was off, and began anew
            if new:
                dropped = self._dropped.setdefault(rule, _Dropped(number=0, since_ns=now_ns))
                dropped.number, dropped.age = dropped.number + new, 0.0
        self._before = dict(facts.rules_over_limit)
        self._dropped = {rule: dropped for rule, dropped in self._dropped.items() if dropped.age < OVER_LIMIT_SECONDS}

    def find(self) -> Iterator[Finding]:
        """Yield the findings of now."""
        for rule, dropped in self._dropped.items():
            yield Finding(
                code=NoticeCode.RULES_OVER_LIMIT,
                subject=rule,
                since_ns=dropped.since_ns,
                message=f"the fixed rule {rule} dropped own hosts {dropped.number:,} times, those with the smallest counts, "
                "because it has no room for more",
                hint="see whether so many addresses are own hosts (--local), or are forged",
            )

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {"dropped": {rule: asdict(dropped) for rule, dropped in self._dropped.items()}, "before": dict(self._before)}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._dropped = {rule: _Dropped(**dropped) for rule, dropped in state["dropped"].items()}
        self._before = {rule: int(number) for rule, number in state["before"].items()}
