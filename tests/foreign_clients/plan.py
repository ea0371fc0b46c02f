"""The requests that all clients send, and the answers that they must get: files in a folder, read by programs in any language."""

import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_status import rpc_status

from mods_grpc.v1 import inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc
from mods_grpc.v1.values_pb2 import Observation, ObservationBatch, WindowBatch
from tests.support.models.tiny import FEATURES, ROWS, SLIDE

FIRST_SECOND = 1_546_300_800  # 2019-01-01T00:00:00Z
STREAM_ROWS = 50
WINDOWS_PER_LARGE_CALL = 640
COVERAGES = tuple(np.linspace(0.05, 0.95, 16))  # as many as are allowed: a request of 46 kB has an answer of 1 MB
LIMIT_SECONDS = 30


def make_small() -> inference_pb2.DetectRequest:
    values = np.full((ROWS + 2, len(FEATURES)), 1000.0)
    values[-1] = 20_000.0
    times = (FIRST_SECOND + np.arange(len(values)) * SLIDE) * 10**9
    batch = ObservationBatch(observe_time_unix_nano=times, values=values.astype("<f8").tobytes())
    return inference_pb2.DetectRequest(series=[inference_pb2.DetectSeries(series="site", batch=batch)])


def make_large() -> inference_pb2.ForecastRequest:
    values = np.random.default_rng(1).uniform(1.0, 2000.0, (WINDOWS_PER_LARGE_CALL, ROWS, len(FEATURES)))
    times = [FIRST_SECOND * 10**9] * WINDOWS_PER_LARGE_CALL
    batch = WindowBatch(start_time_unix_nano=times, values=values.astype("<f8").tobytes())
    return inference_pb2.ForecastRequest(batch=batch, coverages=COVERAGES)


def make_stream(sensor: str) -> list[inference_pb2.StreamDetectRequest]:
    config = inference_pb2.StreamConfig(sensor=sensor)
    rows = [
        Observation(
            series="site", observe_time=Timestamp(seconds=FIRST_SECOND + SLIDE * row), values=[1000.0 + row % 3] * len(FEATURES)
        )
        for row in range(STREAM_ROWS)
    ]
    return [
        inference_pb2.StreamDetectRequest(config=config),
        *(
            inference_pb2.StreamDetectRequest(data=inference_pb2.StreamData(sequence=number, observation=row))
            for number, row in enumerate(rows, start=1)
        ),
        inference_pb2.StreamDetectRequest(end=inference_pb2.StreamEnd()),
    ]


def frame(messages: list[bytes]) -> bytes:
    """Return messages as gRPC frames them: a zero byte, the length in four bytes, the message."""
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)


def exchange(stub: inference_pb2_grpc.InferenceServiceStub, messages: list[inference_pb2.StreamDetectRequest]) -> Iterator[bytes]:
    """Send the first message, wait for its answer, send the others; yield the answers."""
    calls = stub.StreamDetect(iter(messages), timeout=LIMIT_SECONDS)
    for answer in calls:
        yield answer.SerializeToString(deterministic=True)


def write_plan(folder: Path, address: str, sensor: str) -> None:
    """Write the files that programs read.

    Args:
        folder: Where to write them.
        address: Address of a server, which is asked for the answers.
        sensor: Namespace of the series of the program's stream.
    """
    small, large, stream = make_small(), make_large(), make_stream(sensor)
    missing = model_pb2.GetModelRequest(name="nobody")
    with grpc.insecure_channel(address) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        files = {
            "small.answer": inference.Detect(small, timeout=LIMIT_SECONDS).SerializeToString(),
            "large.answer": inference.Forecast(large, timeout=LIMIT_SECONDS).SerializeToString(),
            "stream.answers": frame(list(exchange(inference, make_stream("python")))),
        }
        try:
            model_pb2_grpc.ModelServiceStub(channel).GetModel(missing, timeout=LIMIT_SECONDS)
        except grpc.RpcError as error:
            files["missing.details"] = rpc_status.from_call(error).SerializeToString()
    files |= {
        "small.request": small.SerializeToString(),
        "large.request": large.SerializeToString(),
        "missing.request": missing.SerializeToString(),
        "stream.requests": frame([message.SerializeToString() for message in stream]),
    }
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
