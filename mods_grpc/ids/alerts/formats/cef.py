"""ArcSight's Common Event Format, CEF:0; also used as the message of a syslog line."""

import re

from mods_grpc.ids.alerts.alert import PRODUCT, Alert, AlertPhase, Severity, format_features, format_headline, replace_surrogates
from mods_grpc.ids.alerts.formats.endpoints import find_dominant, find_endpoints, find_url
from mods_grpc.ids.alerts.formats.evidence_text import format_evidence, format_members, leading_count
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice, NoticeState, format_notice_headline
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_evidence, format_rule_headline
from mods_grpc.ids.evidence.evidence import Dimension
from mods_grpc.version import __version__

# Low, medium, high and very high in the specification.
SEVERITY = {Severity.LOW: 3, Severity.MEDIUM: 5, Severity.HIGH: 8, Severity.CRITICAL: 10}
_NAMES = {
    AlertPhase.START: "Traffic anomaly",
    AlertPhase.UPDATE: "Traffic anomaly grew",
    AlertPhase.END: "Traffic anomaly ended",
}
_NOTICE_NAMES = {NoticeState.RAISED: "Monitoring impaired", NoticeState.CLEARED: "Monitoring restored"}
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")


def format_cef(alert: Alert) -> str:
    """Return an alert as a CEF line."""
    return _format_line(alert, _NAMES[alert.phase], _extension(alert))


def format_cef_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as a CEF line."""
    ended = " ended" if alert.phase is AlertPhase.END else ""
    extension = [
        ("rt", _format_milliseconds(alert.window_end.timestamp())),
        ("start", _format_milliseconds(alert.window_start.timestamp())),
        ("end", _format_milliseconds(alert.window_end.timestamp())),
        ("externalId", alert.id),
        ("cat", "rule"),
        ("deviceExternalId", alert.sensor),
        ("src", alert.source_ip),
        ("dst", alert.destination_ip or ""),
        ("dpt", "" if alert.destination_port is None else str(alert.destination_port)),
        ("msg", format_rule_headline(alert)),
        ("cn1", str(alert.count)),
        ("cn1Label", "count"),
        ("cn2", str(alert.threshold)),
        ("cn2Label", "threshold"),
        ("cs1", alert.rule),
        ("cs1Label", "rule"),
        ("cs2", alert.episode_id),
        ("cs2Label", "episode"),
        ("cs3", alert.source),
        ("cs3Label", "source"),
        ("cs4", ", ".join(alert.uids)),
        ("cs4Label", "uids" if alert.uids else ""),
        ("cs5", format_rule_evidence(alert)),
        ("cs5Label", "evidence"),
    ]
    return _format_line(alert, f"{alert.what[:1].upper()}{alert.what[1:]}{ended}", extension)


def format_cef_notice(notice: Notice) -> str:
    """Return a notice as a CEF line."""
    extension = [
        ("rt", _format_milliseconds(notice.time.timestamp())),
        ("start", _format_milliseconds(notice.since.timestamp())),
        ("externalId", notice.id),
        ("cat", "monitoring"),
        ("deviceExternalId", notice.sensor),
        ("msg", format_notice_headline(notice)),
        ("reason", notice.code),
        ("cs1", notice.subject),
        ("cs1Label", "subject" if notice.subject else ""),
    ]
    return _format_line(notice, _NOTICE_NAMES[notice.state], extension)


def _format_line(item: AlertOrNotice, name: str, extension: list[tuple[str, str]]) -> str:
    header = (PRODUCT, PRODUCT, __version__, item.kind, name, str(SEVERITY[item.severity]))
    pairs = " ".join(f"{key}={_escape_value(value)}" for key, value in extension if value)
    return "|".join(["CEF:0", *map(_escape_header, header), pairs])


def _extension(alert: Alert) -> list[tuple[str, str]]:
    model, rank, members = alert.model, alert.rank, format_members(alert)
    return [
        ("rt", _format_milliseconds(alert.window_end.timestamp())),
        ("start", _format_milliseconds(alert.window_start.timestamp())),
        ("end", _format_milliseconds(alert.window_end.timestamp())),
        ("externalId", alert.id),
        ("cat", "anomaly"),
        ("deviceExternalId", alert.sensor),
        *_endpoint_fields(alert),
        ("msg", format_headline(alert)),
        ("reason", str(alert.trigger)),
        ("cfp1", f"{alert.score:.4f}"),
        ("cfp1Label", "score"),
        ("cfp2", f"{alert.p_value:.6g}"),
        ("cfp2Label", "pValue"),
        ("cfp3", f"{alert.false_alarms_per_day:.6g}"),
        ("cfp3Label", "falseAlarmsPerDay"),
        ("cs1", alert.series),
        ("cs1Label", "series"),
        ("cs2", alert.episode_id),
        ("cs2Label", "episode"),
        ("cs3", "" if model is None else f"{model.name}/{model.version}"),
        ("cs3Label", "" if model is None else "model"),
        ("cs4", "" if model is None else model.digest),
        ("cs4Label", "" if model is None else "modelDigest"),
        ("cs5", format_features(alert)),
        ("cs5Label", "features" if alert.features else ""),
        ("cs6", format_evidence(alert)),
        ("cs6Label", "evidence" if format_evidence(alert) else ""),
        ("cn1", "" if rank is None else str(rank.position)),
        ("cn1Label", "" if rank is None else "rank"),
        ("cn2", "" if rank is None else str(rank.total)),
        ("cn2Label", "" if rank is None else "rankedAlerts"),
        ("cn3", str(alert.member_count) if members else ""),
        ("cn3Label", "memberCount" if members else ""),
        ("flexString1", alert.parent_id or ""),
        ("flexString1Label", "parent" if alert.parent_id else ""),
        ("flexString2", members),
        ("flexString2Label", "members" if members else ""),
    ]


def _endpoint_fields(alert: Alert) -> list[tuple[str, str]]:
    """Return who sent what to whom, where one value of each stands for the alert; what is not known is empty."""
    ends, evidence, count = find_endpoints(alert), alert.evidence, leading_count(alert)
    host = find_dominant(evidence, Dimension.HOST) or find_dominant(evidence, Dimension.SERVER_NAME)
    return [
        ("src", ends.source or ""),
        ("dst", ends.destination or ""),
        ("dpt", "" if ends.port is None else str(ends.port)),
        ("proto", "" if ends.transport is None else ends.transport.upper()),
        ("deviceDirection", {"in": "0", "out": "1"}.get(ends.direction, "")),
        ("app", find_dominant(evidence, Dimension.SERVICE) or ""),
        ("dhost", host or ""),
        ("destinationDnsDomain", find_dominant(evidence, Dimension.DOMAIN) or ""),
        ("request", find_url(evidence) or ""),
        ("requestMethod", find_dominant(evidence, Dimension.METHOD) or ""),
        ("requestClientApplication", find_dominant(evidence, Dimension.USER_AGENT) or ""),
        ("cnt", "" if count is None else str(count)),
    ]


def _format_milliseconds(seconds: float) -> str:
    return str(round(seconds * 1_000))


def _escape_header(value: str) -> str:
    """Escape a header field; line breaks, which it can't have, become spaces."""
    return _escape_unprintable(_LINE_BREAK.sub(" ", value).replace("\\", "\\\\").replace("|", "\\|"))


def _escape_value(value: str) -> str:
    r"""Escape the value of an extension: backslash, equals sign, and line breaks as \n."""
    return _escape_unprintable(_LINE_BREAK.sub("\n", value).replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n"))


def _escape_unprintable(value: str) -> str:
    """Write characters that are not printable as escaped bytes."""
    return "".join(c if c.isprintable() else "".join(f"\\\\x{b:02x}" for b in c.encode()) for c in replace_surrogates(value))
