"""Peers whose frames cost the server much more than their bytes. Each shape yields what one connection sends."""

import asyncio
import contextlib
import itertools
import time

from hpack import Encoder
from hpack.hpack import encode_integer

from benchmarks.robustness.floods import HEADERS, PREFACE, make_frame

PEERS, BYTES_PER_SECOND, BYTES_PER_WRITE = 20, 3_000_000, 65_536
DATA, HEADERS_FRAME, RST_STREAM, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4
UNKNOWN = HEADERS.replace(b"StreamDetect", b"StreamDetecT")
RARE = b"\xf9"  # 28 bits in Huffman codes
REFERENCE = b"\xbe"  # to the latest entry of the dynamic table


def literal(name, value, *, huffman=False, pattern=0):
    """Encode a field as a literal: `pattern` 0 for one without indexing, 0x40 for one that becomes an entry of the table."""
    text = Encoder().huffman_coder.encode(value) if huffman else value
    size = encode_integer(len(text), 7)
    size[0] |= 0x80 if huffman else 0
    return bytes([pattern]) + bytes(encode_integer(len(name), 7)) + name + bytes(size) + text


def requests_with(extra, start=HEADERS):
    """Yield requests whose header block ends with `extra`, and that have no body."""
    for number in range(1, 2**30, 2):
        yield make_frame(HEADERS_FRAME, END_STREAM | END_HEADERS, number, start + extra)


def send_references():
    yield make_frame(HEADERS_FRAME, END_STREAM | END_HEADERS, 1, HEADERS + literal(b"x", b"", pattern=0x40))
    yield from itertools.islice(requests_with(REFERENCE * 500), 1, None)


def send_large_references():
    yield make_frame(HEADERS_FRAME, END_STREAM | END_HEADERS, 1, HEADERS + literal(b"x", b"y" * 3_900, pattern=0x40))
    yield from itertools.islice(requests_with(REFERENCE * 500), 1, None)


def send_small_requests():
    for number in range(1, 2**30, 2):
        block = UNKNOWN + literal(b"n", b"%d" % number, huffman=True)
        yield make_frame(HEADERS_FRAME, END_STREAM | END_HEADERS, number, block)


def send_continuations():
    block = HEADERS + literal(b"x", RARE * 8_000, huffman=True)
    parts = [block[start : start + 2_000] for start in range(0, len(block), 2_000)]
    for number in range(1, 2**30, 2):
        yield make_frame(HEADERS_FRAME, END_STREAM, number, parts[0])
        yield from (make_frame(CONTINUATION, 0, number, part) for part in parts[1:-1])
        yield make_frame(CONTINUATION, END_HEADERS, number, parts[-1])


def send_trailers():
    trailers = literal(b"x", RARE * 8_000, huffman=True)
    for number in range(1, 2**30, 2):
        yield make_frame(HEADERS_FRAME, END_HEADERS, number, HEADERS)
        yield make_frame(HEADERS_FRAME, END_STREAM | END_HEADERS, number, trailers)


def send_refused_streams():
    unary = HEADERS.replace(b"StreamDetect", b"ListVersions")  # calls that wait for their request
    block = unary + literal(b"x", RARE * 8_000, huffman=True)
    for number in range(1, 2**30, 2):
        yield make_frame(HEADERS_FRAME, END_HEADERS, number, unary if number < 300 else block)


def send_resets():
    block = HEADERS + literal(b"x", RARE * 8_000, huffman=True)
    for number in range(1, 2**30, 2):
        yield make_frame(HEADERS_FRAME, END_HEADERS, number, block) + make_frame(RST_STREAM, 0, number, b"\0\0\0\x08")


def send_crumbs():
    yield make_frame(HEADERS_FRAME, END_HEADERS, 1, HEADERS)
    yield from (make_frame(DATA, 0, 1, bytes([byte])) for byte in itertools.cycle(b"\0\0\0\0\x03abc"))


SHAPES = {
    "blocks of 57 KB": lambda: requests_with(literal(b"x", RARE * 16_000, huffman=True)),
    "Huffman codes of 28 KB": lambda: requests_with(literal(b"x", RARE * 8_000, huffman=True)),
    "900 fields": lambda: requests_with(literal(b"a", b"") * 900),
    "18.8 KB of fields": lambda: requests_with(literal(b"abcdefgh", b"x" * 10) * 600),
    "500 references": send_references,
    "500 large references": send_large_references,
    "small requests": send_small_requests,
    "the same unknown method": lambda: requests_with(b"", UNKNOWN),
    "sizes of the table": lambda: requests_with(b"", b"\x20\x3f\xe1\x1f" + UNKNOWN),
    "Base64 of 15 KB": lambda: requests_with(literal(b"x-bin", b"QUJD" * 3_800, huffman=True)),
    "continuations": send_continuations,
    "trailers": send_trailers,
    "refused streams": send_refused_streams,
    "resets": send_resets,
    "crumbs of data": send_crumbs,
}


async def _run_peer(port, shape, stop):
    """Send at most `BYTES_PER_SECOND`, read and discard the answers, and reconnect when the connection ends."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            discarding = asyncio.ensure_future(_discard(reader))
            try:
                writer.write(PREFACE + make_frame(SETTINGS, 1, 0))
                started, sent = time.monotonic(), 0
                parts = SHAPES[shape]()
                while not stop.is_set() and not discarding.done():
                    size, chunk = 0, []
                    while size < BYTES_PER_WRITE:
                        chunk.append(next(parts))
                        size += len(chunk[-1])
                    writer.write(b"".join(chunk))
                    sent += size
                    draining = asyncio.ensure_future(writer.drain())
                    await asyncio.wait((draining, discarding), timeout=1, return_when=asyncio.FIRST_COMPLETED)
                    if not draining.done():
                        draining.cancel()
                    await asyncio.sleep(max(0.0, started + sent / BYTES_PER_SECOND - time.monotonic()))
            finally:
                discarding.cancel()
                writer.transport.abort()
        await asyncio.sleep(0.01)


async def _discard(reader):
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


def make_attack(shape):
    """Return the attack of `PEERS` peers of a shape; see `floods.ATTACKS`."""

    async def attack(port, _, stop):
        await asyncio.gather(*[_run_peer(port, shape, stop) for _ in range(PEERS)])

    return attack


COSTLY_ATTACKS = {f"{PEERS} peers: {shape}": make_attack(shape) for shape in SHAPES}
