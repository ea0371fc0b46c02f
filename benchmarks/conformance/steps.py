"""What a case consists of: bytes to send, and what the server must do then."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from benchmarks.conformance.peer import Frame, Peer, settings
from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code
from mods_grpc.transport.http2.hpack import encode

METHOD = b"/mods.v1.ModelService/ListModels"
FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", METHOD),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
BLOCK = encode(FIELDS)
MESSAGE = bytes(5)  # the empty message, with gRPC's prefix
HELLO = frames.PREFACE + settings()


class Differs(Exception):  # noqa: N818 - a result, not an error
    """The server did something else than the case expects."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the server must do. GOAWAY with an error, and the end of the connection, are something else unless allowed here.

    Args:
        text: In words.
        decides: Says of a frame whether it is the one that counts.
        fulfils: Says of that frame whether it is right.
        codes: Codes of a GOAWAY that will do.
        or_close: Whether the end of the connection will do.
    """

    text: str
    decides: Callable[[Frame], bool] = lambda _: False
    fulfils: Callable[[Frame, Peer], bool] = lambda *_: True
    codes: tuple[Code, ...] = ()
    or_close: bool = False

    def await_from(self, peer: Peer) -> None:
        """Read until the server did it.

        Raises:
            Differs: It did something else, or nothing.
        """
        while (frame := peer.read()) is not None:
            if frame.kind == frames.GOAWAY and frame.error_code:
                if frame.error_code in self.codes:
                    return
                if self.codes or not self.or_close:
                    break
            if self.decides(frame):
                if self.fulfils(frame, peer):
                    return
                break
        if not (peer.closed and self.or_close):
            raise Differs(_summarize(peer.seen))


def _summarize(seen: list[str]) -> str:
    """Return what was seen, equal things in a row once."""
    return ", ".join(name for name, _ in groupby(seen)) or "nothing"


ScriptStep = bytes | Callable[[Peer], bytes] | Expected


@dataclass(frozen=True)
class Case:
    """A rule and the steps that show whether a server keeps it.

    Args:
        section: Where the rule stands, such as "9113 5.1" or "7541 4.2".
        sends: What the peer does, in words.
        steps: Bytes to send, and what the server must do, in turn.
        h2spec: Number of the case of h2spec that tests the same; "" for none.
        in_use: Whether clients or proxies that people use do this, so that each transport must bear it.
        greets: Whether preface and SETTINGS are exchanged before.
        note: Why this server does something else; "" where it does not.
    """

    section: str
    sends: str
    steps: tuple[ScriptStep, ...]
    h2spec: str = ""
    in_use: bool = False
    greets: bool = True
    note: str = ""

    @property
    def expects(self) -> str:
        """What the server must do at the end, in words."""
        return next(step.text for step in reversed(self.steps) if isinstance(step, Expected))

    def play(self, port: int, silence_seconds: float = 2.0) -> str | None:
        """Play the case against the server on a port, and return what it did instead; None if it kept the rule."""
        with Peer(port, silence_seconds) as peer:
            try:
                for step in ((HELLO, settings_acknowledged()) if self.greets else ()) + self.steps:
                    if isinstance(step, Expected):
                        step.await_from(peer)
                    else:
                        peer.send(step if isinstance(step, bytes) else step(peer))
            except Differs as difference:
                return str(difference)
        return None


# What the server must do


def _names(codes: tuple[Code, ...]) -> str:
    return " or ".join(code.name for code in codes)


def _is(kind: int, stream_id: int = 0, flags: int = 0) -> Callable[[Frame], bool]:
    return lambda frame: frame.kind == kind and frame.stream_id == stream_id and frame.flags & flags == flags


def _ends(stream_id: int) -> Callable[[Frame], bool]:
    return lambda frame: frame.ends_stream and frame.stream_id == stream_id


def connection_error(*codes: Code) -> Expected:
    """GOAWAY with one of these codes, or the end of the connection."""
    return Expected(text=f"connection error {_names(codes)}", codes=codes, or_close=True)


def stream_error(stream_id: int, *codes: Code) -> Expected:
    """RST_STREAM with one of these codes, or a connection error with it."""
    return Expected(
        text=f"stream error {_names(codes)}",
        decides=_is(frames.RST_STREAM, stream_id),
        fulfils=lambda frame, _: frame.error_code in codes,
        codes=codes,
        or_close=True,
    )


def reset(stream_id: int, code: Code) -> Expected:
    """RST_STREAM with this code, and nothing worse."""
    return Expected(
        text=f"RST_STREAM {code.name}",
        decides=_is(frames.RST_STREAM, stream_id),
        fulfils=lambda frame, _: frame.error_code == code,
    )


def goaway(code: Code) -> Expected:
    """GOAWAY with this code."""
    return Expected(text=f"GOAWAY {code.name}", codes=(code,))


def connection_end() -> Expected:
    """The end of the connection."""
    return Expected(text="the connection closes", or_close=True)


def answer(stream_id: int) -> Expected:
    """HEADERS on a stream."""
    return Expected(text="an answer", decides=_is(frames.HEADERS, stream_id))


def stream_end(stream_id: int) -> Expected:
    """The end of a stream."""
    return Expected(text="the whole answer", decides=_ends(stream_id))


def answer_without_error(stream_id: int) -> Expected:
    """The end of a call with the status OK."""
    return Expected(
        text="an answer with the status OK",
        decides=_ends(stream_id),
        fulfils=lambda _, peer: (b"grpc-status", b"0") in peer.fields[stream_id],
    )


def answer_that_begins_with(stream_id: int, start: bytes) -> Expected:
    """A header block that begins with these bytes."""
    return Expected(
        text=f"a header block that begins with {start.hex(' ')}",
        decides=_is(frames.HEADERS, stream_id),
        fulfils=lambda frame, _: frame.body.startswith(start),
    )


def data_of(stream_id: int, size: int) -> Expected:
    """DATA of this many bytes."""
    return Expected(
        text=f"DATA of {size} byte{'s' * (size != 1)}",
        decides=_is(frames.DATA, stream_id),
        fulfils=lambda frame, _: len(frame.body) == size,
    )


def ping_acknowledged(payload: bytes = bytes(8)) -> Expected:
    """The acknowledgement of a PING, and of no other before it."""
    return Expected(
        text="PING acknowledged",
        decides=_is(frames.PING, flags=frames.ACK),
        fulfils=lambda frame, _: frame.body == payload,
    )


def settings_acknowledged() -> Expected:
    """The acknowledgement of SETTINGS."""
    return Expected(text="SETTINGS acknowledged", decides=_is(frames.SETTINGS, flags=frames.ACK))


def settings_first() -> Expected:
    """SETTINGS as the first frame."""
    return Expected(
        text="SETTINGS as the first frame",
        decides=lambda _: True,
        fulfils=lambda frame, _: frame.kind == frames.SETTINGS and not frame.flags & frames.ACK,
    )


# What a peer sends


def fields(*more: tuple[bytes, bytes], without: bytes = b"", **pseudo: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields of a request: some pseudo-header fields replaced, one left out, others added at the end."""
    replaced = ((name, pseudo.get(name[1:].decode(), value) if name[:1] == b":" else value) for name, value in FIELDS)
    return (*(field for field in replaced if field[0] != without), *more)


def headers(stream_id: int, block: bytes = BLOCK, *, end: bool = False, complete: bool = True, flags: int = 0) -> bytes:
    """Build HEADERS."""
    flags |= (frames.END_STREAM if end else 0) | (frames.END_HEADERS if complete else 0)
    return frames.frame(frames.HEADERS, flags, stream_id, block)


def continuation(stream_id: int, block: bytes, *, complete: bool = True) -> bytes:
    """Build CONTINUATION."""
    return frames.frame(frames.CONTINUATION, frames.END_HEADERS if complete else 0, stream_id, block)


def data(stream_id: int, body: bytes = b"test", *, end: bool = True) -> bytes:
    """Build DATA."""
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, body)


def call(stream_id: int, block: bytes = BLOCK) -> bytes:
    """Build a whole call of a method that answers with a body."""
    return headers(stream_id, block) + data(stream_id, MESSAGE)


def priority(stream_id: int, depends_on: int = 0, weight: int = 255) -> bytes:
    """Build PRIORITY."""
    return frames.frame(frames.PRIORITY, 0, stream_id, depends_on.to_bytes(4) + bytes([weight]))


def ping(payload: bytes = bytes(8)) -> bytes:
    """Build PING."""
    return frames.ping(payload, ack=False)
