"""Zeek's notice.log, as TSV with its header and as JSON.

The columns are those of Zeek, followed by columns `mods_*`, as a script that extends `Notice::Info` would add them. Fields of a
connection are set where one value of each stands for the alert; the originator's port never is. A notice that monitoring is
impaired has the note `MODS::Monitoring_Impaired`, one of a fixed rule `MODS::Rule`.
"""

from datetime import UTC, datetime
from typing import Any

from mods_grpc.ids.alerts.alert import Alert, AlertPhase, format_features, format_headline, replace_surrogates
from mods_grpc.ids.alerts.formats.endpoints import find_endpoints
from mods_grpc.ids.alerts.formats.evidence_text import format_evidence, format_rank, leading_count
from mods_grpc.ids.alerts.formats.jsonl import format_json
from mods_grpc.ids.alerts.notice import Notice, NoticeState, format_notice_headline
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_evidence, format_rule_headline
from mods_grpc.ids.evidence.techniques import find_techniques

SEPARATOR, SET_SEPARATOR, EMPTY, UNSET = "\t", ",", "(empty)", "-"
NOTES = {
    AlertPhase.START: "MODS::Traffic_Anomaly",
    AlertPhase.UPDATE: "MODS::Traffic_Anomaly_Grew",
    AlertPhase.END: "MODS::Traffic_Anomaly_Ended",
}
RULE_NOTES = {AlertPhase.START: "MODS::Rule", AlertPhase.END: "MODS::Rule_Ended"}
MONITORING_NOTES = {NoticeState.RAISED: "MODS::Monitoring_Impaired", NoticeState.CLEARED: "MODS::Monitoring_Restored"}
COLUMNS = (
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("fuid", "string"),
    ("file_mime_type", "string"),
    ("file_desc", "string"),
    ("proto", "enum"),
    ("note", "enum"),
    ("msg", "string"),
    ("sub", "string"),
    ("src", "addr"),
    ("dst", "addr"),
    ("p", "port"),
    ("n", "count"),
    ("peer_descr", "string"),
    ("actions", "set[enum]"),
    ("email_dest", "set[string]"),
    ("suppress_for", "interval"),
    ("mods_id", "string"),
    ("mods_series", "string"),
    ("mods_phase", "string"),
    ("mods_severity", "string"),
    ("mods_episode", "string"),
    ("mods_window_start", "time"),
    ("mods_score", "double"),
    ("mods_p_value", "double"),
    ("mods_false_alarms_per_day", "double"),
    ("mods_model", "string"),
    ("mods_model_digest", "string"),
    ("mods_code", "string"),
    ("mods_subject", "string"),
    ("mods_since", "time"),
    ("mods_rule", "string"),
    ("mods_threshold", "count"),
    ("mods_source", "string"),
    ("mods_uids", "set[string]"),
    ("mods_parent", "string"),
    ("mods_rank", "string"),
    ("mods_trigger", "string"),
    ("mods_members", "set[string]"),
    ("mods_techniques", "set[string]"),
)


def format_tsv_header() -> str:
    """Return the header lines of a log file."""
    opened = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S")
    lines = [
        "#separator \\x09",
        f"#set_separator\t{SET_SEPARATOR}",
        f"#empty_field\t{EMPTY}",
        f"#unset_field\t{UNSET}",
        "#path\tnotice",
        f"#open\t{opened}",
        "\t".join(["#fields", *(name for name, _ in COLUMNS)]),
        "\t".join(["#types", *(kind for _, kind in COLUMNS)]),
    ]
    return "\n".join(lines) + "\n"


def format_tsv(alert: Alert) -> str:
    """Return an alert as a row of the TSV log."""
    return _format_row(_values(alert))


def format_tsv_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as a row of the TSV log."""
    return _format_row(_rule_values(alert))


def format_tsv_notice(notice: Notice) -> str:
    """Return a notice as a row of the TSV log."""
    return _format_row(_notice_values(notice))


def format_zeek_json(alert: Alert) -> str:
    """Return an alert as Zeek writes it with `LogAscii::use_json`: unset fields are left out."""
    return _format_set_fields(_values(alert))


def format_zeek_json_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as Zeek writes it with `LogAscii::use_json`."""
    return _format_set_fields(_rule_values(alert))


def format_zeek_json_notice(notice: Notice) -> str:
    """Return a notice as Zeek writes it with `LogAscii::use_json`."""
    return _format_set_fields(_notice_values(notice))


def _values(alert: Alert) -> dict[str, Any]:
    model, ends = alert.model, find_endpoints(alert)
    return {
        "ts": alert.window_end.timestamp(),
        "uid": ends.uid,
        "id.orig_h": ends.source,
        "id.resp_h": ends.destination,
        "id.resp_p": ends.port,
        "proto": ends.transport,
        "note": NOTES[alert.phase],
        "msg": format_headline(alert),
        "sub": format_evidence(alert) or format_features(alert),
        "src": ends.source,
        "dst": ends.destination,
        "p": ends.port,
        "n": leading_count(alert),
        "peer_descr": alert.sensor,
        "actions": ["Notice::ACTION_LOG"],
        "email_dest": [],
        "suppress_for": 0.0,
        "mods_id": alert.id,
        "mods_series": alert.series,
        "mods_phase": str(alert.phase),
        "mods_severity": alert.severity.name.lower(),
        "mods_episode": alert.episode_id,
        "mods_window_start": alert.window_start.timestamp(),
        "mods_score": alert.score,
        "mods_p_value": alert.p_value,
        "mods_false_alarms_per_day": alert.false_alarms_per_day,
        "mods_model": None if model is None else f"{model.name}/{model.version}",
        "mods_model_digest": None if model is None else model.digest,
        "mods_uids": None if alert.evidence is None else list(alert.evidence.uids),
        "mods_parent": alert.parent_id,
        "mods_rank": format_rank(alert) or None,
        "mods_trigger": str(alert.trigger),
        "mods_members": [member.series for member in alert.members] or None,
        "mods_techniques": [technique.id for technique in find_techniques(alert.evidence)] or None,
    }


def _rule_values(alert: RuleAlert) -> dict[str, Any]:
    return {
        "ts": alert.window_end.timestamp(),
        "note": RULE_NOTES[alert.phase],
        "msg": format_rule_headline(alert),
        "sub": format_rule_evidence(alert),
        "src": alert.source_ip,
        "dst": alert.destination_ip,
        "p": alert.destination_port,
        "n": alert.count,
        "peer_descr": alert.sensor,
        "actions": ["Notice::ACTION_LOG"],
        "email_dest": [],
        "suppress_for": 0.0,
        "mods_id": alert.id,
        "mods_series": alert.host,
        "mods_phase": str(alert.phase),
        "mods_severity": alert.severity.name.lower(),
        "mods_episode": alert.episode_id,
        "mods_window_start": alert.window_start.timestamp(),
        "mods_since": alert.first.timestamp(),
        "mods_rule": alert.rule,
        "mods_threshold": alert.threshold,
        "mods_source": alert.source,
        "mods_uids": list(alert.uids),
        "mods_parent": alert.parent_id,
    }


def _notice_values(notice: Notice) -> dict[str, Any]:
    return {
        "ts": notice.time.timestamp(),
        "note": MONITORING_NOTES[notice.state],
        "msg": format_notice_headline(notice),
        "sub": notice.hint,
        "peer_descr": notice.sensor,
        "actions": ["Notice::ACTION_LOG"],
        "email_dest": [],
        "suppress_for": 0.0,
        "mods_id": notice.id,
        "mods_phase": str(notice.state),
        "mods_severity": notice.severity.name.lower(),
        "mods_code": str(notice.code),
        "mods_subject": notice.subject or None,
        "mods_since": notice.since.timestamp(),
        "mods_parent": notice.parent_id,
    }


def _format_row(values: dict[str, Any]) -> str:
    return SEPARATOR.join(_format_cell(values.get(name), kind) for name, kind in COLUMNS)


def _format_set_fields(values: dict[str, Any]) -> str:
    return format_json({name: value for name, value in values.items() if value is not None})


def _format_cell(value: Any, kind: str) -> str:
    if value is None:
        return UNSET
    if isinstance(value, list):
        return SET_SEPARATOR.join(_escape(item, SET_SEPARATOR) for item in value) or EMPTY
    if kind in {"time", "interval"}:
        return f"{value:.6f}"
    return _escape(value) if isinstance(value, str) else repr(value)


def _escape(value: str, also: str = "") -> str:
    r"""Escape a value as Zeek does: a backslash as two, the bytes of characters that are not printable as \xHH."""
    value = replace_surrogates(value)
    if not value:
        return EMPTY
    if value in {UNSET, EMPTY} or value.startswith("#"):
        return _escape_bytes(value[0]) + "".join(_escape_character(c, also) for c in value[1:])
    return "".join(_escape_character(character, also) for character in value)


def _escape_character(character: str, also: str) -> str:
    if character == "\\":
        return "\\\\"
    return character if character.isprintable() and character not in also else _escape_bytes(character)


def _escape_bytes(characters: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in characters.encode())
