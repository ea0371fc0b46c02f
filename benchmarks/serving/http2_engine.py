"""The cost of HTTP/2 per unary call, without sockets, gRPC and a model: this engine and python-hyper's h2 on the same bytes.

The requests are those of a steady client, 195 bytes each, one or 64 per read of the socket; a response has headers, as many
bytes, and trailers. Both engines alternate, and processor time is measured; read the ratios.

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
HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
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
CASES = {"one per read": (1, False), "64 per read": (64, False), "64 per read, each with its own deadline": (64, True)}


def build_reads(calls, per_read, own_deadlines):
    """Return what each read of the socket brings: whole requests, and window for their responses."""
    encoder, reads = Encoder(), []
    for start in range(0, calls, per_read):
        parts = []
        for number in range(2 * start + 1, 2 * (start + per_read), 2):
            fields = (*REQUEST, (b"grpc-timeout", b"%du" % (9_000_000 - number if own_deadlines else 9_000_000)))
            parts += [frames.frame(frames.HEADERS, frames.END_HEADERS, number, encoder.encode(fields))]
            parts += [frames.frame(frames.DATA, frames.END_STREAM, number, BODY)]
        reads.append(b"".join(parts) + frames.window_update(0, per_read * len(BODY)))
    return reads


class NullTransport(asyncio.Transport):
    """A socket that accepts everything."""

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


class EchoHandler:
    """Answers the calls of a turn together."""

    def __init__(self):
        self.complete = []

    def on_connect(self, _connection):
        return True

    def on_request(self, stream, _end):
        return EchoReceiver(stream, self.complete)

    def on_read_end(self):
        for stream, body in self.complete:
            stream.send_response(HEADERS_BLOCK, body, TRAILERS_BLOCK)
        self.complete.clear()

    def on_disconnect(self, connection):
        pass


class EchoReceiver:
    __slots__ = ("complete", "stream")

    def __init__(self, stream, complete):
        self.stream, self.complete = stream, complete

    def on_data(self, data, _end):
        self.complete.append((self.stream, data))

    def on_close(self, code):
        pass


HEADERS_BLOCK, TRAILERS_BLOCK = encode(HEADERS), encode(TRAILERS)


async def run_engine(reads):
    """Return the seconds of this engine, and how many calls it answered.

    A read is handled in as many turns as it takes before the next arrives: a client that keeps to SETTINGS_MAX_CONCURRENT_STREAMS
    does not send more requests before it has responses.
    """
    connection = Connection(EchoHandler(), Limits())
    connection.connection_made(NullTransport())
    connection.data_received(HELLO)
    started = time.process_time()
    for data in reads:
        connection.data_received(data)
        while connection.frame_reader.has_pending:
            await asyncio.sleep(0)
    seconds = time.process_time() - started
    connection.connection_lost(None)
    return seconds, connection.table.completed


async def run_h2(reads):
    """Return the seconds of h2, and how many calls it answered."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=False))
    connection.initiate_connection()
    connection.receive_data(HELLO)
    calls, started = 0, time.process_time()
    for data in reads:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                connection.send_headers(event.stream_id, HEADERS)
                connection.send_data(event.stream_id, event.data)
                connection.send_headers(event.stream_id, TRAILERS, end_stream=True)
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                calls += 1
        connection.data_to_send()
    return time.process_time() - started, calls


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_480, help="calls per round, rounded down to a multiple of 64")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each engine; their medians are printed")
    arguments = parser.parse_args()
    calls = arguments.calls // 64 * 64
    for name, (per_read, own_deadlines) in CASES.items():
        reads, microseconds = build_reads(calls, per_read, own_deadlines), {run_engine: [], run_h2: []}
        for _ in range(arguments.rounds):
            for engine, results in microseconds.items():
                seconds, answered = await engine(reads)
                if answered != calls:
                    raise RuntimeError(f"{engine.__name__} answered {answered} of {calls} calls")
                results.append(seconds / calls * 1e6)
        ours, reference = map(statistics.median, microseconds.values())
        print(f"{name}: {ours:.1f} us per call, h2 {reference:.1f} us (x {reference / ours:.0f})", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
