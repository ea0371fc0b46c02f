"""Open streams of `rpc.py`, alone and many at a time."""

import asyncio
import time

from benchmarks.support.rpc_messages import STREAM
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1.verdict_pb2 import EXPLAIN_NONE

MAX_MESSAGES = 200  # per stream, when many are measured at a time


class StreamCase:
    """An open StreamDetect call whose windows are full. Each `send_rows` sends further rows of the same n series."""

    def __init__(self, channel, requests, n, sensor, explain=EXPLAIN_NONE):
        self.requests, self.n, self.sensor, self.explain, self.position = requests, n, sensor, explain, 0
        self.call = channel.stream_stream(STREAM)()

    async def open(self):
        config = pb.StreamConfig(model=self.requests.model, sensor=self.sensor, explain=self.explain)
        await self.call.write(pb.StreamDetectRequest(config=config).SerializeToString())
        await self.call.read()
        await self.send_rows(self.requests.manifest.rows + 5)
        return self

    def make_messages(self, count):
        return list(self.requests.make_stream(self.n, self.position, count))

    async def send_rows(self, count):
        messages = self.make_messages(count)
        self.position += count
        return await time_round_trips(self.call, messages)


class EchoCase:
    """An open stream of the echo server. Every message is the same."""

    def __init__(self, channel, size, message):
        self.call = channel.stream_stream("/echo/Stream")(metadata=(("answer-bytes", size),))
        self.message, self.position = message, 0

    def make_messages(self, count):
        return [self.message] * count


async def time_round_trips(call, messages):
    """Send messages one after the other.

    Returns:
        The seconds of each, and the sizes of the last answer and of the last message.
    """
    seconds = []
    for message in messages:
        started = time.perf_counter()
        await call.write(message)
        answer = await call.read()
        seconds.append(time.perf_counter() - started)
    return seconds, len(answer), len(messages[-1])


async def measure_message_rate(cases, seconds):
    """Return messages per second of all streams together, each with one message in flight."""
    messages_of_cases, done = [case.make_messages(MAX_MESSAGES) for case in cases], 0
    started = time.perf_counter()

    async def send(case, messages):
        nonlocal done
        for message in messages:
            if time.perf_counter() - started > seconds:
                return
            await case.call.write(message)
            await case.call.read()
            case.position, done = case.position + 1, done + 1

    await asyncio.gather(*map(send, cases, messages_of_cases))
    return done / (time.perf_counter() - started)
