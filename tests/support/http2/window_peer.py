"""A client on a real socket that opens its flow control windows only when a test says so, as Node's and Java's do: 64 KiB."""

import contextlib
import socket
import ssl
import time
from collections import Counter

from hpack import Decoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from tests.support.http2.wire import data, headers, settings

WINDOW = 65_535
SECONDS = 10.0


def make_fields(path):
    names = {b":method": b"POST", b":scheme": b"http", b":path": path.encode(), b":authority": b"here"}
    return [*names.items(), (b"te", b"trailers"), (b"content-type", b"application/grpc")]


class WindowPeer:
    """Reads whatever arrives, and acknowledges SETTINGS and PING; its windows stay as they are until `open_windows`.

    Args:
        port: Port of the server.
        initial_window: Bytes of an answer that the server may send on a new stream.
        tls: TLS context; None for no TLS.

    Attributes:
        bodies: What each stream has received, by its number.
        statuses: Number of the gRPC status of each call that ended; "RST" and the code if it was reset.
        goaways: Codes of GOAWAY.
        closed: Whether the server has closed the connection.
    """

    def __init__(self, port, *, initial_window=WINDOW, tls=None):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._decoder = Decoder()
        self._unparsed = b""
        self._unopened = Counter()  # bytes by which each window has shrunk; stream 0 is the connection
        self._next = 1
        self.bodies = {}
        self.statuses = {}
        self.goaways = []
        self.closed = False
        self.send(frames.PREFACE, settings(initial_window=initial_window))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, *parts):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):  # `read` notices
            self._socket.sendall(b"".join(parts))

    def call(self, path, *messages, end=True):
        """Start a call with these messages, and return the number of its stream."""
        number, self._next = self._next, self._next + 2
        self.bodies[number] = bytearray()
        self.send(headers(number, encode(make_fields(path))))
        self.write(number, *messages, end=end)
        return number

    def write(self, number, *messages, end=False):
        """Send messages on a stream; together they must be no larger than what the server accepts at once."""
        body = b"".join(b"\0" + len(message).to_bytes(4) + message for message in messages)
        self.send(data(number, body, end=end))

    def read(self, seconds=SECONDS):
        """Handle what arrives next; return False if nothing did in time."""
        self._socket.settimeout(seconds)
        try:
            received = self._socket.recv(65_536)
        except TimeoutError:
            return False
        except (ConnectionResetError, ssl.SSLEOFError):
            received = b""
        self.closed = not received
        self._unparsed += received
        while len(self._unparsed) >= frames.HEADER_BYTES:
            frame, length = Frame.parse_frame_header(memoryview(self._unparsed)[: frames.HEADER_BYTES])
            end = frames.HEADER_BYTES + length
            if len(self._unparsed) < end:
                break
            frame.parse_body(memoryview(self._unparsed)[frames.HEADER_BYTES : end])
            self._unparsed = self._unparsed[end:]
            self._handle(frame, length)
        return True

    def read_until(self, is_enough):
        """Read until it is enough."""
        until = time.monotonic() + SECONDS
        while not is_enough():
            assert time.monotonic() < until, (self.statuses, self.goaways, Counter(map(len, self.bodies.values())))
            self.read(0.1)

    def read_all(self):
        """Read, with open windows, until all calls have ended or the connection is closed."""
        until = time.monotonic() + SECONDS
        while len(self.statuses) < len(self.bodies) and not self.closed:
            assert time.monotonic() < until, (self.statuses, self.goaways)
            self.open_windows()
            self.read(0.1)

    def open_windows(self):
        """Let the server send as much as has been read since the last time."""
        opened, self._unopened = self._unopened, Counter()
        for number, count in opened.items():
            if number not in self.statuses:
                self.send(frames.window_update(number, count))

    def messages(self, number):
        """Return the messages that a call has received whole."""
        body, whole = bytes(self.bodies[number]), []
        while len(body) >= 5 and len(body) >= (end := 5 + int.from_bytes(body[1:5])):
            whole.append(body[5:end])
            body = body[end:]
        return whole

    def _handle(self, frame, length):
        number = frame.stream_id
        match frame:
            case DataFrame():
                self.bodies[number] += frame.data
                self._unopened.update({0: length, number: length})
            case HeadersFrame():
                fields = dict(self._decoder.decode(frame.data))
                if "grpc-status" in fields:
                    self.statuses[number] = int(fields["grpc-status"])
            case RstStreamFrame():
                self.statuses.setdefault(number, f"RST {frame.error_code}")
            case SettingsFrame() if "ACK" not in frame.flags:
                self.send(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
            case PingFrame() if "ACK" not in frame.flags:
                self.send(frames.ping(frame.opaque_data, ack=True))
            case GoAwayFrame():
                self.goaways.append(frame.error_code)
