"""Health on both ports, and reflection under both its names."""

import asyncio

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mods_grpc.server.app import App
from mods_grpc.server.config import ServerConfig
from mods_grpc.v1 import inference_pb2, model_pb2
from tests.support.models.tiny import publish_tiny
from tests.support.running_server import channel_to, running_server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
INFERENCE, MODELS = "mods.v1.InferenceService", "mods.v1.ModelService"
READINESS = ["", "readiness", INFERENCE, MODELS]
METHODS = {
    f"{service.full_name}/{method.name}"
    for file in (inference_pb2.DESCRIPTOR, model_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
REFLECTIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


def check(channel, name):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status


@pytest.fixture(params=["main", "health"])
def probed(request, server):
    address = server.address if request.param == "main" else server.health_address
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.mark.parametrize("name", [*READINESS, "liveness"])
def test_a_server_with_a_ready_model_is_healthy_on_both_ports(probed, name):
    assert check(probed, name) == SERVING


def test_an_unknown_service_is_not_found(probed):
    with pytest.raises(grpc.RpcError) as caught:
        check(probed, "other")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_health_port_serves_nothing_else(server):
    with grpc.insecure_channel(server.health_address) as channel:
        call = channel.unary_unary(f"/{MODELS}/ListModels")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("broken", [False, True], ids=["no model", "no model that loads"])
def test_a_server_without_a_model_is_alive_and_not_ready(tmp_path, broken):
    if broken:
        (publish_tiny(tmp_path) / "model.onnx").write_bytes(b"")
    with running_server(repository=tmp_path) as server:
        for address in (server.address, server.health_address):
            with grpc.insecure_channel(address) as channel:
                assert [check(channel, name) for name in READINESS] == [NOT_SERVING] * 4
                assert check(channel, "liveness") == SERVING


def test_readiness_is_served_before_during_and_after(tmp_path):
    """Before models are loaded and from the beginning of the drain on a server is not ready, and never dead."""
    publish_tiny(tmp_path)

    async def life():
        config = ServerConfig(
            repository=tmp_path,
            address="127.0.0.1:0",
            health_address="127.0.0.1:0",
            drain_delay_seconds=1.0,
        )
        app = App(config)
        loop, seen = asyncio.get_running_loop(), []
        prepare = app.repository.load

        def ask(port):
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                return [check(channel, name) for name in ("readiness", "liveness")]

        def look_and_prepare(entry):
            seen.append(ask(app.health_port))
            seen.append(ask(app.port))
            return prepare(entry)

        app.repository.load = look_and_prepare
        await app.start()
        for port in (app.health_port, app.port):
            seen.append(await loop.run_in_executor(None, ask, port))
        stopping = asyncio.ensure_future(app.stop())
        await asyncio.sleep(0)  # one turn of the loop, in which the drain begins
        for port in (app.health_port, app.port):
            seen.append(await loop.run_in_executor(None, ask, port))
        assert not stopping.done()
        assert await stopping
        return seen

    not_ready, ready = [NOT_SERVING, SERVING], [SERVING, SERVING]
    assert asyncio.run(life()) == [not_ready, not_ready, ready, ready, not_ready, not_ready]


def test_a_health_watch_is_notified_of_the_drain_and_does_not_delay_it(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path, grace_seconds=20.0) as server, channel_to(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=15)
        assert next(watch).status == SERVING
        server.begin_stop()
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() != grpc.StatusCode.DEADLINE_EXCEEDED
        server.join()
    assert server.stopped_in_time


def ask_reflection(channel, service, *requests):
    """Talk to either version by its name alone: their messages are the same on the wire."""
    call = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter([reflection_pb2.ServerReflectionRequest(**request) for request in requests]), timeout=10))


@pytest.mark.parametrize("service", REFLECTIONS)
def test_reflection_lists_the_services(channel, service):
    (response,) = ask_reflection(channel, service, {"list_services": ""})
    names = {entry.name for entry in response.list_services_response.service}
    assert names == {INFERENCE, MODELS, "grpc.health.v1.Health", *REFLECTIONS}


@pytest.mark.parametrize("service", REFLECTIONS)
@pytest.mark.parametrize("symbol", [INFERENCE, MODELS])
def test_reflection_describes_every_method_with_all_its_messages(channel, service, symbol):
    (response,) = ask_reflection(channel, service, {"file_containing_symbol": symbol})
    pool, waiting = DescriptorPool(), list(response.file_descriptor_response.file_descriptor_proto)
    seen = set()
    while waiting:
        file = FileDescriptorProto.FromString(waiting[-1])
        absent = [name for name in file.dependency if name not in seen]
        for name in absent:
            (more,) = ask_reflection(channel, service, {"file_by_filename": name})
            waiting += more.file_descriptor_response.file_descriptor_proto
        if absent:
            continue
        waiting.pop()
        if file.name not in seen:
            seen.add(file.name)
            pool.Add(file)
    names = {f"{symbol}/{method.name}" for method in pool.FindServiceByName(symbol).methods}
    assert names == {name for name in METHODS if name.startswith(symbol)}
    assert pool.FindMessageTypeByName("mods.v1.Model" if symbol == MODELS else "mods.v1.Verdict").fields


def test_the_reflection_client_of_grpc_finds_every_method(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    assert set(database.get_services()) >= {INFERENCE, MODELS}
    names = {f"{service}/{method.name}" for service in (INFERENCE, MODELS) for method in pool.FindServiceByName(service).methods}
    assert names == METHODS
    assert len(METHODS) == 5


@pytest.mark.parametrize("service", REFLECTIONS)
def test_what_reflection_does_not_know_is_answered_in_band(channel, service):
    first, second = ask_reflection(channel, service, {"file_containing_symbol": "mods.v1.Other"}, {"list_services": ""})
    assert first.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert second.list_services_response.service


@pytest.mark.parametrize("service", REFLECTIONS)
def test_reflection_can_be_left_out(tmp_path, service):
    with running_server(repository=tmp_path, reflection=False) as server, channel_to(server) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ask_reflection(channel, service, {"list_services": ""})
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
