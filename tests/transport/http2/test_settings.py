"""Settings of the peer that change what it can decode, with python-hyper's HPACK, which checks the size of its table."""

import h2.events
import h2.settings
import pytest
from hpack import Decoder

from mods_grpc.transport.http2.hpack import encode, encode_table_sizes
from tests.support.http2.wire import OPENING, REQUEST, TRAILERS, H2Client, data, request, settings


def blocks(wire):
    """Return the header blocks that were sent since the last call."""
    return [bytes(frame.data) for frame in wire.read() if type(frame).__name__ == "HeadersFrame"]


@pytest.mark.parametrize("size", [0, 1, 100, 4_095])
@pytest.mark.parametrize("way", ["response", "headers", "queue"])
def test_a_peer_with_a_small_table_reads_every_answer(stepped, size, way):
    client = H2Client(
        stepped, echoing=way == "response", header_table_size=size, initial_window_size=0 if way == "queue" else 100
    )
    for _ in range(3):
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, REQUEST)
        client.h2.send_data(number, b"three words here", end_stream=True)
        client.turn()
        if way == "headers":
            stream = client.wire.handler.receivers[number].stream
            client.wire.do(stream.send_headers, encode([(b":status", b"200"), (b"grpc-status", b"7")]))
            client.wire.do(lambda stream=stream: stream.send_headers(TRAILERS, end=True))
        elif way == "queue":
            client.wire.do(client.wire.handler.receivers[number].echo)
            client.turn()
            client.h2.increment_flow_control_window(100, number)
        client.turn()
    assert sum(isinstance(event, h2.events.StreamEnded) for event in client.events) == 3
    assert client.h2.decoder.header_table.maxsize == size


@pytest.mark.parametrize(
    ("sizes", "announced"),
    [
        ([4_096], []),
        ([65_536], []),
        ([0], [0]),
        ([100], [100]),
        ([100, 4_096], [100, 4_096]),
        ([100, 0, 50, 2_000], [0, 2_000]),
        ([2_000, 100, 100], [100]),
        ([0, 65_536], [0, 4_096]),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one frame", "a frame each"])
def test_the_next_block_announces_the_smallest_table_and_the_last(echo, sizes, announced, together):
    if together:
        body = b"".join(settings(header_table_size=size)[9:] for size in sizes)
        echo.send(len(body).to_bytes(3) + settings()[3:9] + body)
    else:
        echo.send(*[settings(header_table_size=size) for size in sizes])
    echo.read()
    echo.send(request(1), data(1, b"x", end=True))
    first, last = blocks(echo)
    assert first == encode_table_sizes(*announced) + OPENING
    assert last == TRAILERS
    echo.send(request(3), data(3, b"x", end=True))
    assert blocks(echo) == [OPENING, TRAILERS]


def test_a_table_that_grows_again_is_announced_too(echo):
    for number, size in ((1, 0), (3, 300), (5, 300), (7, 9_000), (9, 0)):
        echo.send(settings(header_table_size=size), request(number, end=True))
    first_blocks = blocks(echo)[::2]
    assert first_blocks == [encode_table_sizes(*sizes) + OPENING for sizes in ((0,), (300,), (), (4_096,), (0,))]
    decoder = Decoder()
    assert all(decoder.decode(block, raw=True) for block in first_blocks)


def test_trailers_that_waited_announce_a_change_that_came_meanwhile(wire):
    wire.send(settings(initial_window=0), request(1), data(1, b"x", end=True))
    wire.do(wire.handler.receivers[1].echo)
    wire.read()
    wire.send(settings(header_table_size=0, initial_window=100))
    assert blocks(wire) == [encode_table_sizes(0) + TRAILERS]


def test_each_connection_announces_its_own_changes(stepped):
    small, plain = H2Client(stepped, echoing=True, header_table_size=0), H2Client(stepped, echoing=True)
    for client in (small, plain):
        client.h2.send_headers(1, REQUEST, end_stream=True)
        client.turn()
        assert any(isinstance(event, h2.events.StreamEnded) for event in client.events)
    assert plain.h2.decoder.header_table.maxsize == 4_096
