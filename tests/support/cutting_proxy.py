"""A TCP proxy that cuts connections after a number of bytes, which loses requests, answers and parts of frames."""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator


class CuttingProxy:
    """A proxy of one server. It cuts connection i after `cuts[i]` bytes from the server, and further connections never."""

    def __init__(self, upstream: str, cuts: Iterable[int] = ()) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._cuts = deque(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._is_dropping = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop_forwarding(self) -> None:
        """Drop all further data without closing the connections, like an unplugged cable."""
        self._is_dropping.set()

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
            threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, budget), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self._is_dropping.is_set():
                    continue
                if budget is not None:
                    data = data[:budget]
                    budget -= len(data)
                if data:
                    sink.sendall(data)
                if budget == 0:
                    break
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
