"""Sockets that listen: addresses as gRPC writes them, and connections with the TLS that holds when they are made."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

BACKLOG = 1024
ACCEPTED_AT_ONCE = 64  # connections, before the loop does something else
PAUSE_SECONDS = 0.1  # where there are no file descriptors left
HANDSHAKE_SECONDS = 5.0

Protocol = TypeVar("Protocol", bound=asyncio.Protocol)

log = logging.getLogger(__name__)


def bound(address: str) -> list[socket.socket]:
    """Bind an address: host:port, unix:path, unix:///path or unix-abstract:name.

    Raises:
        OSError: It can't be had.
    """
    if address.startswith("unix-abstract:"):
        return [_bound(socket.AF_UNIX, "\0" + address.removeprefix("unix-abstract:"))]
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix://") if address.startswith("unix://") else address.removeprefix("unix:"))
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):  # of a server that is gone; who asks for the path has seen to that
                path.unlink()
        return [_bound(socket.AF_UNIX, str(path))]
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    refusal: OSError | None = None
    for family, _, _, _, where in dict.fromkeys(found):  # a name may stand for several addresses, which share a port
        same = sockets[0].getsockname()[1] if sockets else where[1]
        try:
            sockets.append(_bound(family, (where[0], same, *where[2:])))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # as of IPv6 where there is none
                _close(sockets)
                raise
            refusal = error
    if not sockets:
        raise refusal or OSError(f"{host} has no address")
    return sockets


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _bound(family: int, where: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)  # type: ignore[arg-type]
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


class Listening(Generic[Protocol]):
    """Accepts connections on one socket.

    Args:
        listener: The socket.
        protocol: Makes what serves a connection.
        failed: Told of one that did not come to be.
        room: Tells whether there may be one more.
        tls: Tells what the server proves itself with now; None for no TLS.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        protocol: Callable[[], Protocol],
        failed: Callable[[Protocol], None],
        room: Callable[[], bool],
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._listener, self._protocol, self._failed, self._room, self._tls = listener, protocol, failed, room, tls
        self._beginning: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept from now on."""
        self._loop = loop
        loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more; who is at the handshake is sent away."""
        if self._loop is not None:
            self._loop.remove_reader(self._listener)
        self._loop = None
        self._listener.close()
        for task in self._beginning:
            task.cancel()

    def _accept(self) -> None:
        assert self._loop is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file descriptors, most likely
                log.warning("cannot_accept reason=%r", str(error))
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE_SECONDS, self._go_on)
                return
            if not self._room():
                connection.close()
                continue
            task = self._loop.create_task(self._begin(self._loop, connection, self._protocol()))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    def _go_on(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._listener, self._accept)

    async def _begin(self, loop: asyncio.AbstractEventLoop, connection: socket.socket, protocol: Protocol) -> None:
        try:
            connection.setblocking(False)
            tls = self._tls() if self._tls is not None else None
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seconds = HANDSHAKE_SECONDS if tls is not None else None
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls, ssl_handshake_timeout=seconds)
        except BaseException as error:
            connection.close()
            self._failed(protocol)
            if not isinstance(error, OSError):  # a handshake that failed is the peer's business
                raise
