"""JSON lines: one object per alert or notice with all its fields; an alert of a rule has `"kind":"rule"`, a notice `"notice"`.

ASCII only, so that no other character is taken for a line break.
"""

import json

from mods_grpc.ids.alerts.alert import Alert, alert_to_json, replace_surrogates
from mods_grpc.ids.alerts.notice import Notice, notice_to_json
from mods_grpc.ids.alerts.rule_alert import RuleAlert, rule_alert_to_json


def format_jsonl(alert: Alert) -> str:
    """Return an alert as JSON on one line."""
    return format_json(alert_to_json(alert))


def format_jsonl_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as JSON on one line."""
    return format_json(rule_alert_to_json(alert))


def format_jsonl_notice(notice: Notice) -> str:
    """Return a notice as JSON on one line."""
    return format_json(notice_to_json(notice))


def format_json(value: object) -> str:
    """Return a value as JSON on one line of ASCII."""
    return json.dumps(_replace_surrogates(value), allow_nan=False, separators=(",", ":"))


def _replace_surrogates(value: object) -> object:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        return {key: _replace_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_surrogates(item) for item in value]
    return value
