"""ArcSight's Common Event Format, CEF:0, on its own or as the message of a syslog line."""

import re

from mods_grpc import __version__
from mods_grpc.ids.alerts.alert import PRODUCT, Alert, AlertPhase, Severity, feature_table, headline, well_formed

# What the specification calls low, medium, high and very high.
SEVERITY = {Severity.LOW: 3, Severity.MEDIUM: 5, Severity.HIGH: 8, Severity.CRITICAL: 10}
_NAMES = {
    AlertPhase.START: "Traffic anomaly",
    AlertPhase.UPDATE: "Traffic anomaly grew",
    AlertPhase.END: "Traffic anomaly ended",
}
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")


def line(alert: Alert) -> str:
    """Write an alert."""
    header = (PRODUCT, PRODUCT, __version__, f"anomaly-{alert.phase}", _NAMES[alert.phase], str(SEVERITY[alert.severity]))
    extension = " ".join(f"{key}={_value(value)}" for key, value in _extension(alert) if value)
    return "|".join(["CEF:0", *map(_header, header), extension])


def _extension(alert: Alert) -> list[tuple[str, str]]:
    model = alert.model
    return [
        ("rt", _milliseconds(alert.window_end.timestamp())),
        ("start", _milliseconds(alert.window_start.timestamp())),
        ("end", _milliseconds(alert.window_end.timestamp())),
        ("externalId", alert.id),
        ("cat", "anomaly"),
        ("deviceExternalId", alert.sensor),
        ("src", alert.address or ""),
        ("msg", headline(alert)),
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
        ("cs5", feature_table(alert)),
        ("cs5Label", "features" if alert.features else ""),
    ]


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1_000))


def _header(text: str) -> str:
    """Escape a header field: it knows no line breaks."""
    return _visible(_LINE_BREAK.sub(" ", text).replace("\\", "\\\\").replace("|", "\\|"))


def _value(text: str) -> str:
    r"""Escape the value of an extension: backslash, equals sign, and line breaks as \n."""
    return _visible(_LINE_BREAK.sub("\n", text).replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n"))


def _visible(text: str) -> str:
    """Write what does not print as escaped bytes."""
    return "".join(c if c.isprintable() else "".join(f"\\\\x{b:02x}" for b in c.encode()) for c in well_formed(text))
