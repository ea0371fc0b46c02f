"""Opens the sink of a destination `FORMAT:DESTINATION`, such as `eve:/var/log/mods/eve.json`; `target` says what there are."""

import hashlib
import re
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mods_grpc.errors import DataError
from mods_grpc.exit_codes import describe_os_error
from mods_grpc.ids.alerts.formats.registry import FORMATS, Format
from mods_grpc.ids.alerts.notice import AlertOrNotice
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.alerts.sinks.history import HistorySink
from mods_grpc.ids.alerts.sinks.sink import Destination, StreamSink
from mods_grpc.ids.alerts.sinks.spool import Spool
from mods_grpc.ids.alerts.sinks.syslog import SyslogSender, format_message
from mods_grpc.ids.alerts.sinks.target import Target, parse_destination
from mods_grpc.ids.alerts.sinks.webhook import WebhookSender

_TOKEN = re.compile(r"[!-~]{1,4096}")


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

    def __len__(self) -> int:
        """Return the number of alerts and notices that wait."""
        return len(self._spool)

    def mark(self) -> None:
        """Return None: the spool records what it delivered."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def format(self, alert: AlertOrNotice) -> str:
        """Return an alert or a notice as the receiver gets it."""
        line = self._format.format(alert)
        return format_message(alert, line).decode() if isinstance(self._sender, SyslogSender) else line

    def put(self, alert_id: str, text: str) -> None:
        """Queue a message."""
        self._spool.put(alert_id, text.encode())

    def close(self) -> None:
        """Try for a few seconds to deliver the queued alerts."""
        self._spool.close()
        self._sender.close()


def open_sinks(destinations: list[str], state: Path | None, *, ends: bool = True) -> SinkGroup:
    """Open the sinks of destinations, and the history beside them.

    Args:
        destinations: Such as `eve:FILE`; see the module.
        state: Folder for spools and the history; None for no history and a temporary folder, of a run that ends when no
            destination can be written.
        ends: Whether destinations get the ends of episodes, as the history does.

    Raises:
        DataError: A destination is not of this form, a file that it names can't be used, or two have the same file.
    """
    files: dict[Path, str] = {}
    for destination in dict.fromkeys(destinations):
        target = parse_destination(destination)
        if target.scheme == "file" and (first := files.setdefault(Path(target.place).resolve(), destination)) != destination:
            raise DataError(f"--alerts {destination}: {first} writes to that file already; give each a file of its own")
    named = [(destination, _open_named(destination, state)) for destination in dict.fromkeys(destinations)]
    history = None if state is None else _open_history(state, files)
    return SinkGroup(named, history=history, ends=ends, is_patient=state is not None)


def _open_history(state: Path, files: Mapping[Path, str]) -> HistorySink:
    """Open the history; `files` are those of destinations, with their names."""
    try:
        history = HistorySink(state)
        taken = next((files[path.resolve()] for path in history.paths if path.resolve() in files), None)
        if taken is not None:
            raise DataError(
                f"--alerts {taken}: the watch keeps its alerts in that file anyway; leave it out, or give another file"
            )
        history.prepare()
    except OSError as error:
        raise DataError(f"--state: {describe_os_error(error)}; give a folder that this user may write") from error
    return history


def _open_named(destination: str, state: Path | None) -> Destination:
    try:
        return _open_sink(destination, state)
    except OSError as error:
        raise DataError(f"--alerts {destination}: {describe_os_error(error)}") from error


def _open_sink(destination: str, state: Path | None) -> Destination:
    target = parse_destination(destination)
    alert_format = FORMATS[target.format]
    if target.scheme == "stdout":
        return StreamSink(alert_format)
    if target.scheme == "file":
        sink = FileSink(Path(target.place), alert_format)
        sink.prepare()
        return sink
    sender = _webhook_sender(target, alert_format) if target.scheme in {"http", "https"} else _syslog_sender(target)
    root = state if state is not None else Path(tempfile.mkdtemp(prefix="mods-grpc-"))
    return SpooledSink(alert_format, root / "spool" / hashlib.sha256(destination.encode()).hexdigest()[:16], sender)


def _syslog_sender(target: Target) -> SyslogSender:
    assert target.port is not None
    context = _trust(target) if target.scheme == "tls" else None
    return SyslogSender(
        target.host,
        target.port,
        datagrams=target.scheme == "udp",
        context=context,
        count_octets=target.options.get("framing") != "newline",
    )


def _webhook_sender(target: Target, alert_format: Format) -> WebhookSender:
    context = _trust(target) if target.scheme == "https" else None
    token = None
    if "token-file" in target.options:
        path = target.options["token-file"]
        token = Path(path).read_text(encoding="utf-8", errors="replace").strip()
        if not _TOKEN.fullmatch(token):
            raise DataError(f"{path}: expected the bearer token and nothing else, on one line")
    return WebhookSender(target.place, alert_format.media_type, context=context, token=token)


def _trust(target: Target) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the option `ca`, or those of the system."""
    path = target.options.get("ca")
    if path is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=Path(path).read_bytes().decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise DataError(f"{path}: expected certificates of authorities in PEM") from error
