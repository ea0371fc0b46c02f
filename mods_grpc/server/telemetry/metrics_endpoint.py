"""The HTTP endpoint at which Prometheus reads metrics."""

import socket
import threading
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app


def serve_registry(registry: CollectorRegistry, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serve metrics over HTTP on a thread of its own.

    Args:
        registry: The metrics.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.

    Returns:
        The port, and a function that stops the endpoint.

    Raises:
        OSError: The address can't be listened on.
    """
    server = make_server(host, port, make_wsgi_app(registry), _MetricsServer, _SilentHandler)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), close


class _MetricsServer(ThreadingMixIn, WSGIServer):
    """An HTTP server that does not look up its own host name: without a reachable name server that takes long."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without looking up the host name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()


class _SilentHandler(WSGIRequestHandler):
    """A request handler that logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""
