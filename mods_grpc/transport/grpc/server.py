"""The server: connections in, calls to their handlers, and an end in order. It has the surface of `grpc.aio.Server`."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc

from mods_grpc.transport.grpc import response_metadata as response_headers
from mods_grpc.transport.grpc.call import Call
from mods_grpc.transport.grpc.handler_task import Run
from mods_grpc.transport.grpc.request_metadata import RefusedError, RequestHeaders, read_headers
from mods_grpc.transport.grpc.router import Methods
from mods_grpc.transport.http2.connection import Connection
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.memory_budget import Room
from mods_grpc.transport.http2.request_fields import RequestHead
from mods_grpc.transport.http2.stream import NOBODY, Http2Stream, Receiver
from mods_grpc.transport.sockets.listener import Listening, bound
from mods_grpc.transport.sockets.tls import auth_context, speaks_http2

LARGE_MESSAGES = 8  # of the largest size, that may be on their way at a time, in either direction
LAST_SECONDS = 1.0  # in which cancelled handlers end and connections say what they have to say


class DirectServer:
    """A gRPC server on asyncio, without gRPC's own. Make it inside a running event loop.

    Args:
        interceptors: What stands before every handler.
        limits: What a connection allows its peer.
        max_bytes: Largest message that is taken.
        max_connections: How many there may be at a time.

    Attributes:
        arriving: Memory for large messages that have come in part.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        *,
        limits: Limits,
        max_bytes: int,
        max_connections: int,
    ) -> None:
        self.max_bytes = max_bytes
        self.arriving = Room(LARGE_MESSAGES * max_bytes)
        self._unsent = Room(LARGE_MESSAGES * max_bytes)
        self._loop = asyncio.get_running_loop()
        self._methods = Methods(interceptors)
        self._limits = limits
        self._max_connections = max_connections
        self._listening: list[Listening[Connection]] = []
        self._accepted: set[Connection] = set()  # those included that are at the handshake
        self._connections: set[Connection] = set()
        self._shown: dict[Connection, Mapping[str, Iterable[bytes]]] = {}
        self._calls: dict[Call, Any] = {}  # and their handlers
        self._opened: list[Call] = []  # since the turn began
        self._ready: list[tuple[Call, bytes | None]] = []  # since then: may be answered, with the message of a unary request
        self._begun: list[Run] = []  # in this round, and waiting
        self._at_end: list[Callable[[], None]] = []
        self._planned = False  # whether the end of the round is
        self._changed = asyncio.Event()
        self._stopping = False

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add the methods of services."""
        self._methods.add(generic_rpc_handlers)

    def bind(self, address: str, tls: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Take an address: host:port, unix:path or unix-abstract:name.

        Args:
            address: The address.
            tls: Tells what the server proves itself with, anew for each connection; None for none.

        Returns:
            The port; 0 for a unix socket.

        Raises:
            OSError: It can't be had.
        """
        sockets = bound(address)
        for one in sockets:
            listening = Listening(one, protocol=self._connection, failed=self._accepted.discard, room=self._room, tls=tls)
            self._listening.append(listening)
        name = sockets[0].getsockname()
        return int(name[1]) if sockets[0].family in (socket.AF_INET, socket.AF_INET6) else 0

    async def start(self) -> None:
        """Accept connections from now on."""
        for each in self._listening:
            each.start(self._loop)

    async def stop(self, grace: float | None) -> None:
        """Take nothing new, wait for the calls that there are, and end those that take longer than the grace, in seconds."""
        self._stopping = True
        for each in self._listening:
            each.close()
        for connection in tuple(self._connections):
            connection.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace or 0.0):
                await self._until(lambda: not self._calls)
        tasks = [call.task for call in self._calls if call.task is not None]
        for call in tuple(self._calls):
            call.refuse(RefusedError(grpc.StatusCode.UNAVAILABLE, "the server is shutting down"))
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_SECONDS)
        for connection in tuple(self._connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._until(lambda: not self._connections)
        for connection in tuple(self._connections):
            connection.transport.abort()

    def at_end_of_round(self, function: Callable[[], None]) -> None:
        """Have a function called when the calls that came in this round of the loop have begun.

        What it completes is answered without another round: the way for handlers to do together what came together.
        """
        self._at_end.append(function)
        self._plan_end()

    # What a connection tells

    def connected(self, connection: Connection) -> bool:
        """Take note of a connection, and tell whether it may stay."""
        if self._stopping or not speaks_http2(connection.transport):
            self._accepted.discard(connection)
            return False
        self._connections.add(connection)
        return True

    def lost(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        self._connections.discard(connection)
        self._accepted.discard(connection)
        self._shown.pop(connection, None)
        self._changed.set()

    def opened(self, stream: Http2Stream, end: bool) -> Receiver:
        """Take a request."""
        try:
            if stream.oversized:
                raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the metadata is larger than the server takes")
            headers = _headers(stream.head)
            handler = self._methods.find(headers.method, headers.metadata)
            if handler is None:
                raise RefusedError(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
        except RefusedError as error:
            block = response_headers.trailers(error.code, error.details, (), alone=True, http_status=error.http_status)
            stream.send_headers(block, end=True)
            return NOBODY
        call = Call(stream, headers, self, unary=not handler.request_streaming)
        self._calls[call] = handler
        self._opened.append(call)
        if handler.request_streaming:
            self._ready.append((call, None))
        if end:
            call.data(b"", True)
        return call

    def turn_ended(self) -> None:
        """Run the handlers of what came together. One that was given up in the same breath costs nothing more."""
        ready, self._ready = self._ready, []
        for call, message in ready:
            if not call.done() and not call.expired():
                self._begin(call, message)
        opened, self._opened = self._opened, []
        for call in opened:
            call.watch(self._loop)

    # What a call tells

    def begin(self, call: Call, message: bytes) -> None:
        """Have a unary request answered."""
        self._ready.append((call, message))

    def over(self, call: Call) -> None:
        """Forget a call."""
        self._calls.pop(call, None)
        if self._stopping:
            self._changed.set()

    def auth_context(self, connection: Connection) -> Mapping[str, Iterable[bytes]]:
        """Tell who is at the other end of a connection."""
        if connection not in self._shown:
            self._shown[connection] = auth_context(connection.transport)
        return self._shown[connection]

    def _begin(self, call: Call, message: bytes | None) -> None:
        handler = self._calls[call]
        run = self._methods.run(handler, call, message)
        if handler.request_streaming or handler.response_streaming:
            call.task = run.in_task(self._loop)
        elif not run.begin():
            self._begun.append(run)
            self._plan_end()

    def _plan_end(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._end_round)

    def _end_round(self) -> None:
        """Do what waits for everything that came in one round of the loop; handlers that still wait then get tasks."""
        self._planned = False
        at_end, self._at_end = self._at_end, []
        for function in at_end:
            function()
        begun, self._begun = self._begun, []
        for run in begun:
            if not run.go_on():
                run.call.task = run.in_task(self._loop)
                if run.call.done():
                    run.call.task.cancel()

    def _connection(self) -> Connection:
        connection = Connection(self, self._limits, self._unsent)
        self._accepted.add(connection)
        return connection

    def _room(self) -> bool:
        return len(self._accepted) < self._max_connections

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._changed.clear()
            await self._changed.wait()


def _headers(head: RequestHead) -> RequestHeaders:
    """Read the headers of a request, once for all requests that begin with the same bytes."""
    if head.parsed is None:
        head.parsed = read_headers(head.fields)
    assert isinstance(head.parsed, RequestHeaders)
    return head.parsed
