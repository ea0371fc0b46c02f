"""A direct server on loopback in a thread with its own loop, and a client that sends raw fields and bytes."""

import asyncio
import contextlib
import socket
import threading

import grpc
import h2.config
import h2.connection
import h2.events

from mods_grpc.transport.grpc.server import DirectServer
from mods_grpc.transport.http2.limits import Limits

MAX_BYTES = 1_000_000
REQUEST = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/test.Test/Echo",
    ":authority": "here",
    "content-type": "application/grpc",
    "te": "trailers",
}


async def echo(message, _):
    return message


async def echo_all(_, context):
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message)


ECHOES = {"Echo": grpc.unary_unary_rpc_method_handler(echo), "All": grpc.stream_stream_rpc_method_handler(echo_all)}


class ServerThread:
    """The server, its loop, and the port it listens on."""

    def __init__(self, handlers, **options):
        self._handlers, self._options = handlers, {"max_bytes": MAX_BYTES, "max_connections": 100, "limits": Limits()} | options
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._started.wait(30)

    async def _main(self):
        self.loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self.server = DirectServer(**self._options)
        services = self._handlers(self.server) if callable(self._handlers) else self._handlers
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", services)])
        self.port = self.server.bind("127.0.0.1:0")
        await self.server.start()
        self._started.set()
        await self._stopped.wait()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self, grace=0.0):
        self.do(self.server.stop(grace)).result(30)

    def end(self):
        if self._thread.is_alive():
            self.stop()
            self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running_direct_server(handlers, **options):
    server = ServerThread(handlers, **options)
    try:
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def channel_to(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


class Peer:
    """A client of python-hyper's h2 that sends fields and bytes unchecked."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.events = []
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def send(self, *bodies, fields=None, end=True):
        """Send a request with its body in these pieces, one write each."""
        number = self.h2.get_next_available_stream_id()
        named = REQUEST | (fields or {})
        self.h2.send_headers(number, [item for item in named.items() if item[1] is not None], end_stream=end and not bodies)
        for position, body in enumerate(bodies, 1):
            self._write(number, body, end=end and position == len(bodies))
        self.flush()
        return number

    def _write(self, number, body, *, end):
        """Send a body as the windows allow."""
        left = body
        while True:
            piece = left[: min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)]
            left = left[len(piece) :]
            self.h2.send_data(number, piece, end_stream=end and not left)
            self.flush()
            if not left:
                return
            if not self.h2.local_flow_control_window(number):
                self.read()

    def read(self):
        data = self.socket.recv(65_536)
        assert data, self.events
        self.events += self.h2.receive_data(data)
        self.flush()

    def answer(self, number):
        """Wait for the end of a stream, and return its headers, body and trailers."""
        while not any(isinstance(event, h2.events.StreamEnded) and event.stream_id == number for event in self.events):
            self.read()
        mine = [event for event in self.events if getattr(event, "stream_id", None) == number]
        fields = [dict(event.headers) for event in mine if hasattr(event, "headers")]
        body = b"".join(event.data for event in mine if isinstance(event, h2.events.DataReceived))
        return fields[0], body, fields[-1]

    def status(self, *bodies, **more):
        """Send a request, and return the number of its status, and the headers."""
        first, _, last = self.answer(self.send(*bodies, **more))
        return int(last["grpc-status"]), first


def frame_message(message, flag=0):
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def make_handlers_with_usage(server):
    """Return the echo handlers and `Held`, which returns the larger of the bytes in partial requests and in unsent responses."""

    async def held(_, __):
        return str(max(server.receive_budget.total, server.send_budget.total)).encode()

    return ECHOES | {"Held": grpc.unary_unary_rpc_method_handler(held)}


if __name__ == "__main__":
    with running_direct_server(make_handlers_with_usage) as serving:
        print(serving.port, flush=True)
        threading.Event().wait()
