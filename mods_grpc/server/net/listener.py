"""Listeners: the address of the server and the transport that serves it, grpcio or this package's own."""

import errno
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

from mods_grpc.server.config import ServerConfig
from mods_grpc.server.scheduling.micro_batcher import RoundHook
from mods_grpc.server.security.file_watcher import FileWatcher
from mods_grpc.server.security.tls import TlsFiles, lock_socket
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.transport.grpc.server import DirectServer
from mods_grpc.transport.http2.limits import HANDSHAKE_SECONDS, KEEPALIVE_SECONDS, PING_TIMEOUT_SECONDS, Limits

_LISTEN_REASONS = {
    errno.EADDRINUSE: "another server listens there; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "no interface of this machine has this address",
    errno.EACCES: "this user may not; ports below 1024 need the capability CAP_NET_BIND_SERVICE",
    errno.ENOENT: "the folder of the socket is missing",
}

Interceptors = Sequence[grpc.aio.ServerInterceptor]


class RpcServer(Protocol):
    """A server of RPCs, independent of the transport."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler], /) -> None:
        """Register the handlers of services."""

    async def start(self) -> None:
        """Start serving."""

    async def stop(self, grace: float, /) -> bool:
        """Accept no new calls, and cancel those still running after `grace` seconds. Returns whether there were none."""


class RpcListener(Protocol):
    """Creates a server and binds it to its address.

    Attributes:
        on_round_end: Schedules a function to run after all calls that arrived in the current iteration of the event loop have
            started; None if the transport can't say when that is.
    """

    @property
    def on_round_end(self) -> RoundHook | None: ...  # noqa: D102

    def create_server(self, interceptors: Interceptors, metrics: Metrics) -> RpcServer:
        """Create the server, whose connections are counted in `metrics` if the transport can. Needs a running event loop."""

    def bind(self) -> int:
        """Bind the server and return its port; 0 for a unix socket.

        Raises:
            OSError: The address can't be bound.
        """

    def refresh_credentials(self) -> None:
        """Read the TLS files now."""

    def close(self) -> None:
        """Release the address."""


def create_listener(config: ServerConfig) -> RpcListener:
    """Create the listener of the configured transport.

    Raises:
        OSError: A TLS file can't be read, or another server holds the socket.
        ValueError: The TLS options are inconsistent.
    """
    return DirectListener(config) if config.transport == "direct" else GrpcioListener(config)


class LockedSocket:
    """Holds the lock file of a unix socket; nothing for other addresses.

    Args:
        config: The address.
        tls: Watches the TLS files; None without TLS.
    """

    def __init__(self, config: ServerConfig, tls: FileWatcher[Any] | None) -> None:
        self._tls = tls
        self._lock = lock_socket(config.address)

    def refresh_credentials(self) -> None:
        """Read the TLS files now."""
        if self._tls is not None:
            self._tls.refresh()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()


class GrpcioServer:
    """A server of gRPC's own library."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler], /) -> None:
        """Register the handlers of services."""
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    async def start(self) -> None:
        """Start serving."""
        await self._server.start()

    async def stop(self, grace: float, /) -> bool:
        """Accept no new calls, and cancel those still running after `grace` seconds; see `RpcServer.stop`."""
        started = time.monotonic()
        await self._server.stop(grace)  # which does not say whether it had to
        return not grace or time.monotonic() - started < grace


class GrpcioListener(LockedSocket):
    """Listens with gRPC's own library."""

    on_round_end = None

    def __init__(self, config: ServerConfig) -> None:
        files = TlsFiles.from_config(config)
        self._config = config
        watcher: FileWatcher[Any] | None = None
        self._credentials: grpc.ServerCredentials | None = None
        if files is not None:
            self._credentials, watcher = files.make_grpcio_credentials()
        super().__init__(config, watcher)

    def create_server(self, interceptors: Interceptors, metrics: Metrics) -> RpcServer:  # noqa: ARG002 - it tells nothing
        """Create a server of grpcio, which does not say what becomes of its connections."""
        options, compression = make_channel_options(self._config), grpc.Compression.NoCompression
        self._server = grpc.aio.server(interceptors=interceptors or None, options=options, compression=compression)
        return GrpcioServer(self._server)

    def bind(self) -> int:
        """Bind the server and return its port; see `RpcListener.bind`."""
        address = self._config.address
        try:
            if self._credentials is not None:
                return self._server.add_secure_port(address, self._credentials)
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise make_listen_error(address, error) from error


class DirectListener(LockedSocket):
    """Listens with this package's own HTTP/2 transport."""

    def __init__(self, config: ServerConfig) -> None:
        files = TlsFiles.from_config(config)
        self._config = config
        self._ssl_context = files.watch_ssl_context() if files else None
        super().__init__(config, self._ssl_context)

    def create_server(self, interceptors: Interceptors, metrics: Metrics) -> RpcServer:
        """Create a server of the direct transport."""
        config = self._config
        limits = Limits(
            max_concurrent_streams=config.max_concurrent_streams,
            max_header_list=config.max_metadata_bytes,
        )
        self._server = DirectServer(
            interceptors,
            limits=limits,
            max_bytes=config.max_message_bytes,
            max_connections=config.max_connections,
            observer=metrics.observe_connections(),
        )
        return self._server

    def on_round_end(self, function: Callable[[], None]) -> None:
        """Call `function` once, after all calls that arrived in the current iteration of the event loop have started."""
        self._server.on_round_end(function)

    def bind(self) -> int:
        """Bind the server and return its port; see `RpcListener.bind`."""
        try:
            return self._server.bind(self._config.address, self._ssl_context.read if self._ssl_context else None)
        except OSError as error:
            raise make_listen_error(self._config.address, error) from error


def make_listen_error(address: str, error: Exception) -> OSError:
    """Return the error for an address that can't be bound, with the reason as far as the transport tells it."""
    if isinstance(error, socket.gaierror):
        return OSError(f"cannot listen on {address}: the host name is unknown")
    reason = _LISTEN_REASONS.get(getattr(error, "errno", None) or 0)
    return OSError(f"cannot listen on {address}: {reason or 'is another server running there?'}")


def make_channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Return the options of grpcio that bound the resources of a peer. Each was measured to have an effect."""
    return [
        ("grpc.http2.bdp_probe", 0),  # bounds unread input to 64 KiB per stream instead of 8 MiB
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        ("grpc.http.overload_protection", 0),  # would count ended calls too and reject clients within the limit
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_SECONDS * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),  # else a lost connection without calls is kept for good
        ("grpc.http2.ping_timeout_ms", int(PING_TIMEOUT_SECONDS * 1000)),  # keepalive_timeout_ms alone has no effect
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.so_reuseport", 0),  # a second server must not share the port silently
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", config.max_metadata_bytes),
    ]
