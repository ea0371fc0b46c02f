"""Counts the alerts of rules that were held back: muted by `[[rule]]`, or because what they are about says nothing."""

from collections import Counter
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Any

from mods_grpc.ids.rules.rule import Rule


class HeldReason(StrEnum):
    """Why a group that reached the threshold of a rule raises no alert."""

    MUTED = "muted"  # by `[[rule]]` of the suppression
    LEARNING = "learning"  # not watched for long enough to say whether own hosts are exposed
    EXPOSED = "exposed"  # too many others do the same to own hosts


class HeldBack:
    """Follows the groups that reach a threshold and raise no alert.

    What one host counts for a group is counted once, until a window of the rule has passed in which the group did not reach the
    threshold. The new ones of a pane count as as many alerts as they would have raised.

    Attributes:
        alerts: Number of alerts that were held back, by reason and name of the rule.
    """

    def __init__(self) -> None:
        self.alerts: Counter[tuple[HeldReason, str]] = Counter()
        self._last_ns: dict[tuple[HeldReason, str], dict[tuple[str, str], int]] = {}  # end of the last window, by host and group

    def forget(self, rule: Rule, end_ns: int) -> None:
        """Forget the groups of a rule that were not held back for a window, which ends at a time; call it before `add`."""
        for reason in HeldReason:
            if last_ns := self._last_ns.get((reason, rule.name)):
                left = {key: last for key, last in last_ns.items() if last > end_ns - rule.window_ns}
                self._last_ns[reason, rule.name] = left

    def add(
        self, rule: Rule, host: str, groups: Iterable[str], reason: HeldReason, end_ns: int, *, raised: Collection[str] = ()
    ) -> list[str]:
        """Take note of groups that are held back.

        Args:
            rule: The rule.
            host: The own host, or `SITE`.
            groups: The groups.
            reason: Why.
            end_ns: End of the window, nanoseconds since 1970; times never decrease.
            raised: Groups that already have an alert, which are not counted.

        Returns:
            The groups that were not held back before and are counted.
        """
        last_ns = self._last_ns.setdefault((reason, rule.name), {})
        new = []
        for group in groups:
            if (host, group) not in last_ns and group not in raised:
                new.append(group)
            last_ns[host, group] = end_ns
        if new:
            self.alerts[reason, rule.name] += -(-len(new) // rule.groups_per_alert)
        return new

    def by_rule(self, reason: HeldReason) -> dict[str, int]:
        """Return the number of alerts that were held back for a reason, by rule."""
        return {name: number for (why, name), number in self.alerts.items() if why is reason}

    def state(self) -> list[Any]:
        """Return what is held back now as values for JSON."""
        return [
            [str(reason), name, [[*key, last] for key, last in last_ns.items()]]
            for (reason, name), last_ns in self._last_ns.items()
            if last_ns
        ]

    def restore(self, state: list[Any]) -> None:
        """Replace what is held back by what `state` returned."""
        self._last_ns = {
            (HeldReason(reason), str(name)): {(str(host), str(group)): int(last) for host, group, last in saved}
            for reason, name, saved in state
        }
