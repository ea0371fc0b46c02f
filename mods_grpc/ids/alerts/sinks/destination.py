"""From what the user wrote to a sink: `FORMAT:DESTINATION`, such as `eve:/var/log/mods/eve.json`.

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
from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.formats.registry import FORMATS, Format
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.sink import Sink, Sinks, StreamSink
from mods_grpc.ids.alerts.sinks.spool import Spool
from mods_grpc.ids.alerts.sinks.syslog import DEFAULT_PORTS, SyslogSender, message
from mods_grpc.ids.alerts.sinks.webhook import WebhookSender

STANDARD_OUTPUT = {"stdout", "-"}


class SpooledSink:
    """Sends lines over a network by way of a spool.

    Args:
        form: The format of the lines.
        folder: Where the spool lies.
        sender: Delivers one line; syslog senders get it as a syslog message.
    """

    def __init__(self, form: Format, folder: Path, sender: SyslogSender | WebhookSender) -> None:
        self._form = form
        self._sender = sender
        self._spool = Spool(folder, sender)

    def mark(self) -> None:
        """Return nothing: the spool itself knows what it delivered."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def write(self, alert: Alert) -> None:
        """Queue an alert."""
        line = self._form.line(alert)
        self._spool.put(alert.id, message(alert, line) if isinstance(self._sender, SyslogSender) else line.encode())

    def close(self) -> None:
        """Give what waits a moment to go out."""
        self._spool.close()
        self._sender.close()


def open_sinks(texts: list[str], state: Path | None) -> Sinks:
    """Open the sinks that the user asked for.

    Args:
        texts: Such as `eve:FILE`; see the module.
        state: Folder for spools; None for a temporary one.

    Raises:
        DataError: A text can't be read.
    """
    return Sinks([(text, _open(text, state)) for text in dict.fromkeys(texts)])


def _open(text: str, state: Path | None) -> Sink:
    if text in STANDARD_OUTPUT:
        return StreamSink(FORMATS["jsonl"])
    name, colon, target = text.partition(":")
    if not colon or not target or name not in FORMATS:
        raise DataError(f"expected stdout or FORMAT:DESTINATION with a format of {', '.join(FORMATS)}, found {text!r}")
    form = FORMATS[name]
    if target in STANDARD_OUTPUT:
        return StreamSink(form)
    scheme = target.partition("://")[0] if "://" in target else ""
    if not scheme:
        return FileSink(Path(target), form)
    root = state if state is not None else Path(tempfile.mkdtemp(prefix="mods-grpc-"))
    folder = root / "spool" / hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        if scheme in DEFAULT_PORTS:
            return SpooledSink(form, folder, _syslog_sender(target))
        if scheme in {"http", "https"}:
            return SpooledSink(form, folder, _webhook_sender(target, form))
    except ValueError as error:
        raise DataError(f"{text}: {error}") from error
    raise DataError(f"expected udp, tcp, tls, http or https, found {scheme!r} in {text!r}")


def _syslog_sender(target: str) -> SyslogSender:
    url, options = _options(target, {"ca"})
    parts = urlsplit(url)
    return SyslogSender(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], options.get("ca"))


def _webhook_sender(target: str, form: Format) -> WebhookSender:
    url, options = _options(target, {"ca", "token-file"})
    token = options["token-file"].read_text(encoding="utf-8").strip() if "token-file" in options else None
    return WebhookSender(url, form.media_type, authorities=options.get("ca"), token=token)


def _options(target: str, known: set[str]) -> tuple[str, dict[str, Path]]:
    url, fragment = urldefrag(target)
    if not urlsplit(url).hostname:
        raise ValueError("names no host")
    options = {key: Path(values[0]) for key, values in parse_qs(fragment).items()}
    if unknown := options.keys() - known:
        raise ValueError(f"knows no option {', '.join(sorted(unknown))}")
    return url, options
