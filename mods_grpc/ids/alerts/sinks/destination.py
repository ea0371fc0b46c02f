"""Opens the sink of a destination `FORMAT:DESTINATION`, such as `eve:/var/log/mods/eve.json`.

stdout                                   jsonl to standard output
FORMAT:-                                 any format to standard output
FORMAT:FILE                              appended to a file
FORMAT:udp://HOST[:514]                  syslog; also tcp://HOST[:601] and tls://HOST[:6514][#ca=FILE]
FORMAT:https://HOST/PATH                 webhook; #ca=FILE&token-file=FILE may follow
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urldefrag, urlsplit

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.formats.registry import FORMATS, Format
from mods_grpc.ids.alerts.notice import AlertOrNotice
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.sink import Sink, SinkGroup, StreamSink
from mods_grpc.ids.alerts.sinks.spool import Spool
from mods_grpc.ids.alerts.sinks.syslog import DEFAULT_PORTS, SyslogSender, format_message
from mods_grpc.ids.alerts.sinks.webhook import WebhookSender

STANDARD_OUTPUT = {"stdout", "-"}


class SpooledSink:
    """Sends alerts over a network through a spool.

    Args:
        alert_format: Format of the lines.
        folder: Folder of the spool.
        sender: Delivers one line; a syslog sender gets it as a syslog message.
    """

    def __init__(self, alert_format: Format, folder: Path, sender: SyslogSender | WebhookSender) -> None:
        self._format = alert_format
        self._sender = sender
        self._spool = Spool(folder, sender)

    def mark(self) -> None:
        """Return None: the spool records what it delivered."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def write(self, alert: AlertOrNotice) -> None:
        """Queue an alert or a notice."""
        line = self._format.format(alert)
        self._spool.put(alert.id, format_message(alert, line) if isinstance(self._sender, SyslogSender) else line.encode())

    def close(self) -> None:
        """Try for a few seconds to deliver the queued alerts."""
        self._spool.close()
        self._sender.close()


def open_sinks(destinations: list[str], state: Path | None) -> SinkGroup:
    """Open the sinks of destinations.

    Args:
        destinations: Such as `eve:FILE`; see the module.
        state: Folder for spools; None for a temporary one.

    Raises:
        DataError: A destination is not of this form.
    """
    return SinkGroup([(destination, _open_sink(destination, state)) for destination in dict.fromkeys(destinations)])


def _open_sink(destination: str, state: Path | None) -> Sink:
    if destination in STANDARD_OUTPUT:
        return StreamSink(FORMATS["jsonl"])
    name, colon, target = destination.partition(":")
    if not colon or not target or name not in FORMATS:
        raise DataError(f"expected stdout or FORMAT:DESTINATION with a format of {', '.join(FORMATS)}, found {destination!r}")
    alert_format = FORMATS[name]
    if target in STANDARD_OUTPUT:
        return StreamSink(alert_format)
    scheme = target.partition("://")[0] if "://" in target else ""
    if not scheme:
        return FileSink(Path(target), alert_format)
    root = state if state is not None else Path(tempfile.mkdtemp(prefix="mods-grpc-"))
    folder = root / "spool" / hashlib.sha256(destination.encode()).hexdigest()[:16]
    try:
        if scheme in DEFAULT_PORTS:
            return SpooledSink(alert_format, folder, _syslog_sender(target))
        if scheme in {"http", "https"}:
            return SpooledSink(alert_format, folder, _webhook_sender(target, alert_format))
    except ValueError as error:
        raise DataError(f"{destination}: {error}") from error
    raise DataError(f"expected udp, tcp, tls, http or https, found {scheme!r} in {destination!r}")


def _syslog_sender(target: str) -> SyslogSender:
    url, options = _split_options(target, {"ca"})
    parts = urlsplit(url)
    return SyslogSender(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], options.get("ca"))


def _webhook_sender(target: str, alert_format: Format) -> WebhookSender:
    url, options = _split_options(target, {"ca", "token-file"})
    token = options["token-file"].read_text(encoding="utf-8").strip() if "token-file" in options else None
    return WebhookSender(url, alert_format.media_type, authorities=options.get("ca"), token=token)


def _split_options(target: str, allowed: set[str]) -> tuple[str, dict[str, Path]]:
    url, fragment = urldefrag(target)
    if not urlsplit(url).hostname:
        raise ValueError("the host is missing")
    options = {key: Path(values[0]) for key, values in parse_qs(fragment).items()}
    if unknown := options.keys() - allowed:
        raise ValueError(f"unknown option {', '.join(sorted(unknown))}")
    return url, options
