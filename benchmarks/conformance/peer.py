"""A raw HTTP/2 client: sends any bytes, and reads frames without judging them."""

import socket
import time
from struct import iter_unpack, pack
from typing import NamedTuple

from hpack import Decoder

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code

NAMES = "DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION".split()
MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE = 0x3, 0x5
SETTINGS_ACK = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
_ERROR_CODE_AT = {frames.RST_STREAM: 0, frames.GOAWAY: 4}


class Frame(NamedTuple):
    """A frame as it was received."""

    kind: int
    flags: int
    stream_id: int
    body: bytes

    @property
    def ends_stream(self) -> bool:
        """Whether the server sends nothing more on the stream."""
        return self.kind in (frames.DATA, frames.HEADERS) and self.flags & frames.END_STREAM != 0

    @property
    def error_code(self) -> int | None:
        """The code of RST_STREAM or GOAWAY; None for another frame."""
        start = _ERROR_CODE_AT.get(self.kind)
        return None if start is None else int.from_bytes(self.body[start : start + 4])

    def __str__(self) -> str:
        name = NAMES[self.kind] if self.kind < len(NAMES) else f"frame of type {self.kind}"
        code = self.error_code
        if code is not None:
            return f"{name} {Code(code).name if code in set(Code) else code}"
        return f"{name} acknowledged" if self.kind in (frames.SETTINGS, frames.PING) and self.flags & frames.ACK else name


class Peer:
    """A connection to a server.

    Args:
        port: Port on loopback.
        silence_seconds: Time after which the server is taken to say nothing more.

    Attributes:
        seen: The frames that arrived since the last bytes were sent, and "closed" for the end of the connection.
        settings: What the server announced, by number.
        fields: The fields of the header blocks that arrived, by stream.
        blocks: These blocks as they were sent.
    """

    def __init__(self, port: int, silence_seconds: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=silence_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._silence_seconds = silence_seconds
        self._received = b""
        self._decoder = Decoder()
        self.seen: list[str] = []
        self.settings = {MAX_FRAME_SIZE: 16_384}
        self.fields: dict[int, list[tuple[bytes, bytes]]] = {}
        self.blocks: dict[int, list[bytes]] = {}

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a connection that is closed already takes them too."""
        self.seen.clear()
        try:
            self._socket.sendall(data)
        except OSError:
            self.seen.append("closed while sending")

    def read(self) -> Frame | None:
        """Return the next frame; None when the server closed the connection, or says nothing for a while.

        SETTINGS and PING are acknowledged, as every client does.
        """
        until = time.monotonic() + self._silence_seconds
        while (frame := self._take_frame()) is None:
            try:
                self._socket.settimeout(max(0.01, until - time.monotonic()))
                data = self._socket.recv(65_536)
            except TimeoutError:
                return None
            except OSError:
                data = b""
            if not data:
                self.seen.append("closed")
                return None
            self._received += data
        self.seen.append(str(frame))
        self._note(frame)
        return frame

    @property
    def closed(self) -> bool:
        """Whether the server closed the connection."""
        return self.seen[-1:] == ["closed"]

    def _take_frame(self) -> Frame | None:
        if len(self._received) < frames.HEADER_BYTES:
            return None
        upper, lower, kind, flags, stream_id = frames.FRAME_HEADER.unpack_from(self._received)
        end = frames.HEADER_BYTES + (upper << 8 | lower)
        if len(self._received) < end:
            return None
        body, self._received = self._received[frames.HEADER_BYTES : end], self._received[end:]
        return Frame(kind, flags, stream_id & frames.MAX_STREAM_ID, body)

    def _note(self, frame: Frame) -> None:
        if frame.kind == frames.SETTINGS and not frame.flags & frames.ACK:
            self.settings |= dict(iter_unpack(">HI", frame.body))
            self._answer(SETTINGS_ACK)
        elif frame.kind == frames.PING and not frame.flags & frames.ACK:
            self._answer(frames.ping(frame.body, ack=True))
        elif frame.kind == frames.HEADERS:
            self.blocks.setdefault(frame.stream_id, []).append(frame.body)
            self.fields.setdefault(frame.stream_id, []).extend(self._decoder.decode(frame.body, raw=True))

    def _answer(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            self.seen.append("closed while sending")


def settings(*pairs: tuple[int, int]) -> bytes:
    """Build a SETTINGS frame of numbers and values."""
    return frames.frame(frames.SETTINGS, 0, 0, b"".join(pack(">HI", *pair) for pair in pairs))
