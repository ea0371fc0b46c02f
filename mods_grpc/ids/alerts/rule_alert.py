"""An alert of a fixed rule: a host counted up to a published threshold, with the evidence."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mods_grpc.ids.alerts.alert import AlertPhase, Severity, derive_uuid, format_time

_SPANS = ((3_600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleAlert:
    """One alert of a rule: the start of an episode, or its end. The same episode gives the same alerts with the same ids.

    Attributes:
        sensor: Namespace of the hosts.
        host: Address of the own host that is concerned; `site` for several together.
        group: What was counted for: a port, a peer or a domain; empty where there is one count per host.
        rule: Name of the rule, such as `host-scan`.
        phase: START or END of the episode.
        severity: Severity of the rule.
        source_ip: Address that did it: the host, or of guessing from outside a remote one.
        destination_ip: Address to which it was done; None for several, or where it is not known.
        destination_port: The destination's port; None for several, or where it is not known.
        what: What the rule finds, such as `scan of hosts`.
        counted: What was counted, such as `hosts that did not answer on port 445`.
        count: How many, or how much; at the end of an episode its peak. At least so many if `is_capped`.
        is_capped: Whether counting stopped there.
        threshold: Number from which on the rule raises an alert.
        source: Who published the threshold.
        window_start, window_end: The time over which was counted, UTC, half open.
        episode_start: End of the first window that reached the threshold, UTC.
        first: Time of the first record that was counted, UTC.
        top: What was counted most, with its numbers, the largest first: ports, peers or domains.
        examples: Some of what was counted: hosts, ports or names.
        uids: Zeek's uids, or Suricata's flow ids, of the first records that were counted.
    """

    sensor: str
    host: str
    group: str = ""
    rule: str
    phase: AlertPhase
    severity: Severity
    source_ip: str
    destination_ip: str | None = None
    destination_port: int | None = None
    what: str
    counted: str
    count: int
    is_capped: bool = False
    threshold: int
    source: str
    window_start: datetime
    window_end: datetime
    episode_start: datetime
    first: datetime
    top: tuple[tuple[str, int], ...] = ()
    examples: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """UUID derived from the rule, the host, the group and the episode."""
        return self._derive_id(self.phase)

    @property
    def parent_id(self) -> str | None:
        """UUID of the alert whose episode this one ends; None for a start."""
        return self._derive_id(AlertPhase.START) if self.phase is AlertPhase.END else None

    @property
    def time(self) -> datetime:
        """End of the window."""
        return self.window_end

    @property
    def kind(self) -> str:
        """Short name of the message, such as `rule-start`."""
        return f"rule-{self.phase}"

    @property
    def episode_id(self) -> str:
        """Name of the episode, unique within sensor, rule, host and group."""
        return self.episode_start.strftime("%Y%m%dT%H%M%SZ")

    @property
    def window_seconds(self) -> float:
        """Length of the window."""
        return (self.window_end - self.window_start).total_seconds()

    def _derive_id(self, phase: AlertPhase) -> str:
        return derive_uuid("rule", self.sensor, self.rule, self.host, self.group, self.episode_id, phase)


def format_rule_headline(alert: RuleAlert) -> str:
    """Write host, finding, number and threshold on one line."""
    count = f"{alert.count:,}{' or more' if alert.is_capped else ''} {alert.counted}"
    if alert.phase is AlertPhase.END:
        return f"{alert.host}: {alert.what} since {format_time(alert.episode_start)} is over, at its peak {count}"
    span = _format_span(alert.window_seconds)
    return f"{alert.host}: {alert.what}, {count} within {span}, threshold {alert.threshold:,} ({alert.source})"


def format_rule_evidence(alert: RuleAlert) -> str:
    """Write what was counted most, and examples, on one line."""
    top = ", ".join(f"{name} {number:,}" for name, number in alert.top if name)
    examples = ", ".join(alert.examples)
    return "; ".join(part for part in (top, f"such as {examples}" if examples else "") if part)


def rule_alert_to_json(alert: RuleAlert) -> dict[str, Any]:
    """Return an alert of a rule as values for JSON."""
    return {
        "id": alert.id,
        "kind": "rule",
        "rule": alert.rule,
        "phase": str(alert.phase),
        "severity": alert.severity.name.lower(),
        "sensor": alert.sensor,
        "host": alert.host,
        "group": alert.group,
        "source_ip": alert.source_ip,
        "destination_ip": alert.destination_ip,
        "destination_port": alert.destination_port,
        "reason": format_rule_headline(alert),
        "what": alert.what,
        "counted": alert.counted,
        "count": alert.count,
        "is_capped": alert.is_capped,
        "threshold": alert.threshold,
        "source": alert.source,
        "window": {"start": format_time(alert.window_start), "end": format_time(alert.window_end)},
        "episode": {"id": alert.episode_id, "start": format_time(alert.episode_start)},
        "first": format_time(alert.first),
        "top": [{"name": name, "count": number} for name, number in alert.top],
        "examples": list(alert.examples),
        "uids": list(alert.uids),
    }


def rule_alert_from_json(saved: dict[str, Any]) -> RuleAlert:
    """Return the alert that `rule_alert_to_json` described."""
    return RuleAlert(
        sensor=saved["sensor"],
        host=saved["host"],
        group=saved["group"],
        source_ip=saved["source_ip"],
        destination_ip=saved["destination_ip"],
        destination_port=saved["destination_port"],
        rule=saved["rule"],
        phase=AlertPhase(saved["phase"]),
        severity=Severity[saved["severity"].upper()],
        what=saved["what"],
        counted=saved["counted"],
        count=saved["count"],
        is_capped=saved["is_capped"],
        threshold=saved["threshold"],
        source=saved["source"],
        window_start=datetime.fromisoformat(saved["window"]["start"]),
        window_end=datetime.fromisoformat(saved["window"]["end"]),
        episode_start=datetime.fromisoformat(saved["episode"]["start"]),
        first=datetime.fromisoformat(saved["first"]),
        top=tuple((entry["name"], entry["count"]) for entry in saved["top"]),
        examples=tuple(saved["examples"]),
        uids=tuple(saved["uids"]),
    )


def _format_span(seconds: float) -> str:
    length, unit = next((length, unit) for length, unit in _SPANS if seconds >= length or length == 1.0)
    return f"{seconds / length:g} {unit}"
