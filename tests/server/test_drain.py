"""A drain sends what waits for the windows of its peers, as long as the grace lasts, and no peer can make it last longer."""

import ssl

import numpy as np
import pytest

from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.server.streaming import stream_io
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2
from tests.support import certificates
from tests.support.http2.window_peer import WINDOW, WindowPeer
from tests.support.models.tiny import LEVELS, ROWS, publish_tiny
from tests.support.rpc.client import observation_batch
from tests.support.running_server import running_server

FORECAST, STREAM = (f"/mods.v1.InferenceService/{name}" for name in ("Forecast", "StreamDetect"))
WINDOWS = 100  # of a request of 6 kB, whose answer of about 150 kB is larger than the windows of a connection
COVERAGES = [number / 100 for number in range(50, 66)]
CALLS = 8
OK, UNAVAILABLE = 0, 14


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path)
    return tmp_path


def large_request():
    batch = values_pb2.WindowBatch(start_time_unix_nano=[10**18], values=pack_float64(np.tile(LEVELS[:ROWS], (WINDOWS, 1))))
    return pb.ForecastRequest(batch=batch, coverages=COVERAGES).SerializeToString()


def opening(sensor):
    return pb.StreamDetectRequest(config=pb.StreamConfig(sensor=sensor)).SerializeToString()


def rows(sequence):
    first = 4 * sequence
    data = pb.StreamData(sequence=sequence, batch=observation_batch(list(range(first, first + 4))))
    return pb.StreamDetectRequest(data=data).SerializeToString()


def fill_window(peer):
    """Read until nothing more fits into the window of the connection; grpcio leaves a few bytes of it."""
    peer.read_until(lambda: sum(map(len, peer.bodies.values())) >= WINDOW - 100)


def kinds(peer, number):
    return [pb.StreamDetectResponse.FromString(message).WhichOneof("message") for message in peer.messages(number)]


def count(server, metric, **labels):
    """Add up the samples of a metric that have these labels."""
    samples = [sample for family in server.app.metrics.registry.collect() for sample in family.samples if sample.name == metric]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def count_scored(server):
    return count(server, "mods_observations_total", outcome="scored")


def secure(folder):
    """Return the options of a server with TLS, and the context of its client."""
    authority = certificates.make_authority(folder)
    key, certificate = certificates.make_certificate(folder, authority, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority[1])
    context.set_alpn_protocols(["h2"])
    return {"tls_certificate": str(certificate), "tls_key": str(key)}, context


@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=certificates.needs_openssl)], ids=["plain", "TLS"])
def test_answers_that_wait_for_the_windows_of_their_peer_are_sent_whole(repository, tmp_path_factory, tls):
    options, context = secure(tmp_path_factory.mktemp("keys")) if tls else ({}, None)
    with (
        running_server(repository=repository, grace_seconds=20.0, **options) as server,
        WindowPeer(server.app.port, tls=context) as peer,
    ):
        for _ in range(CALLS):
            peer.call(FORECAST, large_request())
        fill_window(peer)
        peer.read_until(lambda: count(server, "grpc_server_started_total", grpc_method="Forecast") == CALLS)
        server.begin_stop()
        peer.read_until(lambda: peer.goaways)
        peer.read_all()
        assert set(peer.statuses.values()) == {0}
        [answer] = {bytes(body) for body in peer.bodies.values()}
        assert len(answer) > 2 * WINDOW
        assert pb.ForecastResponse.FromString(answer[5:]).HasField("batch")
        peer.close()
        server.join()
        assert server.stopped_in_time


@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
def test_streams_whose_answers_wait_for_the_windows_of_their_peer_get_them_and_are_told(repository, monkeypatch, half_closed):
    monkeypatch.setattr(stream_io, "FINAL_STATUS_SECONDS", 0.2)  # which bounds other ends than a drain
    with running_server(repository=repository, grace_seconds=20.0) as server, WindowPeer(server.app.port) as peer:
        streams = [peer.call(STREAM, opening(f"sensor {number}"), rows(1), end=False) for number in range(CALLS)]
        peer.read_until(lambda: all(len(peer.messages(stream)) == 2 for stream in streams))
        before = count_scored(server)
        peer.call(FORECAST, large_request())
        fill_window(peer)
        for stream in streams:
            peer.write(stream, rows(2), end=half_closed)
        peer.read_until(lambda: count_scored(server) == before + 4 * CALLS)
        server.begin_stop()
        peer.read(1.0)
        peer.read_all()
        # a stream that its peer has closed is over with its last answer
        assert [peer.statuses[stream] for stream in streams] == [OK if half_closed else UNAVAILABLE] * CALLS
        expected = ["opened", "answer", "answer"] if half_closed else ["opened", "answer", "answer", "draining"]
        assert [kinds(peer, stream) for stream in streams] == [expected] * CALLS
        assert peer.statuses[max(peer.statuses)] == 0
        peer.close()
        server.join()
        assert server.stopped_in_time


def test_a_peer_that_reads_nothing_delays_the_drain_of_no_other(repository):
    with (
        running_server(repository=repository, grace_seconds=20.0) as server,
        WindowPeer(server.app.port, initial_window=0) as stuck,
        WindowPeer(server.app.port) as other,
    ):
        stuck.call(STREAM, opening("stuck"), rows(1), end=False)
        other.call(FORECAST, large_request())
        fill_window(other)
        server.begin_stop()
        other.read_until(lambda: other.goaways)  # a client that learns of it only when the grace is over goes on calling
        other.read_all()
        assert list(other.statuses.values()) == [0]
        assert server.is_running()
        stuck.close()
        other.close()
        server.join()


def test_what_a_peer_never_takes_ends_with_the_grace_and_the_drain_was_not_in_time(repository):
    with (
        running_server(repository=repository, grace_seconds=1.0) as server,
        WindowPeer(server.app.port, initial_window=0) as stuck,
    ):
        stuck.call(FORECAST, large_request())
        stuck.call(STREAM, opening("stuck"), rows(1), end=False)
        stuck.read_until(lambda: count(server, "mods_inference_duration_seconds_count") and count(server, "mods_streams_open"))
        server.begin_stop()
        server.join()
        assert not server.stopped_in_time
        stuck.read_until(lambda: stuck.closed)
