"""A connection in memory: the asyncio side is recorded, and time moves only when a test moves it."""

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
from mods_grpc.transport.http2.errors import CloseReason, ResetReason
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.stream import Http2Stream
from mods_grpc.transport.sockets.turns import Turns

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
    """Build HEADERS of a request, independent of the compression state."""
    return headers(stream_id, encode([*fields, *more]), end=end)


def headers(stream_id: int, block: bytes, *, end=False, complete=True) -> bytes:
    flags = (frames.END_STREAM if end else 0) | (frames.END_HEADERS if complete else 0)
    return frames.frame(frames.HEADERS, flags, stream_id, block)


def data(stream_id: int, body: bytes = b"", *, end=False) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, body)


def settings(**values: int) -> bytes:
    numbers = {"header_table_size": 1, "enable_push": 2, "max_concurrent": 3, "initial_window": 4, "max_frame": 5, "max_list": 6}
    return frames.frame(frames.SETTINGS, 0, 0, b"".join(pack(">HI", numbers[name], value) for name, value in values.items()))


def parse_frames(received: bytes) -> list[Frame]:
    """Return the frames of these bytes as hyperframe parses them."""
    result, start = [], 0
    while start < len(received):
        frame, length = Frame.parse_frame_header(memoryview(received)[start : start + 9])
        frame.parse_body(memoryview(received)[start + 9 : start + 9 + length])
        result.append(frame)
        start += 9 + length
    assert start == len(received)
    return result


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock moves only when a test moves it."""

    now = 1_000.0

    def time(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock, half a second per step."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            self.settle()

    def settle(self, turns=6) -> None:
        """Run everything that is due."""
        for _ in range(turns):
            self.run_until_complete(asyncio.sleep(0))


class RecordedTransport(asyncio.Transport):
    """The socket. While it is `stuck`, the peer reads nothing, and what is written stays in its buffer.
    With `tls` the connection can't be half-closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("127.0.0.1", 1234)})
        self.loop = loop
        self.protocol: Any = None
        self.high = 65_536
        self.taken = bytearray()
        self.writes = 0
        self.max_buffered = 0
        self.stuck = self.full = self.reading_paused = self.ended = self.aborted = False
        self.tls = False
        self.buffer = bytearray()

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        self.high = high

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data) -> None:
        assert not self.ended, "written after the end"
        assert data
        self.writes += 1
        (self.buffer if self.stuck else self.taken).extend(data)
        self.max_buffered = max(self.max_buffered, len(self.buffer))
        if len(self.buffer) > self.high and not self.full:
            self.full = True
            self.protocol.pause_writing()

    def take(self, count: int) -> None:
        """Let the peer read some of what is stuck."""
        self.taken += self.buffer[:count]
        del self.buffer[:count]

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
        return not self.tls

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = self.ended = True
            self.loop.call_soon(self.protocol.connection_lost, None)


class RecordingReceiver:
    """Records what arrives on a stream."""

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


class RecordingHandler:
    """Records the calls of a connection. With `echoing` it answers each complete request with its body."""

    def __init__(self, *, echoing: bool = False) -> None:
        self.echoing = echoing
        self.receivers: dict[int, RecordingReceiver] = {}
        self.turns = 0
        self.disconnects = 0
        self.accepts = True

    def on_connect(self, connection: Connection) -> bool:
        return self.accepts

    def on_request(self, stream: Http2Stream, end: bool) -> RecordingReceiver:
        receiver = self.receivers[stream.id] = RecordingReceiver(stream, end)
        return receiver

    def on_read_end(self) -> None:
        self.turns += 1
        if self.echoing:
            for number, receiver in tuple(self.receivers.items()):
                if receiver.ended and not receiver.codes:
                    del self.receivers[number]
                    receiver.echo()

    def on_disconnect(self, connection: Connection) -> None:
        self.disconnects += 1


class RecordingObserver:
    """Records why connections ended and streams were reset."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, CloseReason, str]] = []
        self.resets: list[tuple[str, ResetReason, str]] = []

    def on_close(self, peer: str, reason: CloseReason, detail: str) -> None:
        self.ends.append((peer, reason, detail))

    def on_reset(self, peer: str, reason: ResetReason, detail: str) -> None:
        self.resets.append((peer, reason, detail))


class Wire:
    """The peer of a connection: sends bytes, reads frames."""

    def __init__(
        self,
        loop: SteppedLoop,
        limits: Limits | None = None,
        *,
        connection=None,
        send_budget=None,
        echoing=False,
        greet=True,
        accepts=True,
        turns=None,
    ) -> None:
        self.loop = loop
        self.handler = RecordingHandler(echoing=echoing)
        self.handler.accepts = accepts
        self.observer = RecordingObserver()
        self.turns = turns or Turns()
        self.connection = connection or Connection(self.handler, limits or Limits(), send_budget, self.observer, self.turns)
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
        """Deliver bytes as one read of the socket."""
        if not self.transport.aborted:
            self.do(self.connection.data_received, b"".join(parts))

    def read(self) -> list[Frame]:
        """Return the frames that were sent since the last call."""
        received = bytes(self.transport.taken[self._read :])
        self._read = len(self.transport.taken)
        return parse_frames(received)

    def names(self) -> list[str]:
        """Return the types of the frames that were sent since the last call."""
        return [type(frame).__name__.removesuffix("Frame") for frame in self.read()]

    def reset_code(self, stream_id: int) -> int | None:
        """Return the code with which a stream was reset since the last call; None if it was not."""
        codes = [
            frame.error_code for frame in self.read() if type(frame).__name__ == "RstStreamFrame" and frame.stream_id == stream_id
        ]
        assert len(codes) <= 1
        return codes[0] if codes else None

    def end_code(self) -> int | None:
        """Return the code of the GOAWAY that closed the connection, which must be the last frame; None if it is open.
        It must name the reason and the detail that were reported."""
        if not self.transport.ended:
            return None
        last = self.read()[-1]
        assert type(last).__name__ == "GoAwayFrame"
        assert self.connection.closing
        assert not self.connection.table.open
        [(_, reason, detail)] = self.observer.ends
        assert last.additional_data.decode() == f"{reason}: {detail}"
        assert last.error_code == reason.code
        return last.error_code

    def alive(self) -> bool:
        """Return whether the connection still answers a PING."""
        self.read()
        if self.transport.ended:
            return False
        self.send(frames.ping(b"how's it", ack=False))
        return any(type(frame).__name__ == "PingFrame" and frame.opaque_data == b"how's it" for frame in self.read())


class H2Client:
    """A client of python-hyper's h2, which raises if the server breaks the protocol."""

    def __init__(self, loop: SteppedLoop, limits: Limits | None = None, *, echoing=False, **local: int) -> None:
        self.wire = Wire(loop, limits, echoing=echoing, greet=False)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=False))
        self.h2.initiate_connection()
        if local:
            self.h2.update_settings({h2.settings.SettingCodes[name.upper()]: value for name, value in local.items()})
        self._read = 0
        self.events: list[Any] = []
        self.turn()

    def turn(self) -> list[Any]:
        """Exchange bytes until neither side has more to send."""
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
