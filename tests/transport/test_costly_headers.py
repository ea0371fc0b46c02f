"""Header blocks that cost much: how much of them is handled before another connection is served. Work is counted, not timed."""

import itertools

import pytest
from hpack import Encoder
from hpack.hpack import encode_integer

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.sockets.turns import CREDIT, MAX_DIRECT_COST, MAX_QUEUED_COST, Turns
from tests.support.http2.wire import REQUEST, Wire, data, headers, request

PEERS = 20
READ = 262_144  # bytes that one read of a socket may bring
MAX_BLOCK_COST = 400  # of the costliest block that is accepted


def literal(name, value, *, huffman=False, pattern=0):
    text = Encoder().huffman_coder.encode(value) if huffman else value
    size = encode_integer(len(text), 7)
    size[0] |= 0x80 if huffman else 0
    return bytes([pattern, len(name)]) + name + bytes(size) + text


BLOCK = encode(REQUEST)
TRAILER = literal(b"x", b"\xf9" * 8_000, huffman=True)
CODES = BLOCK + TRAILER
ENTRY = BLOCK + literal(b"x", b"", pattern=0x40)


def numbered(block, *, end=True):
    return (headers(number, block, end=end) for number in itertools.count(1, 2))


def parted(block):
    parts = [block[start : start + 2_000] for start in range(0, len(block), 2_000)]
    for number in itertools.count(1, 2):
        yield headers(number, parts[0], end=True, complete=False)
        yield from (frames.frame(frames.CONTINUATION, 0, number, part) for part in parts[1:-1])
        yield frames.frame(frames.CONTINUATION, frames.END_HEADERS, number, parts[-1])


def with_trailers():
    for number in itertools.count(1, 2):
        yield headers(number, BLOCK)
        yield headers(number, TRAILER, end=True)


COSTLY = {
    "Huffman codes": lambda: numbered(CODES),
    "many fields": lambda: numbered(BLOCK + literal(b"a", b"") * 900),
    "references": lambda: itertools.chain(
        [headers(1, ENTRY, end=True)], itertools.islice(numbered(BLOCK + b"\xbe" * 500), 1, None)
    ),
    "sizes of the table": lambda: numbered(b"\x20\x3f\xe1\x1f" + BLOCK),
    "continuations": lambda: parted(CODES),
    "trailers": with_trailers,
    "small requests": lambda: numbered(BLOCK),
    "refused streams": lambda: itertools.chain(
        itertools.islice(numbered(BLOCK, end=False), 128), itertools.islice(numbered(CODES), 128, None)
    ),
    "resets": lambda: (part + frames.reset(2 * number + 1, 8) for number, part in enumerate(numbered(CODES))),
    "crumbs": lambda: itertools.chain([headers(1, BLOCK)], itertools.repeat(data(1, b"x"))),
}


def read_of(parts):
    """Return one read of the socket of a peer that sends these parts."""
    read = bytearray()
    for part in parts:
        read += part
        if len(read) >= READ:
            break
    return bytes(read)


@pytest.mark.parametrize("shape", COSTLY)
def test_another_peer_is_answered_in_the_iteration_in_which_it_asks(stepped, shape):
    turns = Turns()
    caller = Wire(stepped, turns=turns, echoing=True)
    turns.mark += CREDIT
    peers = [Wire(stepped, turns=turns) for _ in range(PEERS)]
    read = read_of(COSTLY[shape]())

    async def receive(wire, read):
        wire.connection.data_received(read)

    for wire in peers:
        stepped.run_until_complete(receive(wire, read))
    for number in range(1, 41, 2):
        stepped.run_until_complete(receive(caller, request(number) + data(number, b"%d" % number, end=True)))
        answers = [frame.data for frame in caller.read() if type(frame).__name__ == "DataFrame"]
        assert answers == [b"%d" % number]


@pytest.mark.parametrize("shape", COSTLY)
def test_an_iteration_of_the_loop_costs_no_more_than_its_parts(stepped, shape, monkeypatch):
    turns = Turns()
    peers = [Wire(stepped, turns=turns) for _ in range(PEERS)]
    costs = []

    def counted(handle):
        def handle_and_count(read, max_cost):
            cost = handle(read, max_cost)
            costs.append(cost)
            return cost

        return handle_and_count

    read = read_of(COSTLY[shape]())
    for wire in peers:
        monkeypatch.setattr(wire.connection, "_handle", counted(wire.connection._handle))

    async def all_at_once():
        for wire in peers:
            wire.connection.data_received(read)

    stepped.run_until_complete(all_at_once())
    assert sum(costs) <= MAX_DIRECT_COST + MAX_QUEUED_COST + 2 * MAX_BLOCK_COST
    for _ in range(30):
        costs.clear()
        stepped.run_until_complete(nothing())
        assert sum(costs) <= 2 * (MAX_QUEUED_COST + MAX_BLOCK_COST)  # it runs twice, to start and to stop


async def nothing():
    pass


@pytest.mark.parametrize("size", [32_769, 57_000])
def test_one_frame_may_not_bring_a_larger_block_than_several(stepped, size):
    wire = Wire(stepped)
    value = b"\xf9" * (8 * size // 28)
    wire.send(headers(1, BLOCK + literal(b"x", value, huffman=True) + b"\x90" * 100))
    assert wire.connection.frame_reader.turn_cost < 10
    assert wire.observer.ends[-1][1] == CloseReason.HEADERS_TOO_LARGE
    assert not wire.handler.receivers


@pytest.mark.parametrize("huffman", [False, True])
def test_a_caller_with_large_tokens_is_served_at_once_every_time(stepped, huffman):
    wire = Wire(stepped, echoing=True)
    token = (b"Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9." * 190)[:8_192]
    for number in range(1, 401, 2):
        block = BLOCK + literal(b"authorization", token[:-4] + b"%04d" % number, huffman=huffman)
        wire.send(headers(number, block), data(number, b"x", end=True))
        assert [frame.data for frame in wire.read() if type(frame).__name__ == "DataFrame"] == [b"x"]


def test_reads_of_a_single_byte_count_too(stepped):
    wire = Wire(stepped)
    wire.do(wire.turns.schedule)
    left = wire.turns.direct_cost_left
    for byte in frames.frame(frames.DATA, 0, 1, bytes(100))[:50]:
        wire.send(bytes([byte]))
    assert left - wire.turns.direct_cost_left == 50
