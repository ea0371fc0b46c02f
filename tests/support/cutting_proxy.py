"""A proxy that cuts connections after a number of bytes, which loses requests, answers and parts of frames, or silences them."""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path


class CuttingProxy:
    """A proxy of one server. It cuts connection i after `cuts[i]` bytes from the server, and further connections never.

    It listens on a unix socket at `path`, on a port of `host` without one.
    """

    def __init__(
        self, upstream: str, cuts: Iterable[int] = (), *, path: Path | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.switch_to(upstream)
        self._cuts = deque(cuts)
        if path is None:
            self._listener = socket.create_server((host, port))
            self.address = f"{host}:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.address = f"unix:{path}"
        self.connections = 0
        self.ended_connections = 0  # by the client
        self._sockets: list[socket.socket] = []
        # of the present connections, and those to come
        self._is_dropping, self._is_dropping_answers = threading.Event(), threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def switch_to(self, upstream: str) -> None:
        """Forward further connections to another server."""
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))

    def stop_forwarding(self) -> None:
        """Drop all further data without closing the connections, like an unplugged cable."""
        self._is_dropping.set()
        self._is_dropping_answers.set()

    def lose_connections(self) -> None:
        """Drop all further data of the present connections without closing them, like a router that has forgotten them."""
        self._is_dropping.set()
        self.lose_answers()

    def lose_answers(self) -> None:
        """Drop all further data of the server on the present connections, but not that of the client."""
        self._is_dropping_answers.set()
        self._is_dropping, self._is_dropping_answers = threading.Event(), threading.Event()

    def close(self) -> None:
        """Close all connections and stop listening."""
        for open_socket in (self._listener, *self._sockets):
            self._close(open_socket)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            self.connections += 1
            self._sockets += [client, server]
            budget = self._cuts.popleft() if self._cuts else None
            for forward in (
                (self._forward_requests, client, server, self._is_dropping),
                (self._pump, server, client, self._is_dropping_answers, budget),
            ):
                threading.Thread(target=forward[0], args=forward[1:], daemon=True).start()

    def _forward_requests(self, client: socket.socket, server: socket.socket, is_dropping: threading.Event) -> None:
        self._pump(client, server, is_dropping, None)
        self.ended_connections += 1

    def _pump(self, source: socket.socket, sink: socket.socket, is_dropping: threading.Event, budget: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if is_dropping.is_set():
                    continue
                if budget is not None:
                    data = data[:budget]
                    budget -= len(data)
                if data:
                    sink.sendall(data)
                if budget == 0:
                    break
        if not is_dropping.is_set():  # the end is dropped, too
            self._close(source)
            self._close(sink)

    @staticmethod
    def _close(open_socket: socket.socket) -> None:
        with contextlib.suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)
        open_socket.close()


@contextlib.contextmanager
def cutting_proxy(upstream: str, cuts: Iterable[int] = ()) -> Iterator[CuttingProxy]:
    """Run a proxy until the context ends."""
    proxy = CuttingProxy(upstream, cuts)
    try:
        yield proxy
    finally:
        proxy.close()
