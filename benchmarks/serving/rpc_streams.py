"""Open streams of `rpc.py`: one with its messages, and many that are asked at the same time."""

import asyncio
import time

from benchmarks.support.rpc_messages import STREAM
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1.verdict_pb2 import EXPLAIN_NONE

MAX_MESSAGES = 200  # of each stream in a stretch of many


class StreamCase:
    """An open StreamDetect call whose windows are warm; each stretch sends more of the same series.

    `explain` is which verdicts are to be told in full.
    """

    def __init__(self, channel, values, n, sensor, explain=EXPLAIN_NONE):
        self.values, self.n, self.sensor, self.explain, self.position = values, n, sensor, explain, 0
        self.call = channel.stream_stream(STREAM)()

    async def open(self):
        config = pb.StreamConfig(model=self.values.model, sensor=self.sensor, explain=self.explain)
        await self.call.write(pb.StreamDetectRequest(config=config).SerializeToString())
        await self.call.read()
        await self.stretch(self.values.manifest.rows + 5)
        return self

    def messages(self, count):
        return list(self.values.stream(self.n, self.position, count))

    async def stretch(self, count):
        messages = self.messages(count)
        self.position += count
        return await ping_pong(self.call, messages)


class EchoCase:
    """An open stream of the echo, which is sent the same bytes again and again."""

    def __init__(self, channel, size, message):
        self.call, self.message, self.position = (
            channel.stream_stream("/echo/Stream")(metadata=(("answer-bytes", size),)),
            message,
            0,
        )

    def messages(self, count):
        return [self.message] * count


async def ping_pong(call, messages):
    """Send one message, wait for its answer, and so on; return seconds of each, and the sizes of the last two."""
    seconds = []
    for message in messages:
        started = time.perf_counter()
        await call.write(message)
        answer = await call.read()
        seconds.append(time.perf_counter() - started)
    return seconds, len(answer), len(messages[-1])


async def messages_per_second(cases, seconds):
    """Let all streams ask at the same time, each again when it was answered."""
    ready, done = [case.messages(MAX_MESSAGES) for case in cases], 0
    started = time.perf_counter()

    async def ask(case, messages):
        nonlocal done
        for message in messages:
            if time.perf_counter() - started > seconds:
                return
            await case.call.write(message)
            await case.call.read()
            case.position, done = case.position + 1, done + 1

    await asyncio.gather(*map(ask, cases, ready))
    return done / (time.perf_counter() - started)
