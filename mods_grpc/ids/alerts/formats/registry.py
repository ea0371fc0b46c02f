"""The registry of alert formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.formats import cef, eve, idmef, jsonl, zeek_notice


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format of alerts, one line each.

    Attributes:
        format_alert: Returns an alert as one line, without the newline.
        format_header: Returns the header lines of a new file, with newlines; empty for no header.
        media_type: Media type for HTTP.
    """

    format_alert: Callable[[Alert], str]
    format_header: Callable[[], str] = str
    media_type: str = "application/json"


FORMATS: Mapping[str, Format] = {
    "eve": Format(format_alert=eve.format_eve),
    "jsonl": Format(format_alert=jsonl.format_jsonl),
    "zeek": Format(
        format_alert=zeek_notice.format_tsv, format_header=zeek_notice.format_tsv_header, media_type="text/tab-separated-values"
    ),
    "zeek-json": Format(format_alert=zeek_notice.format_zeek_json),
    "idmef": Format(format_alert=idmef.format_idmef),
    "cef": Format(format_alert=cef.format_cef, media_type="text/plain"),
}
