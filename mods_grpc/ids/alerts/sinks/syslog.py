"""Lines to a syslog receiver as RFC 5424 messages: UDP (RFC 5426), TCP with octet counting (RFC 6587), TLS (RFC 5425)."""

import os
import socket
import ssl
from datetime import UTC
from pathlib import Path

from mods_grpc.ids.alerts.alert import PRODUCT, Alert, Severity

FACILITY_LOCAL0 = 16
MAX_UDP_BYTES = 65_000
DEFAULT_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
_SEVERITIES = {Severity.LOW: 5, Severity.MEDIUM: 4, Severity.HIGH: 3, Severity.CRITICAL: 2}  # notice to critical
_TIMEOUT_SECONDS = 10.0


def format_message(alert: Alert, line: str, hostname: str | None = None) -> bytes:
    """Write a syslog message. Its time is that of the alert; the text has no byte-order mark, which CEF readers trip over."""
    priority = FACILITY_LOCAL0 * 8 + _SEVERITIES[alert.severity]
    when = alert.window_end.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = "".join(c for c in hostname or socket.gethostname() if "!" <= c <= "~")[:255] or "-"
    return f"<{priority}>1 {when} {host} {PRODUCT} {os.getpid()} anomaly-{alert.phase} - {line}".encode()


class SyslogSender:
    """Sends messages over one connection, which it opens when needed and again when it broke.

    Args:
        kind: "udp", "tcp" or "tls".
        host: The receiver.
        port: Its port.
        authorities: PEM file of the authorities to trust with TLS; None for the system's.
    """

    def __init__(self, kind: str, host: str, port: int, authorities: Path | None = None) -> None:
        self._kind = kind
        self._address = (host, port)
        self._context = ssl.create_default_context(cafile=authorities) if kind == "tls" else None
        self._connection: socket.socket | None = None

    def __call__(self, _identity: str, content: bytes) -> None:
        """Send one message.

        Raises:
            OSError: It was not sent, or perhaps not.
        """
        if self._kind == "udp":
            self._send_datagram(content[:MAX_UDP_BYTES])
            return
        try:
            if self._connection is None or self._is_closed_by_peer(self._connection):
                self._connection = self._connect()
            self._connection.sendall(b"%d %s" % (len(content), content))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> socket.socket:
        self.close()
        plain = socket.create_connection(self._address, timeout=_TIMEOUT_SECONDS)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=self._address[0])
        except BaseException:
            plain.close()
            raise

    def _is_closed_by_peer(self, connection: socket.socket) -> bool:
        """Tell whether the receiver closed: without looking, the first message after it would vanish."""
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
