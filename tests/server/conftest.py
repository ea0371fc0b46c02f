import pytest

from mods_grpc.v1 import inference_pb2_grpc, model_pb2_grpc
from tests.support.rpc.client import Stream
from tests.support.running_server import channel_to, running_server


@pytest.fixture(scope="module")
def server(repository):
    limits = {"max_observations": 64, "max_window_rows": 64, "max_series_per_sensor": 8, "max_bad_messages": 20, "max_streams": 8}
    with running_server(repository=repository, **limits) as running:
        yield running


@pytest.fixture
def channel(server):
    with channel_to(server) as channel:
        yield channel


@pytest.fixture
def inference(channel):
    return inference_pb2_grpc.InferenceServiceStub(channel)


@pytest.fixture
def directory(channel):
    return model_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture
def stream(inference, request):
    opened = Stream(inference, sensor=request.node.name[:100])
    yield opened
    opened.cut()


@pytest.fixture
def warm(stream):
    stream.batch(list(range(8)))
    return stream
