"""Sends RFC 5424 messages to a syslog receiver over UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425).

Over TCP and TLS the length of each message precedes it (octet counting), or a newline ends it, for receivers that don't count.
"""

import os
import re
import socket
import ssl
from datetime import UTC

from mods_grpc.ids.alerts.alert import PRODUCT, Severity
from mods_grpc.ids.alerts.notice import AlertOrNotice

FACILITY_LOCAL0 = 16
MAX_UDP_BYTES = 65_000
_SEVERITIES = {Severity.LOW: 5, Severity.MEDIUM: 4, Severity.HIGH: 3, Severity.CRITICAL: 2}  # notice to critical
_TIMEOUT_SECONDS = 10.0
_LINE_BREAK = re.compile(rb"\r\n|[\r\n]")


def format_message(alert: AlertOrNotice, line: str, hostname: str | None = None) -> bytes:
    """Return a syslog message with the time of the alert or notice.

    The text has no byte-order mark, because CEF readers reject it.
    """
    priority = FACILITY_LOCAL0 * 8 + _SEVERITIES[alert.severity]
    when = alert.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = "".join(c for c in hostname or socket.gethostname() if "!" <= c <= "~")[:255] or "-"
    return f"<{priority}>1 {when} {host} {PRODUCT} {os.getpid()} {alert.kind} - {line}".encode()


class SyslogSender:
    """Sends messages over one connection, which is opened when needed and reopened after a failure.

    Args:
        host: Host of the receiver.
        port: Port of the receiver.
        datagrams: Whether to send each message as a UDP datagram, not over a connection.
        context: Whom to trust with TLS; None for a connection without TLS.
        count_octets: Whether the length of a message precedes it on a connection. If not, a newline ends it, and line breaks
            inside it are escaped.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        datagrams: bool = False,
        context: ssl.SSLContext | None = None,
        count_octets: bool = True,
    ) -> None:
        self._address = (host, port)
        self._datagrams = datagrams
        self._context = context
        self._count_octets = count_octets
        self._connection: socket.socket | None = None

    def __call__(self, _message_id: str, content: bytes) -> None:
        """Send one message.

        Raises:
            OSError: It may not have been sent.
        """
        if self._datagrams:
            self._send_datagram(content[:MAX_UDP_BYTES])
            return
        try:
            if self._connection is None or self._is_closed_by_peer(self._connection):
                self._connection = self._connect()
            self._connection.sendall(self._frame(content))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _frame(self, content: bytes) -> bytes:
        return b"%d %s" % (len(content), content) if self._count_octets else _LINE_BREAK.sub(rb"\\n", content) + b"\n"

    def _connect(self) -> socket.socket:
        self.close()
        unencrypted = socket.create_connection(self._address, timeout=_TIMEOUT_SECONDS)
        if self._context is None:
            return unencrypted
        try:
            return self._context.wrap_socket(unencrypted, server_hostname=self._address[0])
        except BaseException:
            unencrypted.close()
            raise

    def _is_closed_by_peer(self, connection: socket.socket) -> bool:
        """Return whether the receiver closed the connection; without this check the next message would be lost silently."""
        connection.settimeout(0.0)
        try:
            return connection.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            connection.settimeout(_TIMEOUT_SECONDS)

    def _send_datagram(self, content: bytes) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as out:
            out.sendto(content, address)
