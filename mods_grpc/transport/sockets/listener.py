"""Listening sockets: addresses in grpc's syntax, and accepted connections with TLS."""

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
ACCEPT_BATCH = 8  # connections accepted per loop iteration
PAUSE_SECONDS = 0.1  # after a failure to accept, such as no file descriptor left

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)

logger = logging.getLogger(__name__)


def bind_sockets(address: str) -> list[socket.socket]:
    """Bind an address: host:port, unix:path, unix:///path or unix-abstract:name.

    Returns:
        Listening sockets; several where a host name has several addresses, which then share a port.

    Raises:
        OSError: The address can't be bound.
    """
    if address.startswith("unix-abstract:"):
        return [_bind(socket.AF_UNIX, "\0" + address.removeprefix("unix-abstract:"))]
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix://") if address.startswith("unix://") else address.removeprefix("unix:"))
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):  # of a server that is gone; the caller holds the lock of the path
                path.unlink()
        return [_bind(socket.AF_UNIX, str(path))]
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    candidates = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    for family, _, _, _, candidate in dict.fromkeys(candidates):
        shared_port = sockets[0].getsockname()[1] if sockets else candidate[1]
        try:
            sockets.append(_bind(family, (candidate[0], shared_port, *candidate[2:])))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # as on a machine without IPv6
                for bound in sockets:
                    bound.close()
                raise
            unavailable = error
    if not sockets:
        raise unavailable or OSError(f"{host} has no address")
    return sockets


def _bind(family: int, address: object) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)  # type: ignore[arg-type]
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class Listener(Generic[ProtocolT]):
    """Accepts connections on one socket.

    Args:
        listening: The socket.
        create_protocol: Creates the protocol of a new connection.
        on_failure: Called with the protocol of a connection that failed before it was made, the name of its peer, and the error.
        has_capacity: Returns whether one more connection is allowed.
        on_refusal: Called with the name of the peer of a connection that is not.
        tls: Returns the TLS context for a new connection; None for no TLS.
        handshake_seconds: Time for the TLS handshake.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        create_protocol: Callable[[], ProtocolT],
        on_failure: Callable[[ProtocolT, object, BaseException], None],
        has_capacity: Callable[[], bool],
        on_refusal: Callable[[object], None],
        tls: Callable[[], ssl.SSLContext] | None,
        handshake_seconds: float,
    ) -> None:
        self._listening, self._create_protocol, self._on_failure = listening, create_protocol, on_failure
        self._has_capacity, self._on_refusal = has_capacity, on_refusal
        self._tls, self._handshake_seconds = tls, handshake_seconds
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections from now on."""
        self._loop = loop
        loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Stop accepting; connections in the TLS handshake are closed, others are set up in a moment."""
        if self._loop is not None:
            self._loop.remove_reader(self._listening)
        self._loop = None
        self._listening.close()
        if self._tls is not None:
            for task in self._connecting:
                task.cancel()

    def _accept(self) -> None:
        assert self._loop is not None
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file descriptors, most likely
                logger.warning("cannot_accept", extra={"reason": str(error)})
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE_SECONDS, self._resume_accepting)
                return
            if not self._has_capacity():
                accepted.close()
                self._on_refusal(peer)
                continue
            task = self._loop.create_task(self._connect(self._loop, accepted, peer, self._create_protocol()))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _resume_accepting(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._listening, self._accept)

    async def _connect(self, loop: asyncio.AbstractEventLoop, accepted: socket.socket, peer: object, protocol: ProtocolT) -> None:
        try:
            accepted.setblocking(False)
            tls = self._tls() if self._tls is not None else None
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seconds = self._handshake_seconds if tls is not None else None
            await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=tls, ssl_handshake_timeout=seconds)
        except BaseException as error:
            accepted.close()
            self._on_failure(protocol, peer, error)
            if not isinstance(error, OSError):  # a failed handshake is no fault of the server
                raise
