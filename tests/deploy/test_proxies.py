"""Third-party proxies between clients and the server: every call has the same result as without one."""

import contextlib
import threading
from itertools import count
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL
from tests.support import running_server as running_server_module
from tests.support.models.tiny import HORIZON, LEVELS
from tests.support.proxies import PROXIES, RunningProxy
from tests.support.rpc.client import Stream, at, detect_request, forecast_request, observation_batch, read_failure, series
from tests.support.running_server import channel_to, running_server

MANY = 4_096
SILENT_SECONDS = 65  # most proxies time out after 60 by default
OPTIONS = {"max_observations": MANY, "max_series": 2 * MANY, "max_message_bytes": 2**21}
_sensors = count()

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(repository):
    with running_server(repository=repository, **OPTIONS) as running:
        yield running


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: proxy.name)
def proxy(request):
    if request.param.path is None:
        pytest.skip(f"{request.param.name} is not installed ({request.param.source})")
    return request.param


@pytest.fixture(scope="module")
def between(proxy, server, tmp_path_factory):
    with RunningProxy(proxy, server.address, tmp_path_factory.mktemp(proxy.name)) as running:
        yield running


@pytest.fixture
def proxied(between):
    with channel_to(between) as channel:
        yield channel


@pytest.fixture(scope="module")
def straight(server):
    with channel_to(server) as channel:
        yield channel


@pytest.fixture
def early_answers(proxy):
    if proxy.name == "haproxy" and running_server_module.transport == "grpcio":
        pytest.skip("HAProxy 2.6 drops an answer that gRPC's own library resets in the same write")


def another_channel_to(server):
    """Open a separate connection; by default gRPC shares connections within a process."""
    return grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])


def inference_over(channel):
    return inference_pb2_grpc.InferenceServiceStub(channel)


def sensor():
    return f"sensor {next(_sensors)}"


def wide_batch(row):
    values = pack_float64(np.tile(LEVELS[row], (MANY, 1)))
    names = [f"series {number}" for number in range(MANY)]
    return values_pb2.ObservationBatch(series=names, observe_time_unix_nano=[at(row)], values=values)


def test_unary_calls_and_reflection_answer_as_without_a_proxy(proxied, straight):
    def answers(channel):
        inference, directory = inference_over(channel), model_pb2_grpc.ModelServiceStub(channel)
        reflection = ProtoReflectionDescriptorDatabase(channel)
        return [
            inference.Forecast(forecast_request(), timeout=10),
            inference.Detect(detect_request(series(range(200)), explain=EXPLAIN_ALL), timeout=10),
            inference.Detect(detect_request(*[series(range(64), name=str(number)) for number in range(64)]), timeout=20),
            directory.ListModels(model_pb2.ListModelsRequest(), timeout=10),
            sorted(reflection.get_services()),
        ]

    assert answers(proxied) == answers(straight)


def collect_failures(channel):
    inference, directory = inference_over(channel), model_pb2_grpc.ModelServiceStub(channel)
    bad = detect_request(*[series([number % 3] * 2, name="") for number in range(64)])
    errors = []
    for call, request in (
        (directory.GetModel, model_pb2.GetModelRequest(name="nobody")),
        (inference.Forecast, pb.ForecastRequest()),
        (inference.Detect, bad),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=10)
        errors.append((read_failure(caught.value), caught.value.details()))
    return errors


def test_errors_keep_their_details(proxied, straight):
    assert collect_failures(proxied) == collect_failures(straight)


@pytest.mark.usefixtures("early_answers")
def test_requests_refused_before_they_are_complete_keep_their_status(proxied, straight):
    def refusals(channel):
        for method in ("/mods.v1.InferenceService/Detect", "/mods.v1.InferenceService/Nothing"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(bytes(2**21 + 1), timeout=20)
            yield caught.value.code()

    assert list(refusals(straight)) == [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED]
    for _ in range(5):
        assert list(refusals(proxied)) == list(refusals(straight))


@pytest.mark.usefixtures("early_answers")
def test_a_stream_scores_row_by_row_as_without_a_proxy(proxied, straight):
    def verdicts(channel):
        stream = Stream(inference_over(channel), sensor=sensor(), explain=EXPLAIN_ALL)
        answers = [stream.row(row) for row in range(100)]
        assert stream.end().last_sequence == 100
        assert stream.failure()[0] == grpc.StatusCode.OK
        return answers

    assert verdicts(proxied) == verdicts(straight)


def test_a_message_of_4096_observations_is_answered_as_without_a_proxy(proxied, straight):
    def answers(channel):
        stream = Stream(inference_over(channel), sensor=sensor(), explain=EXPLAIN_ALL)
        replies = [stream.send(batch=wide_batch(row)) for row in range(6)]
        stream.end()
        return replies

    assert answers(proxied) == answers(straight)


def test_64_calls_and_8_streams_share_the_connections_of_a_proxy(proxied):
    inference = inference_over(proxied)
    streams = [Stream(inference, sensor=sensor()) for _ in range(8)]
    calls = [inference.Forecast.future(forecast_request(), timeout=20) for _ in range(64)]
    for row in range(20):
        for stream in streams:
            stream.begin(batch=observation_batch([row]))
        assert {stream.read().answer.sequence for stream in streams} == {row + 1}
    assert len({call.result().SerializeToString(deterministic=True) for call in calls}) == 1
    for stream in streams:
        assert stream.end().last_sequence == 20


def test_streams_beyond_the_limit_of_one_connection_use_another(between, server):
    with contextlib.ExitStack() as stack:
        clients = [inference_over(stack.enter_context(another_channel_to(between))) for _ in range(4)]
        streams = [Stream(client, sensor=sensor()) for client in clients for _ in range(40)]
        assert len(streams) > server.config.max_concurrent_streams
        assert {stream.row(0).sequence for stream in streams} == {1}
        for stream in streams:
            stream.end()


def serve_until(server, channel, max_open):
    """Make other calls until at most `max_open` streams are open."""
    while server.app._streams.open_count > max_open:
        assert inference_over(channel).Forecast(forecast_request(), timeout=10).horizon == HORIZON


def test_cancelled_streams_end_at_the_server_and_others_continue(proxied, server):
    inference = inference_over(proxied)
    other = Stream(inference, sensor=sensor())
    for stream in [Stream(inference, sensor=sensor()) for _ in range(24)]:
        stream.row(0)
        stream.cut()
    serve_until(server, proxied, 1)
    assert other.row(0).sequence == 1
    other.end()


def test_a_client_that_vanishes_ends_its_stream_at_the_server(between, proxied, server):
    with another_channel_to(between) as gone:
        Stream(inference_over(gone), sensor=sensor()).row(0)
    serve_until(server, proxied, 0)


def test_a_deadline_ends_the_call_at_the_server(proxied, server):
    late = inference_over(proxied).StreamDetect(iter(SimpleQueue().get, None), timeout=0.3)
    with pytest.raises(grpc.RpcError) as caught:
        list(late)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    serve_until(server, proxied, 0)


@pytest.mark.usefixtures("early_answers")
def test_clients_see_a_drain_and_reach_the_next_server(proxy, repository, tmp_path):
    with running_server(repository=repository) as server, RunningProxy(proxy, server.address, tmp_path) as between:
        address = server.address
        with channel_to(between) as channel:
            inference = inference_over(channel)
            streams = [Stream(inference, sensor=sensor()) for _ in range(4)]
            server.begin_stop()
            for stream in streams:
                assert stream.read().HasField("draining")
                assert stream.failure()[:2] == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            server.join()
            assert server.stopped_in_time
            assert forecast_code(inference) == grpc.StatusCode.UNAVAILABLE
            with running_server(repository=repository, address=address):
                while (code := forecast_code(inference)) != grpc.StatusCode.OK:
                    assert code == grpc.StatusCode.UNAVAILABLE
                assert Stream(inference, sensor=sensor()).end().last_sequence == 0


def forecast_code(inference):
    call = inference.Forecast.future(forecast_request(), timeout=10)
    return call.code()


def test_the_stream_of_a_client_that_reads_nothing_ends_and_delays_no_other(proxy, repository, tmp_path):
    def requests():
        yield pb.StreamDetectRequest(config=pb.StreamConfig(sensor=sensor(), explain=EXPLAIN_ALL))
        for row in range(400):
            yield pb.StreamDetectRequest(data=pb.StreamData(sequence=row + 1, batch=wide_batch(row)))

    with (
        running_server(repository=repository, slow_reader_seconds=0.5, **OPTIONS) as server,
        RunningProxy(proxy, server.address, tmp_path) as between,
        channel_to(between) as channel,
        another_channel_to(between) as others,
    ):
        call = inference_over(channel).StreamDetect(requests(), timeout=60)
        call.initial_metadata()  # reads nothing more
        serve_until(server, others, 0)  # nginx reads some MiB and stops: only an unanswered PING shows it
        call.cancel()  # its status depends on the proxy


def test_streams_that_are_silent_longer_than_the_default_timeout_of_proxies_continue(server, tmp_path):
    with contextlib.ExitStack() as stack:
        streams = {}
        for proxy in (proxy for proxy in PROXIES if proxy.path is not None):
            (folder := tmp_path / proxy.name).mkdir()
            between = stack.enter_context(RunningProxy(proxy, server.address, folder))
            stream = streams[proxy.name] = Stream(
                inference_over(stack.enter_context(channel_to(between))), timeout=120, sensor=sensor()
            )
            stream.row(0)
        threading.Event().wait(SILENT_SECONDS)
        assert {name: stream.row(1).sequence for name, stream in streams.items()} == dict.fromkeys(streams, 2)
        for stream in streams.values():
            stream.cut()
