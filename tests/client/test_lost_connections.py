"""Connections that are lost without a word: nothing comes any more, and nothing says so."""

import dataclasses
import hashlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from mods_grpc import errors
from mods_grpc.client import Client, Observation, Verdict
from mods_grpc.client.rpc.connection import Connection
from mods_grpc.client.streaming.stream import StreamInput
from mods_grpc.errors import DeadlineError, Reason
from mods_grpc.v1 import model_pb2
from tests.client.test_reconnecting import QUICK, batches, make_observations, score
from tests.support.certificates import make_authority, make_certificate, needs_openssl
from tests.support.client_rows import make_rows
from tests.support.cutting_proxy import CuttingProxy
from tests.support.rpc import scripted_server
from tests.support.rpc.name_server import name_server
from tests.support.rpc.scripted_server import ScriptedServer
from tests.support.running_server import Process, RunningServer, running_server

ANSWER_SECONDS = 2.0  # ample for an answer, on any machine
SHORT_SECONDS = 0.5  # for tests that may time out too early
TOKEN = "secret"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with running_server(repository=repository) as running:
        yield running


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(server.address)
    yield proxy
    proxy.close()


def wait_for_end(proxy: CuttingProxy, connections: int) -> None:
    """Wait until the client has closed so many connections."""
    deadline = time.monotonic() + 10
    while proxy.ended_connections < connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def call_over_a_lost_connection(client: Client, proxy: CuttingProxy) -> None:
    """Call before the loss, into it and after it."""
    models = client.models()
    proxy.lose_connections()
    with pytest.raises(DeadlineError):
        client.models()
    assert client.models() == models
    wait_for_end(proxy, 1)
    assert proxy.connections == 2


# Unary calls


def test_the_call_after_an_overdue_one_uses_a_new_connection(proxy: CuttingProxy) -> None:
    with Client(proxy.address, timeout_seconds=ANSWER_SECONDS) as client:
        call_over_a_lost_connection(client, proxy)


def test_a_new_connection_to_a_unix_socket_replaces_a_lost_one(server: RunningServer, tmp_path: Path) -> None:
    proxy = CuttingProxy(server.address, path=tmp_path / "socket")
    with Client(proxy.address, timeout_seconds=ANSWER_SECONDS) as client:
        call_over_a_lost_connection(client, proxy)
    proxy.close()


@needs_openssl
def test_a_new_connection_has_the_credentials_of_the_lost_one(repository: Path, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    key, certificate = make_certificate(tmp_path, authority, "server")
    tokens = tmp_path / "tokens"
    tokens.write_text(f"zeek {hashlib.sha256(TOKEN.encode()).hexdigest()} infer,models\n")
    files = {"tls_key": str(key), "tls_certificate": str(certificate), "token_file": str(tokens)}
    credentials = grpc.ssl_channel_credentials(authority[1].read_bytes())
    with running_server(repository=repository, **files) as guarded:
        proxy = CuttingProxy(guarded.address)
        with Client(proxy.address, credentials=credentials, token=TOKEN, timeout_seconds=ANSWER_SECONDS) as client:
            call_over_a_lost_connection(client, proxy)
        proxy.close()


def test_the_name_of_the_server_is_resolved_again(server: RunningServer) -> None:
    dead = CuttingProxy(server.address)
    port = int(dead.address.rpartition(":")[2])
    standby = CuttingProxy(server.address, host="127.0.0.2", port=port)
    with name_server("127.0.0.1") as names:
        target = f"dns://127.0.0.1:{names.port}/server.test:{port}"
        with Client(target, timeout_seconds=ANSWER_SECONDS) as client:
            models = client.models()
            dead.stop_forwarding()
            names.address = "127.0.0.2"
            with pytest.raises(DeadlineError):
                client.models()
            assert client.models() == models
    assert (dead.connections, standby.connections) == (1, 1)
    dead.close()
    standby.close()


def test_a_server_that_has_no_time_for_a_call_keeps_its_connection() -> None:
    peer = ScriptedServer()
    peer.open_faults.append(errors.DeadlineError(Reason.DEADLINE_TOO_SHORT, "too short"))
    server, address = scripted_server.start(peer)
    proxy = CuttingProxy(address)
    with Client(proxy.address) as client:
        with pytest.raises(DeadlineError, match="too short"):
            client.models()
        client.models()
    assert proxy.connections == 1
    proxy.close()
    server.stop(None).wait()


def test_a_channel_is_replaced_once_it_has_connected_or_had_the_time_to() -> None:
    connection = Connection("127.0.0.1:1", None, answer_seconds=0.1)
    channel = connection.acquire()
    connection.replace(channel, asked_at=time.monotonic())
    assert connection.acquire() is channel
    channel.opened_at -= 3600
    connection.replace(channel, asked_at=time.monotonic())
    successor = connection.acquire()
    assert successor is not channel
    successor.answered_at = time.monotonic()
    connection.replace(channel, asked_at=time.monotonic())  # which was replaced already
    assert connection.acquire() is successor
    connection.replace(successor, asked_at=time.monotonic())
    assert connection.acquire() is not successor
    connection.close()


# A server that is merely slow


class SlowServer(ScriptedServer):
    """Answers GetModel for "slow" when it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)
        self.released = threading.Event()

    def GetModel(self, request, context):
        if request.name == "slow":
            self.arrived.release()
            self.released.wait(30)
        return super().GetModel(request, context)


@pytest.fixture
def slow_server() -> Iterator[tuple[SlowServer, CuttingProxy]]:
    peer = SlowServer()
    server, address = scripted_server.start(peer)
    proxy = CuttingProxy(address)
    yield peer, proxy
    peer.released.set()
    proxy.close()
    server.stop(None).wait()


def test_an_overdue_call_ends_no_other_and_the_old_connection_is_closed_after_the_last(
    slow_server: tuple[SlowServer, CuttingProxy],
) -> None:
    peer, proxy = slow_server
    request = model_pb2.GetModelRequest(name="slow")
    connection = Connection(proxy.address, None, answer_seconds=30)
    channel, same = connection.acquire(), connection.acquire()
    assert channel is same
    patient = channel.models.GetModel.future(request, timeout=30)
    assert peer.arrived.acquire(timeout=10)
    asked_at = time.monotonic()
    with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
        same.models.GetModel(request, timeout=0.2)
    channel.answered_at = channel.opened_at  # or it would be given time to connect
    connection.replace(same, asked_at)
    connection.release(same)
    successor = connection.acquire()
    assert successor.models.GetModel(model_pb2.GetModelRequest(), timeout=30).model.name == "campus"
    connection.release(successor)
    assert (proxy.connections, proxy.ended_connections) == (2, 0)
    peer.released.set()
    assert patient.result(30).model.name == "slow"
    connection.release(channel)
    wait_for_end(proxy, 1)
    connection.close()
    wait_for_end(proxy, 2)


def test_a_stream_with_answers_stays_on_its_connection_when_another_call_is_overdue(
    slow_server: tuple[SlowServer, CuttingProxy],
) -> None:
    peer, proxy = slow_server
    rows = make_rows(6)
    with (
        Client(proxy.address, timeout_seconds=ANSWER_SECONDS) as client,
        client.stream_detect(rows, sensor="s", resume=QUICK) as stream,
    ):
        next(stream)
        failures: list[errors.ModsError] = []

        def call() -> None:
            try:
                client.model("slow")
            except DeadlineError as error:
                failures.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        assert peer.arrived.acquire(timeout=10)
        next(stream)
        caller.join(10)
        assert len(failures) == 1
        assert len(list(stream)) == 4
        assert len(peer.configs) == 1
        client.models()
        wait_for_end(proxy, 1)


# Streams


@pytest.fixture(scope="module", params=["rows", "batches"])
def sent_and_expected(server: RunningServer, request: pytest.FixtureRequest) -> tuple[list, list[Verdict]]:
    """Rows or batches, and their verdicts over a connection that is not lost."""
    sent: list = make_observations() if request.param == "rows" else batches(make_observations(), 7)
    return sent, score(server.address, sent, sensor=f"undisturbed {request.param}")


def losing(sent: list[StreamInput], proxy: CuttingProxy, indices: set[int]) -> Iterator[StreamInput]:
    """Yield what is sent; at some indices, the connections are lost immediately before."""
    for index, item in enumerate(sent):
        if index in indices:
            proxy.lose_connections()
        yield item


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_stream_goes_on_over_a_new_connection_with_the_same_verdicts(
    server: RunningServer, proxy: CuttingProxy, sent_and_expected: tuple[list, list[Verdict]], in_flight: int
) -> None:
    sent, expected = sent_and_expected
    losses = {1, len(sent) // 2, len(sent) // 2 + 1}
    with Client(proxy.address, timeout_seconds=SHORT_SECONDS) as client:
        stream = client.stream_detect(
            losing(sent, proxy, losses), sensor=f"lost {len(sent)} {in_flight}", in_flight=in_flight, explain="all", resume=QUICK
        )
        assert list(stream) == expected
    assert proxy.connections >= len(losses)  # two in a row may be of one connection


def test_a_lost_connection_costs_the_streams_of_a_client_one_wait(
    proxy: CuttingProxy, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    rows = make_observations(names=("a",))
    expected = score(server.address, rows, sensor="alone")
    count, lost_at = 8, 20
    with Client(proxy.address, timeout_seconds=ANSWER_SECONDS) as client:
        streams = [client.stream_detect(rows, sensor=f"shared {i}", explain="all", resume=QUICK) for i in range(count)]
        verdicts: list[list[Verdict]] = [[] for _ in streams]
        with caplog.at_level(logging.INFO, logger="mods_grpc.client"):
            for index in range(len(rows)):
                if index == lost_at:
                    proxy.lose_connections()
                for stream, own in zip(streams, verdicts, strict=True):
                    own.append(next(stream))
        assert all(own == expected for own in verdicts)
        events = [record.message for record in caplog.records]
        assert events.count("stream_lost") == events.count("connection_replaced") == 1
        assert events.count("stream_resumed") == count
        wait_for_end(proxy, 1)
        for stream in streams:
            stream.close()
    assert proxy.connections == 2


def test_answers_that_are_lost_are_given_again_to_all_streams_of_a_sensor(server: RunningServer, proxy: CuttingProxy) -> None:
    rows = make_observations(names=("a",))
    expected = score(server.address, rows, sensor="alone, too")
    names = ("one", "two", "three")

    def source(name: str) -> Iterator[Observation]:
        return (Observation(name, row.time, row.values) for row in rows)

    with Client(proxy.address, timeout_seconds=SHORT_SECONDS) as client:
        streams = [client.stream_detect(source(name), sensor="site", explain="all", resume=QUICK) for name in names]
        verdicts: list[list[Verdict]] = [[] for _ in streams]
        for index in range(len(rows)):
            if index in {10, 21, 30}:
                proxy.lose_answers()
            with ThreadPoolExecutor(len(names)) as pool:
                for own, verdict in zip(verdicts, pool.map(next, streams), strict=True):
                    own.append(dataclasses.replace(verdict, series="a"))
    assert verdicts == [expected] * len(names)
    assert proxy.connections > 3


def test_a_server_that_comes_back_behind_its_standby_is_brought_up_to_date(repository: Path) -> None:
    rows = make_observations()
    with running_server(repository=repository) as first, running_server(repository=repository) as standby:
        expected = score(first.address, rows, sensor="undisturbed")
        proxy = CuttingProxy(first.address)

        def change_servers() -> Iterator[Observation]:
            for index, row in enumerate(rows):
                if index in {40, 46}:
                    proxy.switch_to((standby if index == 40 else first).address)
                    proxy.lose_connections()
                yield row

        with Client(proxy.address, timeout_seconds=ANSWER_SECONDS) as client:
            verdicts = list(client.stream_detect(change_servers(), sensor="moved", explain="all", resume=QUICK))
        proxy.close()
    assert proxy.connections == 3
    assert without_episodes(verdicts) == without_episodes(expected)


def test_a_standby_that_takes_over_from_a_stopped_server_gives_the_same_verdicts(repository: Path) -> None:
    rows = make_observations()

    def stop_server() -> Iterator[Observation]:
        for index, row in enumerate(rows):
            if index == 36:
                first.process.send_signal(signal.SIGSTOP)
                proxy.switch_to(f"127.0.0.1:{standby_port}")
            yield row

    options = (repository, "--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0")
    with Process(*options) as first, Process(*options) as standby:
        port, standby_port = first.port(), standby.port()
        expected = score(f"127.0.0.1:{port}", rows, sensor="undisturbed")
        proxy = CuttingProxy(f"127.0.0.1:{port}")
        with Client(proxy.address, timeout_seconds=ANSWER_SECONDS) as client:
            verdicts = list(client.stream_detect(stop_server(), sensor="stopped", explain="all", resume=QUICK))
        proxy.close()
    assert proxy.connections == 2
    assert without_episodes(verdicts) == without_episodes(expected)


def without_episodes(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the verdicts less what a server can't restore from the last rows."""
    return [dataclasses.replace(verdict, episode=None, drift=False) for verdict in verdicts]


@pytest.mark.slow
def test_a_connection_that_dies_while_no_answer_is_due_is_closed(proxy: CuttingProxy) -> None:
    rows = make_observations()
    with Client(proxy.address) as client, client.stream_detect(rows, sensor="idle", resume=QUICK) as stream:
        next(stream)
        proxy.lose_connections()
        deadline = time.monotonic() + 60
        while not proxy.ended_connections:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(list(stream)) == len(rows) - 1
    assert proxy.connections == 2


def test_closing_a_client_ends_the_calls_on_replaced_channels_too(slow_server: tuple[SlowServer, CuttingProxy]) -> None:
    peer, proxy = slow_server
    client = Client(proxy.address, timeout_seconds=ANSWER_SECONDS)
    stream = client.stream_detect(make_rows(3), resume=QUICK)
    next(stream)
    with pytest.raises(DeadlineError):
        client.model("slow")
    client.models()
    assert proxy.connections == 2
    client.close()
    wait_for_end(proxy, 2)
    with pytest.raises(errors.ConnectionFailedError, match="closed"):
        list(stream)
    with pytest.raises(errors.ConnectionFailedError, match="closed"):
        client.models()
    peer.released.set()
