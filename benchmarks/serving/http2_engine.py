"""What HTTP/2 costs a unary call, without sockets, gRPC and a model: our engine beside python-hyper's h2, on the same bytes.

The requests are those of a steady client, 195 bytes each, many or one in a read of the socket; the answers are fields, as
many bytes and trailers. Time is that of the processor; ours and theirs take turns, so read the ratios.

Usage: python benchmarks/serving/http2_engine.py [--calls 20000] [--rounds 5]
"""

import argparse
import asyncio
import statistics
import time

import h2.config
import h2.connection
import h2.events
from hpack import Encoder

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.connection import Connection
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits

BODY = bytes(195)
OPENING = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS = ((b"grpc-status", b"0"),)
REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/mods.v1.InferenceService/Forecast"),
    (b":authority", b"127.0.0.1:5000"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-python/1.85.1 grpc-c/50.0.0"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
)
HELLO = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, b"") + frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
CASES = {"one in a read": (1, False), "64 in a read": (64, False), "64 in a read, each with a deadline of its own": (64, True)}


def reads(calls, together, varying):
    """Return what the socket brings: whole requests, and credit for the answers."""
    encoder, found = Encoder(), []
    for start in range(0, calls, together):
        parts = []
        for number in range(2 * start + 1, 2 * (start + together), 2):
            fields = (*REQUEST, (b"grpc-timeout", b"%du" % (9_000_000 - number if varying else 9_000_000)))
            parts += [frames.frame(frames.HEADERS, frames.END_HEADERS, number, encoder.encode(fields))]
            parts += [frames.frame(frames.DATA, frames.END_STREAM, number, BODY)]
        found.append(b"".join(parts) + frames.window_update(0, together * len(BODY)))
    return found


class Nowhere(asyncio.Transport):
    """A socket that takes everything."""

    def write(self, data):
        pass

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def abort(self):
        pass


class Answering:
    """Answers the calls of a read together."""

    def __init__(self):
        self.done = []

    def on_connect(self, _connection):
        return True

    def on_request(self, stream, _end):
        return Call(stream, self.done)

    def on_read_end(self):
        for stream, body in self.done:
            stream.answer(ENCODED_OPENING, body, ENCODED_TRAILERS)
        self.done.clear()

    def on_disconnect(self, connection):
        pass


class Call:
    __slots__ = ("done", "stream")

    def __init__(self, stream, done):
        self.stream, self.done = stream, done

    def on_data(self, data, _end):
        self.done.append((self.stream, data))

    def on_close(self, code):
        pass


ENCODED_OPENING, ENCODED_TRAILERS = encode(OPENING), encode(TRAILERS)


def ours(brought):
    connection = Connection(Answering(), Limits())
    connection.connection_made(Nowhere())
    connection.data_received(HELLO)
    began = time.process_time()
    for data in brought:
        connection.data_received(data)
    while connection.frame_reader.has_pending:
        connection.data_received(b"")
    seconds = time.process_time() - began
    connection.connection_lost(None)
    return seconds, connection.table.completed


def theirs(brought):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=False))
    connection.initiate_connection()
    connection.receive_data(HELLO)
    calls, began = 0, time.process_time()
    for data in brought:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                connection.send_headers(event.stream_id, OPENING)
                connection.send_data(event.stream_id, event.data)
                connection.send_headers(event.stream_id, TRAILERS, end_stream=True)
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                calls += 1
        connection.data_to_send()
    return time.process_time() - began, calls


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_480)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    calls = arguments.calls // 64 * 64
    for name, (together, varying) in CASES.items():
        brought, found = reads(calls, together, varying), {ours: [], theirs: []}
        for _ in range(arguments.rounds):
            for engine, microseconds in found.items():
                seconds, answered = engine(brought)
                assert answered == calls
                microseconds.append(seconds / calls * 1e6)
        mine, others = map(statistics.median, found.values())
        print(f"{name}: {mine:.1f} us a call, h2 {others:.1f} us (x {others / mine:.0f})", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
