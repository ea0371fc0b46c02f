"""What a format is, and the list of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.formats import cef, eve, idmef, jsonl, zeek_notice


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format of alerts, one line each.

    Attributes:
        line: Writes an alert, without the newline.
        header: Writes what a new file begins with, whole lines.
        media_type: For HTTP.
    """

    line: Callable[[Alert], str]
    header: Callable[[], str] = str
    media_type: str = "application/json"


FORMATS: Mapping[str, Format] = {
    "eve": Format(line=eve.line),
    "jsonl": Format(line=jsonl.line),
    "zeek": Format(line=zeek_notice.tsv_line, header=zeek_notice.tsv_header, media_type="text/tab-separated-values"),
    "zeek-json": Format(line=zeek_notice.json_line),
    "idmef": Format(line=idmef.line),
    "cef": Format(line=cef.line, media_type="text/plain"),
}
