"""Finished calls and replaced models are freed immediately, without the cycle collector, whose time is not certain."""

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
from tests.support.models.tiny import publish_tiny
from tests.support.rpc.client import Stream, detect_request, forecast_request, series, window
from tests.support.running_server import channel_to

CALL_OBJECTS = (Call, StreamSession, StreamIO, _CountedCall)
TIMEOUT_SECONDS = 10


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letting_go")
    publish_tiny(folder)
    with running_server.running_server(repository=folder, stream_idle_seconds=1.0, max_bad_messages=2) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def unfrozen_afterwards():
    gc.collect()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_collector():
    gc.freeze()  # then `alive` needs to look only at objects made since
    gc.disable()
    yield
    gc.enable()


def alive(*kinds):
    """Return the type names of the objects of these types that were made during this test and still exist."""
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds)]


def wait_for(server, kinds, count):
    """Wait until at most `count` objects are left, while the server's loop iterates as with calls."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(objects := alive(*kinds)) > count and time.monotonic() < deadline:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), server._loop).result(TIMEOUT_SECONDS)
    assert len(objects) <= count, objects


def end_by_client(stub):
    stream = Stream(stub)
    stream.batch(list(range(8)))
    stream.end()
    stream.stop_sending()
    return stream.failure()[0]


def cancel(stub):
    stream = Stream(stub)
    stream.batch(list(range(8)))
    stream.cut()
    return stream.call.code()


def leave_idle(stub):
    return Stream(stub).failure()[0]


def exceed_deadline(stub):
    stream = Stream(stub, config=False, timeout=0.2)
    stream.put(config=pb.StreamConfig(sensor="test"))
    with pytest.raises(grpc.RpcError):
        list(stream.call)
    stream.stop_sending()
    return stream.call.code()


def violate_protocol(stub):
    stream = Stream(stub, config=False)
    stream.put(end=pb.StreamEnd())
    return stream.failure()[0]


def send_invalid_messages(stub):
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


def cancel_in_flight(stub):
    stub.Detect.future(detect_request()).cancel()  # sometimes too late


CODE = grpc.StatusCode
BY_THE_SERVER = (CODE.DEADLINE_EXCEEDED, CODE.INVALID_ARGUMENT, CODE.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (end_by_client, CODE.OK),
        (cancel, CODE.CANCELLED),
        (leave_idle, CODE.DEADLINE_EXCEEDED),
        (exceed_deadline, CODE.DEADLINE_EXCEEDED),
        (violate_protocol, CODE.INVALID_ARGUMENT),
        (send_invalid_messages, CODE.RESOURCE_EXHAUSTED),
        (forecast, None),
        (bad_forecast, CODE.INVALID_ARGUMENT),
        (cancel_in_flight, None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_object_of_a_finished_call_stays_alive(impatient_server, call, code):
    if running_server.transport == "grpcio" and code in BY_THE_SERVER:
        pytest.skip("grpcio keeps the error that ended a call, and with it the frames it came through")
    alive_before = len(alive(*CALL_OBJECTS))
    with channel_to(impatient_server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for _ in range(3):
            assert call(stub) == code
        wait_for(impatient_server, CALL_OBJECTS, alive_before)


def test_replaced_versions_are_freed_once_no_stream_uses_them(tmp_path):
    publish_tiny(tmp_path)
    alive_before = len(alive(LoadedModel))
    with running_server.running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for version in range(2, 6):
            current, pinned = (
                Stream(stub, sensor="current"),
                Stream(stub, sensor="pinned", model={"name": "tiny", "version": version - 1}),
            )
            for stream in (current, pinned):
                stream.batch(list(range(6)), series=f"series-{version}")
                stream.row(6, series=f"series-{version}")
            stub.Forecast(forecast_request())
            stub.Detect(detect_request(series()))
            publish_other(tmp_path, version)
            server.rescan()
            assert current.row(7, series=f"series-{version}").HasField("verdict")
            current.end()
            current.stop_sending()
            assert current.failure()[0] == CODE.OK
            pinned.put(config=pb.StreamConfig())
            assert pinned.failure()[1] == "CONFIG_REPEATED"
        wait_for(server, (LoadedModel,), alive_before + 2)
