"""The direct server: accepts connections, starts handlers, and shuts down gracefully. It has the surface of `grpc.aio.Server`."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc

from mods_grpc.transport.grpc.call import Call
from mods_grpc.transport.grpc.handler_task import HandlerTask
from mods_grpc.transport.grpc.request_metadata import RejectedRequestError, RequestHeaders, parse_headers
from mods_grpc.transport.grpc.response_metadata import encode_trailers
from mods_grpc.transport.grpc.router import Router
from mods_grpc.transport.http2.connection import Connection, format_peer
from mods_grpc.transport.http2.errors import UNOBSERVED, CloseReason, EndObserver
from mods_grpc.transport.http2.flow_control import MemoryBudget
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.request_fields import RequestFields
from mods_grpc.transport.http2.stream import DISCARD, Http2Stream, Receiver
from mods_grpc.transport.sockets.listener import Listener, bind_sockets
from mods_grpc.transport.sockets.tls import negotiated_http2, read_auth_context
from mods_grpc.transport.sockets.turns import Turns

MAX_LARGE_MESSAGES = 8  # of the largest size that may be in flight at a time, in either direction
CLOSE_SECONDS = 1.0  # after the grace: for cancelled handlers and their responses, then for connections to close


class DirectServer:
    """A gRPC server on asyncio, without grpcio's core. Create it inside a running event loop.

    Args:
        interceptors: Wrap every handler.
        limits: Limits of each connection.
        max_bytes: Largest accepted message.
        max_connections: Connections open at a time; more are closed.
        observer: Learns why connections end or are refused, and why streams are reset.

    Attributes:
        receive_budget: Memory for messages that have arrived in part.
        send_budget: Memory for responses that their peers do not take.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        *,
        limits: Limits,
        max_bytes: int,
        max_connections: int,
        observer: EndObserver = UNOBSERVED,
    ) -> None:
        self.max_bytes = max_bytes
        self.receive_budget = MemoryBudget(MAX_LARGE_MESSAGES * max_bytes)
        self.send_budget = MemoryBudget(MAX_LARGE_MESSAGES * max_bytes)
        self._loop = asyncio.get_running_loop()
        self._router = Router(interceptors)
        self._limits = limits
        self._turns = Turns()
        self._max_connections = max_connections
        self._observer = observer
        self._listeners: list[Listener[Connection]] = []
        self._accepted: set[Connection] = set()  # including those in the TLS handshake
        self._connections: set[Connection] = set()
        self._auth_contexts: dict[Connection, Mapping[str, Iterable[bytes]]] = {}
        self._calls: dict[Call, Any] = {}  # and their handlers
        self._new_calls: list[Call] = []  # of the current read
        self._ready: list[tuple[Call, bytes | None]] = []  # handlers to start at its end, with the message of a unary request
        self._waiting: list[HandlerTask] = []  # started in this loop iteration, and not finished
        self._round_end_hooks: list[Callable[[], None]] = []
        self._round_end_scheduled = False
        self._changed = asyncio.Event()
        self._stopping = False

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add the methods of services."""
        self._router.add(generic_rpc_handlers)

    def bind(self, address: str, tls: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Bind an address: host:port, unix:path or unix-abstract:name.

        Args:
            address: The address.
            tls: Returns the TLS context for a new connection; None for no TLS.

        Returns:
            The port; 0 for a unix socket.

        Raises:
            OSError: The address can't be bound.
        """
        sockets = bind_sockets(address)
        for bound in sockets:
            self._listeners.append(
                Listener(
                    bound,
                    create_protocol=self._new_connection,
                    on_failure=self._on_failure,
                    has_capacity=self._has_capacity,
                    on_refusal=self._on_refusal,
                    tls=tls,
                    handshake_seconds=self._limits.handshake_seconds,
                )
            )
        name = sockets[0].getsockname()
        return int(name[1]) if sockets[0].family in (socket.AF_INET, socket.AF_INET6) else 0

    async def start(self) -> None:
        """Accept connections from now on."""
        for listener in self._listeners:
            listener.start(self._loop)

    async def stop(self, grace: float) -> bool:
        """Accept nothing new, let calls finish and peers read their responses, then close.

        Args:
            grace: Seconds for that; calls that take longer end with UNAVAILABLE, and have `CLOSE_SECONDS` to send it.

        Returns:
            Whether every call was over in time: its handler had ended, and its response was sent whole.
        """
        self._stopping = True
        deadline = self._loop.time() + grace
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self._connections):
            connection.go_away()
        await self._wait_for(lambda: not self._calls, deadline)
        in_time = not self._calls
        if not in_time:
            deadline = self._loop.time() + CLOSE_SECONDS
            tasks = [call.task for call in self._calls if call.task is not None]
            for call in tuple(self._calls):
                call.reject(RejectedRequestError(grpc.StatusCode.UNAVAILABLE, "the server is shutting down"))
            if tasks:
                await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        # A call is over when its response was queued. Connections close by themselves when it was sent and read.
        await self._wait_for(lambda: not self._connections, deadline)
        in_time = in_time and not any(connection.has_unsent for connection in self._connections)
        for connection in tuple(self._connections):
            connection.close()
        await self._wait_for(lambda: not self._connections, self._loop.time() + CLOSE_SECONDS)
        for connection in tuple(self._connections):
            connection.transport.abort()
        return in_time

    def on_round_end(self, function: Callable[[], None]) -> None:
        """Have a function called when the handlers of all calls that arrived in this loop iteration have started.

        Responses that it completes are sent without another iteration. Handlers use it to process their calls as a batch.
        """
        self._round_end_hooks.append(function)
        self._schedule_round_end()

    # Called by connections

    def on_connect(self, connection: Connection) -> bool:
        """Accept a connection; False refuses it."""
        if self._stopping:
            self._refuse(connection, CloseReason.SHUTDOWN, "it was accepted before the shutdown, and set up after it")
            return False
        if not negotiated_http2(connection.transport):
            self._refuse(connection, CloseReason.TLS_FAILED, "ALPN did not choose h2")
            return False
        self._connections.add(connection)
        return True

    def on_disconnect(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._accepted.discard(connection)
        self._auth_contexts.pop(connection, None)
        self._changed.set()

    def on_request(self, stream: Http2Stream, end: bool) -> Receiver:
        """Accept a request, or reject it with a status."""
        try:
            if stream.too_large:
                text = f"the metadata is larger than the {self._limits.max_header_list} bytes that the server accepts"
                raise RejectedRequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            headers = _parse_cached(stream.request)
            handler = self._router.find(headers.method, headers.metadata)
            if handler is None:
                raise RejectedRequestError(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
        except RejectedRequestError as error:
            block = encode_trailers(error.code, error.details, (), alone=True, http_status=error.http_status)
            stream.send_headers(block, end=True)
            return DISCARD
        call = Call(stream, headers, self, unary=not handler.request_streaming)
        self._calls[call] = handler
        self._new_calls.append(call)
        if handler.request_streaming:
            self._ready.append((call, None))
        if end:
            call.on_data(b"", True)
        return call

    def on_read_end(self) -> None:
        """Start the handlers of the requests that arrived together. Calls that were cancelled in the same read cost nothing."""
        ready, self._ready = self._ready, []
        for call, message in ready:
            if not call.done() and not call.check_deadline():
                self._start_handler(call, message)
        new_calls, self._new_calls = self._new_calls, []
        for call in new_calls:
            call.start_deadline_timer(self._loop)

    # Called by calls

    def start_call(self, call: Call, message: bytes) -> None:
        """Start the handler of a unary request at the end of the read."""
        self._ready.append((call, message))

    def on_call_end(self, call: Call) -> None:
        """Forget a call."""
        self._calls.pop(call, None)
        if self._stopping:
            self._changed.set()

    def auth_context(self, connection: Connection) -> Mapping[str, Iterable[bytes]]:
        """Return the properties of the peer of a connection that TLS proves."""
        if connection not in self._auth_contexts:
            self._auth_contexts[connection] = read_auth_context(connection.transport)
        return self._auth_contexts[connection]

    def _start_handler(self, call: Call, message: bytes | None) -> None:
        handler = self._calls[call]
        task = self._router.create_task(handler, call, message)
        if handler.request_streaming or handler.response_streaming:
            call.task = task.into_task(self._loop)
        elif not task.start():
            self._waiting.append(task)
            self._schedule_round_end()

    def _schedule_round_end(self) -> None:
        if not self._round_end_scheduled:
            self._round_end_scheduled = True
            self._loop.call_soon(self._end_round)

    def _end_round(self) -> None:
        """Call the hooks of this loop iteration; handlers that still wait then get a task each."""
        self._round_end_scheduled = False
        hooks, self._round_end_hooks = self._round_end_hooks, []
        for hook in hooks:
            hook()
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            if not task.resume():
                task.call.task = task.into_task(self._loop)
                if task.call.done():
                    task.call.task.cancel()

    def _new_connection(self) -> Connection:
        connection = Connection(self, self._limits, self.send_budget, self._observer, self._turns)
        self._accepted.add(connection)
        return connection

    def _has_capacity(self) -> bool:
        return len(self._accepted) < self._max_connections

    def _on_refusal(self, name: object) -> None:
        self._observer.on_close(
            format_peer(name), CloseReason.TOO_MANY_CONNECTIONS, f"{self._max_connections} connections are open"
        )

    def _refuse(self, connection: Connection, reason: CloseReason, detail: str) -> None:
        self._accepted.discard(connection)
        self._observer.on_close(connection.peer, reason, detail)

    def _on_failure(self, connection: Connection, name: object, error: BaseException) -> None:
        """Forget a connection that was lost while it was set up: in the TLS handshake, or by the shutdown."""
        reason, detail = _explain_failure(error)
        if connection in self._connections:
            connection.abandon(reason, detail)
        else:
            self._accepted.discard(connection)
            self._observer.on_close(format_peer(name), reason, detail)

    async def _wait_for(self, condition: Callable[[], bool], deadline: float) -> None:
        """Return when the condition holds, or at the deadline on the clock of the loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()


def _parse_cached(request: RequestFields) -> RequestHeaders:
    """Parse the headers of a request, once for all requests that share their header block."""
    if request.parsed is None:
        request.parsed = parse_headers(request.fields)
    assert isinstance(request.parsed, RequestHeaders)
    return request.parsed


def _explain_failure(error: BaseException) -> tuple[CloseReason, str]:
    """Return why a connection was lost before it was made, and in which words."""
    if isinstance(error, ssl.SSLError):  # the reason is OpenSSL's name, such as PEER_DID_NOT_RETURN_A_CERTIFICATE
        return CloseReason.TLS_FAILED, (error.reason or "unknown").lower().replace("_", " ")
    if isinstance(error, ConnectionAbortedError):
        return CloseReason.TLS_TIMEOUT, "the TLS handshake took too long"
    if isinstance(error, asyncio.CancelledError):
        return CloseReason.SHUTDOWN, "the server shut down while the connection was set up"
    if isinstance(error, OSError):
        return CloseReason.PEER_CLOSED, "the peer closed the connection before it was set up"
    return CloseReason.INTERNAL_ERROR, "the connection could not be set up"
