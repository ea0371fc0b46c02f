"""ArcSight's Common Event Format, CEF:0; also used as the message of a syslog line."""

import re

from mods_grpc.ids.alerts.alert import PRODUCT, Alert, AlertPhase, Severity, format_features, format_headline, replace_surrogates
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice, NoticeState, format_notice_headline
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_evidence, format_rule_headline
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
    model = alert.model
    return [
        ("rt", _format_milliseconds(alert.window_end.timestamp())),
        ("start", _format_milliseconds(alert.window_start.timestamp())),
        ("end", _format_milliseconds(alert.window_end.timestamp())),
        ("externalId", alert.id),
        ("cat", "anomaly"),
        ("deviceExternalId", alert.sensor),
        ("src", alert.address or ""),
        ("msg", format_headline(alert)),
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
