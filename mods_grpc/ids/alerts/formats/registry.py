"""The registry of alert formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.formats import cef, ecs, eve, idmef, jsonl, zeek_notice
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice
from mods_grpc.ids.alerts.rule_alert import RuleAlert


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format of alerts, those of rules included, and of notices, one line each.

    Attributes:
        format_alert: Returns an alert as one line, without the newline.
        format_rule_alert: Returns an alert of a rule as one line.
        format_notice: Returns a notice as one line.
        format_header: Returns the header lines of a new file, with newlines; empty for no header.
        media_type: Media type for HTTP.
    """

    format_alert: Callable[[Alert], str]
    format_rule_alert: Callable[[RuleAlert], str]
    format_notice: Callable[[Notice], str]
    format_header: Callable[[], str] = str
    media_type: str = "application/json"

    def format(self, item: AlertOrNotice) -> str:
        """Return an alert or a notice as one line."""
        if isinstance(item, Notice):
            return self.format_notice(item)
        return self.format_rule_alert(item) if isinstance(item, RuleAlert) else self.format_alert(item)


FORMATS: Mapping[str, Format] = {
    "eve": Format(format_alert=eve.format_eve, format_rule_alert=eve.format_eve_rule_alert, format_notice=eve.format_eve_notice),
    "jsonl": Format(
        format_alert=jsonl.format_jsonl,
        format_rule_alert=jsonl.format_jsonl_rule_alert,
        format_notice=jsonl.format_jsonl_notice,
    ),
    "zeek": Format(
        format_alert=zeek_notice.format_tsv,
        format_rule_alert=zeek_notice.format_tsv_rule_alert,
        format_notice=zeek_notice.format_tsv_notice,
        format_header=zeek_notice.format_tsv_header,
        media_type="text/tab-separated-values",
    ),
    "zeek-json": Format(
        format_alert=zeek_notice.format_zeek_json,
        format_rule_alert=zeek_notice.format_zeek_json_rule_alert,
        format_notice=zeek_notice.format_zeek_json_notice,
    ),
    "idmef": Format(
        format_alert=idmef.format_idmef,
        format_rule_alert=idmef.format_idmef_rule_alert,
        format_notice=idmef.format_idmef_notice,
    ),
    "cef": Format(
        format_alert=cef.format_cef,
        format_rule_alert=cef.format_cef_rule_alert,
        format_notice=cef.format_cef_notice,
        media_type="text/plain",
    ),
    "ecs": Format(format_alert=ecs.format_ecs, format_rule_alert=ecs.format_ecs_rule_alert, format_notice=ecs.format_ecs_notice),
}
