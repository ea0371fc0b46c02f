"""What is over is let go of at once: the collector of reference cycles comes when it likes, and a cycle may hold a model."""

import asyncio
import gc
import time

import grpc
import pytest

from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.rpc.boundary import _CountedCall
from mods_grpc.server.streaming.session import StreamSession
from mods_grpc.server.streaming.stream_io import StreamIO
from mods_grpc.transport.grpc.call import Call
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc
from tests.server.models.test_reload import publish_other
from tests.support import running_server
from tests.support.http2.client import Stream, detect_request, forecast_request, series, window
from tests.support.models.tiny import publish_tiny
from tests.support.running_server import channel_to

OF_A_CALL = (Call, StreamSession, StreamIO, _CountedCall)
SOON_SECONDS = 10


@pytest.fixture(scope="module")
def short_of_patience(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letting_go")
    publish_tiny(folder)
    with running_server.running_server(repository=folder, stream_idle_seconds=1.0, max_bad_messages=2) as running:
        yield running


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(*kinds):
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds)]


def wait_for(server, kinds, count):
    """Wait until no more are left, and let the server's loop go round meanwhile, as it does when calls come."""
    until = time.monotonic() + SOON_SECONDS
    while len(alive(*kinds)) > count and time.monotonic() < until:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), server._loop).result(SOON_SECONDS)
    assert len(alive(*kinds)) <= count, alive(*kinds)


def ended_by_its_client(stub):
    stream = Stream(stub)
    stream.batch(list(range(8)))
    stream.end()
    stream.stop_sending()
    return stream.failure()[0]


def given_up(stub):
    stream = Stream(stub)
    stream.batch(list(range(8)))
    stream.cut()
    return stream.call.code()


def left_alone(stub):
    return Stream(stub).failure()[0]


def out_of_time(stub):
    stream = Stream(stub, config=False, timeout=0.2)
    stream.put(config=pb.StreamConfig(sensor="test"))
    with pytest.raises(grpc.RpcError):
        list(stream.call)
    stream.stop_sending()
    return stream.call.code()


def refused_at_once(stub):
    stream = Stream(stub, config=False)
    stream.put(end=pb.StreamEnd())
    return stream.failure()[0]


def bad_messages_in_a_row(stub):
    stream = Stream(stub)
    for sequence in (5, 6, 7):
        stream.put(data=pb.StreamData(sequence=sequence))
    return stream.failure()[0]


def forecast(stub):
    stub.Forecast(forecast_request())


def bad_forecast(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Forecast(forecast_request(window([0])))
    return caught.value.code()


def cancelled_on_its_way(stub):
    stub.Detect.future(detect_request()).cancel()  # or too late, now and then


CODE = grpc.StatusCode
BY_THE_SERVER = (CODE.DEADLINE_EXCEEDED, CODE.INVALID_ARGUMENT, CODE.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (ended_by_its_client, CODE.OK),
        (given_up, CODE.CANCELLED),
        (left_alone, CODE.DEADLINE_EXCEEDED),
        (out_of_time, CODE.DEADLINE_EXCEEDED),
        (refused_at_once, CODE.INVALID_ARGUMENT),
        (bad_messages_in_a_row, CODE.RESOURCE_EXHAUSTED),
        (forecast, None),
        (bad_forecast, CODE.INVALID_ARGUMENT),
        (cancelled_on_its_way, None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_nothing_is_left_of_a_call_that_is_over(short_of_patience, call, code):
    if running_server.transport == "grpcio" and code in BY_THE_SERVER:
        pytest.skip("grpcio keeps the error that ended a call, and with it the frames it came through")
    before = len(alive(*OF_A_CALL))
    with channel_to(short_of_patience) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for _ in range(3):
            assert call(stub) == code
        wait_for(short_of_patience, OF_A_CALL, before)


def test_versions_that_were_replaced_are_gone_once_nobody_is_with_them(tmp_path):
    publish_tiny(tmp_path)
    before = len(alive(LoadedModel))
    with running_server.running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for version in range(2, 6):
            followed, pinned = (
                Stream(stub, sensor="follows"),
                Stream(stub, sensor="pinned", model={"name": "tiny", "version": version - 1}),
            )
            for stream in (followed, pinned):
                stream.batch(list(range(6)), series=f"series-{version}")
                stream.row(6, series=f"series-{version}")
            stub.Forecast(forecast_request())
            stub.Detect(detect_request(series()))
            publish_other(tmp_path, version)
            server.look()
            assert followed.row(7, series=f"series-{version}").HasField("verdict")
            followed.end()
            followed.stop_sending()
            assert followed.failure()[0] == CODE.OK
            pinned.put(config=pb.StreamConfig())
            assert pinned.failure()[1] == "CONFIG_REPEATED"
        wait_for(server, (LoadedModel,), before + 2)
