"""A connection of the direct transport in memory: asyncio's side is recorded here, time moves when a test says so."""

import asyncio
from collections.abc import Callable
from struct import pack
from typing import Any

import h2.config
import h2.connection
from hpack import Encoder
from hyperframe.frame import Frame

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.connection import Connection
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.stream import Http2Stream

REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/echo"),
    (b":authority", b"sensor"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
OPENING = encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
TRAILERS = encode([(b"grpc-status", b"0")])
SETTINGS_ACK = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
HELLO = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, b"") + SETTINGS_ACK


def request(stream_id: int, fields=REQUEST, *, end=False, more=()) -> bytes:
    """HEADERS of a request, without any compression state."""
    return headers(stream_id, encode([*fields, *more]), end=end)


def headers(stream_id: int, block: bytes, *, end=False, complete=True) -> bytes:
    flags = (frames.END_STREAM if end else 0) | (frames.END_HEADERS if complete else 0)
    return frames.frame(frames.HEADERS, flags, stream_id, block)


def data(stream_id: int, body: bytes = b"", *, end=False) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, body)


def settings(**values: int) -> bytes:
    numbers = {"header_table_size": 1, "enable_push": 2, "max_concurrent": 3, "initial_window": 4, "max_frame": 5, "max_list": 6}
    return frames.frame(frames.SETTINGS, 0, 0, b"".join(pack(">HI", numbers[name], value) for name, value in values.items()))


def parsed(received: bytes) -> list[Frame]:
    """What was sent, as hyperframe reads it."""
    found, start = [], 0
    while start < len(received):
        frame, length = Frame.parse_frame_header(memoryview(received)[start : start + 9])
        frame.parse_body(memoryview(received)[start + 9 : start + 9 + length])
        found.append(frame)
        start += 9 + length
    assert start == len(received)
    return found


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands until it is moved."""

    now = 1_000.0

    def time(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass, half a second at a step."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            self.settle()

    def settle(self, turns=6) -> None:
        """Let everything that is due happen."""
        for _ in range(turns):
            self.run_until_complete(asyncio.sleep(0))


class RecordedTransport(asyncio.Transport):
    """The socket. While it is `stuck`, the peer reads nothing, and what is written stays in its buffer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("127.0.0.1", 1234)})
        self.loop = loop
        self.protocol: Any = None
        self.high = 65_536
        self.taken = bytearray()
        self.writes = 0
        self.most = 0
        self.stuck = self.full = self.reading_paused = self.ended = self.aborted = False
        self.buffer = bytearray()

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        self.high = high

    def write(self, data) -> None:
        assert not self.ended, "written after the end"
        assert data
        self.writes += 1
        (self.buffer if self.stuck else self.taken).extend(data)
        self.most = max(self.most, len(self.buffer))
        if len(self.buffer) > self.high and not self.full:
            self.full = True
            self.protocol.pause_writing()

    def unstick(self) -> None:
        self.stuck = False
        self.taken += self.buffer
        self.buffer.clear()
        if self.full:
            self.full = False
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = self.ended = True
            self.loop.call_soon(self.protocol.connection_lost, None)


class Heard:
    """Records what came on a stream, and does what the test says."""

    def __init__(self, stream: Http2Stream, ended: bool) -> None:
        self.stream = stream
        self.body = bytearray()
        self.ended = ended
        self.codes: list[int | None] = []

    def on_data(self, data: bytes, end: bool) -> None:
        assert not self.ended
        assert not self.codes
        self.body += data
        self.ended = end

    def on_close(self, code: int | None) -> None:
        self.codes.append(code)
        assert len(self.codes) == 1

    def echo(self) -> None:
        self.stream.release_window(len(self.body))
        self.stream.send_headers(OPENING)
        self.stream.send_data(bytes(self.body))
        self.stream.send_headers(TRAILERS, end=True)


class Listener:
    """Records what a connection tells. With `echoing` it answers a request when it has ended."""

    def __init__(self, *, echoing: bool = False) -> None:
        self.echoing = echoing
        self.streams: dict[int, Heard] = {}
        self.turns = 0
        self.gone = 0
        self.room = True

    def on_connect(self, connection: Connection) -> bool:
        return self.room

    def on_request(self, stream: Http2Stream, end: bool) -> Heard:
        heard = self.streams[stream.id] = Heard(stream, end)
        return heard

    def on_read_end(self) -> None:
        self.turns += 1
        if self.echoing:
            for number, heard in tuple(self.streams.items()):
                if heard.ended and not heard.codes:
                    del self.streams[number]
                    heard.echo()

    def on_disconnect(self, connection: Connection) -> None:
        self.gone += 1


class Wire:
    """A peer's end of a connection."""

    def __init__(
        self,
        loop: SteppedLoop,
        limits: Limits | None = None,
        *,
        connection=None,
        send_budget=None,
        echoing=False,
        greet=True,
        room=True,
    ) -> None:
        self.loop = loop
        self.listener = Listener(echoing=echoing)
        self.listener.room = room
        self.connection = connection or Connection(self.listener, limits or Limits(), send_budget)
        self.transport = RecordedTransport(loop)
        self.transport.protocol = self.connection
        self.hpack = Encoder()
        self._read = 0
        self.do(self.connection.connection_made, self.transport)
        if greet:
            self.send(HELLO)
            self.read()

    def do(self, what: Callable[..., Any], *arguments: Any) -> Any:
        async def once() -> Any:
            return what(*arguments)

        result = self.loop.run_until_complete(once())
        self.loop.settle()
        return result

    def send(self, *parts: bytes) -> None:
        """Hand bytes over as one read of the socket; it is not read while reading is paused."""
        if not self.transport.aborted:
            self.do(self.connection.data_received, b"".join(parts))

    def read(self) -> list[Frame]:
        """Tell what was sent since the last time."""
        received = bytes(self.transport.taken[self._read :])
        self._read = len(self.transport.taken)
        return parsed(received)

    def names(self) -> list[str]:
        """Tell the types of what was sent since the last time."""
        return [type(frame).__name__.removesuffix("Frame") for frame in self.read()]

    def reset_code(self, stream_id: int) -> int | None:
        """Tell how a stream was reset, in what was sent since the last time; None where it was not."""
        codes = [
            frame.error_code for frame in self.read() if type(frame).__name__ == "RstStreamFrame" and frame.stream_id == stream_id
        ]
        assert len(codes) <= 1
        return codes[0] if codes else None

    def end_code(self) -> int | None:
        """Tell with what the connection was closed, as all must be told; None where it was not."""
        if not self.transport.ended:
            return None
        last = self.read()[-1]
        assert type(last).__name__ == "GoAwayFrame"
        assert self.connection.closing
        assert not self.connection.table.open
        return last.error_code

    def alive(self) -> bool:
        """Tell whether the connection still answers."""
        self.read()
        if self.transport.ended:
            return False
        self.send(frames.ping(b"how's it", ack=False))
        return any(type(frame).__name__ == "PingFrame" and frame.opaque_data == b"how's it" for frame in self.read())


class Client:
    """python-hyper's h2 as a client on a wire: it raises where the server breaks the protocol."""

    def __init__(self, loop: SteppedLoop, limits: Limits | None = None, *, echoing=False, **local: int) -> None:
        self.wire = Wire(loop, limits, echoing=echoing, greet=False)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=False))
        self.h2.local_settings.update({h2.settings.SettingCodes[name.upper()]: value for name, value in local.items()})
        self.h2.initiate_connection()
        self._read = 0
        self.events: list[Any] = []
        self.turn()

    def turn(self) -> list[Any]:
        """Exchange bytes until neither has anything to say."""
        new: list[Any] = []
        while True:
            out = self.h2.data_to_send()
            if out:
                self.wire.send(out)
            received = bytes(self.wire.transport.taken[self._read :])
            self._read += len(received)
            if received:
                new += self.h2.receive_data(received)
            if not out and not received:
                self.events += new
                return new
