"""Life of a server: idle, unread and lost streams, the drain, and the exit codes of the process."""

import os
import signal
import time
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
import pytest

from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.onnx import ort as runtime
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL, VERDICT_STATUS_SCORED
from tests.support.models.tiny import LEVELS, ROWS, publish_tiny
from tests.support.rpc.client import Stream, at, forecast_request, observation_batch
from tests.support.running_server import Process, channel_to, run_failing_servers, running_server

MANY = 4096


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path)
    return tmp_path


def test_a_draining_server_sends_each_stream_its_last_sequence(repository):
    with running_server(repository=repository) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        idle, used, unopened = Stream(inference, sensor="idle"), Stream(inference, sensor="used"), Stream(inference, config=False)
        for row in range(6):
            used.row(row)
        server.begin_stop()
        for stream, sequence in ((idle, 0), (used, 6)):
            message = stream.read()
            assert message.draining.last_sequence == sequence
            assert message.model.name == "tiny"
            code, reason, details = stream.failure()
            assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert details["RetryInfo"].retry_delay.seconds == 1
        unopened.cut()
        server.join()
        assert server.stopped_in_time


def test_a_stream_that_never_pauses_gets_the_draining_message_too(repository):
    options = {"max_bad_messages": 10**6, "grace_seconds": 25.0}
    with running_server(repository=repository, **options) as server, channel_to(server) as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).StreamDetect(endless(), timeout=30)
        assert next(call).HasField("opened")
        assert next(call).answer.sequence == 1
        server.begin_stop()
        last = 1
        for response in call:
            if response.HasField("draining"):
                break
            last = response.answer.sequence
        assert response.draining.last_sequence == last
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        server.join()
        assert server.stopped_in_time


def endless():
    yield pb.StreamDetectRequest(config=pb.StreamConfig(sensor="endless"))
    sequence = 0
    while True:
        sequence += 1
        yield pb.StreamDetectRequest(data=pb.StreamData(sequence=sequence, batch=observation_batch(list(range(8)))))


def test_started_calls_finish_during_a_drain_and_none_hangs(repository):
    with running_server(repository=repository) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        batch = values_pb2.WindowBatch(start_time_unix_nano=[10**18], values=pack_float64(np.tile(LEVELS[:ROWS], (4 * MANY, 1))))
        large = pb.ForecastRequest(batch=batch, coverages=[0.9])
        admission = server.app._boundary.admission
        first = inference.Forecast.future(large, timeout=30)
        while not admission.pending and not first.done():
            assert first.is_active()
        calls = [inference.Forecast.future(large, timeout=30) for _ in range(8)]
        server.begin_stop()
        assert len(first.result(30).batch.values) == 4 * MANY * 3 * 2 * 8
        # calls that the server never started end in one of two ways, depending on gRPC
        ends = {call.code() for call in calls}
        assert ends <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        server.join()
        assert server.stopped_in_time
        with pytest.raises(grpc.RpcError) as caught:
            inference.Forecast(forecast_request(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_calls_beyond_the_stream_limit_of_a_connection_wait_and_none_is_rejected(repository):
    with running_server(repository=repository, max_concurrent_streams=8) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        for _ in range(5):
            calls = [inference.Forecast.future(forecast_request(), timeout=30) for _ in range(100)]
            assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_a_server_with_open_streams_stops_well_within_its_grace(repository):
    with running_server(repository=repository, grace_seconds=25.0) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        streams = [Stream(inference, sensor=f"open {number}") for number in range(20)]
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 10
        assert server.stopped_in_time
        assert {stream.failure()[:2] for stream in streams} == {(grpc.StatusCode.UNAVAILABLE, "DRAINING")}


def test_an_idle_stream_ends(repository):
    with running_server(repository=repository, stream_idle_seconds=0.2) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        opened, unopened = Stream(inference, sensor="idle"), Stream(inference, config=False)
        for stream in (opened, unopened):
            code, reason, details = stream.failure()
            assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "STREAM_IDLE")
            assert details["ErrorInfo"].metadata["limit"] == "0.2"
        again = Stream(inference, sensor="idle")
        assert again.row(0).sequence == 1
        again.cut()


def test_the_stream_of_a_peer_that_never_reads_ends_and_delays_no_other(repository):
    options = {"slow_reader_seconds": 0.3, "max_observations": MANY, "max_series": 2 * MANY}
    with running_server(repository=repository, **options) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        series = [f"series {number}" for number in range(MANY)]

        def requests():
            yield pb.StreamDetectRequest(config=pb.StreamConfig(sensor="mute", explain=EXPLAIN_ALL))
            for row in range(200):
                values = pack_float64(np.tile(LEVELS[row], (MANY, 1)))
                batch = values_pb2.ObservationBatch(series=series, observe_time_unix_nano=[at(row)], values=values)
                yield pb.StreamDetectRequest(data=pb.StreamData(sequence=row + 1, batch=batch))

        call = inference.StreamDetect(requests(), timeout=60)
        call.initial_metadata()  # reads nothing more
        other = Stream(inference, sensor="other")
        row = 0
        while server.app._streams.open_count > 1:
            assert not other.row(row, LEVELS[row % len(LEVELS)]).HasField("error")
            row += 1
        other.cut()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "was not read for 0.3 s" in caught.value.details()


def held(server, sensor):
    all_series = server.model().series
    return sorted(
        (name, int(all_series.table.filled[slot])) for slot, (owner, name) in all_series._owners.items() if owner == sensor
    )


def test_a_lost_connection_applies_nothing_more_and_its_state_is_resumed(repository):
    with running_server(repository=repository) as server:
        with channel_to(server) as channel:
            first = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="lost")
            for row in range(ROWS + 2):
                first.row(row)
        # the channel is closed without ending the stream
        assert held(server, "lost") == [("web", ROWS)]
        with channel_to(server) as channel:
            second = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="lost")
            assert second.opened.state == pb.STATE_ORIGIN_RESUMED
            assert second.opened.series_held == 1
            assert second.row(ROWS + 2).verdict.status == VERDICT_STATUS_SCORED
            second.call.cancel()
            second.cut()
            third = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="lost")
            assert third.row(ROWS + 3).verdict.status == VERDICT_STATUS_SCORED
            third.cut()
        server.stop()
        assert server.stopped_in_time


def silent():
    return iter(SimpleQueue().get, None)


def test_an_expired_call_frees_its_stream(repository):
    with running_server(repository=repository, max_streams=1) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        late = inference.StreamDetect(silent(), timeout=0.2)
        with pytest.raises(grpc.RpcError) as caught:
            next(late)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        for _ in range(3):
            again = Stream(inference, sensor="late")
            assert again.end().last_sequence == 0
            assert again.failure()[0] == grpc.StatusCode.OK


def test_the_runtime_sends_no_telemetry():
    assert runtime.ort
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    importing = {path: path.read_text() for path in Path(runtime.__file__).parents[1].rglob("*.py")}
    importing = {path.name: source for path, source in importing.items() if "import onnxruntime" in source}
    assert list(importing) == ["ort.py"]
    assert importing["ort.py"].index("ORT_DISABLE_TELEMETRY") < importing["ort.py"].index("import onnxruntime")


def test_sigterm_exits_with_0_and_a_second_server_on_the_port_exits_with_2(repository):
    anywhere = ("--health-address", "127.0.0.1:0")
    with Process(repository, "--address", "127.0.0.1:0", *anywhere) as first:
        port = first.port()
        with Process(repository, "--address", f"127.0.0.1:{port}", *anywhere) as second:
            assert second.finish() == 2
            assert sum("level=ERROR" in line for line in second.lines) == 1
            assert f"cannot listen on 127.0.0.1:{port}: " in second.lines[-1]
            assert not any("Traceback" in line for line in second.lines)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel))
            stream.row(0)
            started = time.monotonic()
            first.process.send_signal(signal.SIGTERM)
            assert stream.read().draining.last_sequence == 1
            assert stream.failure()[:2] == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert first.finish() == 0
        assert time.monotonic() - started < ServerConfig().grace_seconds
        assert not any("Traceback" in line or "level=ERROR" in line for line in first.lines)


def test_a_second_signal_exits_immediately_and_not_with_0(repository):
    with Process(
        repository, "--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0", "--drain-delay-seconds", "100"
    ) as server:
        server.port()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        assert server.finish() == 1
        assert not any("Traceback" in line for line in server.lines)


FIFO = object()  # stands for the path of one
UNUSABLE = {
    "a repository that is absent": (["absent"], "cannot read the model repository absent: No such file or directory"),
    "an address of another machine": (
        [".", "--address", "192.0.2.1:50051", "--insecure-public"],
        "cannot listen on 192.0.2.1:50051: ",
    ),
    "a health address of another machine": (
        [".", "--address", "127.0.0.1:0", "--health-address", "192.0.2.1:50052"],
        "cannot listen on 192.0.2.1:50052 for health checks",
    ),
    "a port without a host": ([".", "--address", "localhost"], "--address is 'localhost', but the port is missing"),
    "a socket in a folder that is absent": ([".", "--address", "unix:/nowhere/x.sock"], "the folder /nowhere is missing"),
    "a path too long for a socket": ([".", "--address", "unix:/" + "x" * 107], "expected a path of 1 to 107 bytes, found 108"),
    "a certificate that is absent": (
        [".", "--address", "127.0.0.1:0", "--tls-certificate", "absent.pem", "--tls-key", "absent.key"],
        "absent.pem: No such file or directory",
    ),
    "a certificate that is none": (
        [".", "--address", "127.0.0.1:0", "--tls-certificate", __file__, "--tls-key", __file__],
        "expected a certificate chain, its private key without a password",
    ),
    "tokens from a FIFO": ([".", "--address", "127.0.0.1:0", "--token-file", FIFO], "fifo: expected a regular file"),
    "a certificate from a FIFO": (
        [".", "--address", "127.0.0.1:0", "--tls-certificate", FIFO, "--tls-key", FIFO],
        "fifo: expected a regular file",
    ),
    "tokens that are absent": ([".", "--address", "127.0.0.1:0", "--token-file", "absent"], "absent: No such file or directory"),
    "a metrics address of another machine": (
        [".", "--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0", "--metrics-address", "192.0.2.1:1"],
        "cannot listen on 192.0.2.1:1 for metrics: no interface of this machine has this address",
    ),
    "a port that is none": ([".", "--address", "127.0.0.1:99999"], "--address is '127.0.0.1:99999', expected host:port"),
    "an address beyond loopback": ([".", "--address", "0.0.0.0:0"], "--address 0.0.0.0:0 is beyond loopback"),
}


@pytest.fixture(scope="module")
def failed_starts(tmp_path_factory):
    """Exit status and lines of each unusable command, by case."""
    fifo = tmp_path_factory.mktemp("files") / "fifo"
    os.mkfifo(fifo)
    commands = [[fifo if word is FIFO else word for word in arguments] for arguments, _ in UNUSABLE.values()]
    return dict(zip(UNUSABLE, run_failing_servers(*commands), strict=True))


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_server_that_cannot_start_exits_with_2_and_logs_why_in_one_line(failed_starts, case):
    status, lines = failed_starts[case]
    assert status == 2
    reasons = [line for line in lines if UNUSABLE[case][1] in line]
    assert len(reasons) == 1, lines
    assert not any("Traceback" in line for line in lines)
    assert reasons[0] == lines[-1]
