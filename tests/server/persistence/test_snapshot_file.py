"""State that outlives the process: after a drain as if nothing had been, after a crash with what the client replays."""

import logging
import shutil
import signal
import threading

import numpy as np
import pytest

from mods_grpc.client import Client, Observation, ResumePolicy, VerdictStatus
from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.server.persistence.snapshot_file import MAGIC, read_state
from mods_grpc.server.persistence.snapshotter import CHUNK_SERIES
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2, verdict_pb2
from tests.support.http2.client import Stream, at, observation
from tests.support.models.tiny import LEVELS, publish_tiny
from tests.support.running_server import Process, channel_to, running_server

SCORED = verdict_pb2.VERDICT_STATUS_SCORED


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


def served(repository, path, **options):
    return running_server(repository=repository, state_file=str(path), **{"state_interval_seconds": 0.0} | options)


def stream_to(channel, sensor="zeek"):
    return Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor=sensor)


def test_after_a_drain_a_stream_goes_on_as_if_nothing_had_been(repository, tmp_path):
    path = tmp_path / "state"
    with running_server(repository=repository) as server, channel_to(server) as channel:
        stream = stream_to(channel)
        expected = [stream.row(row).verdict for row in range(30)]
        stream.end()
    found = []
    for first in (0, 10, 20):
        with served(repository, path) as server, channel_to(server) as channel:
            stream = stream_to(channel)
            assert stream.opened.state == (pb.STATE_ORIGIN_RESUMED if first else pb.STATE_ORIGIN_FRESH)
            assert stream.opened.series_held == (1 if first else 0)
            found += [stream.row(row).verdict for row in range(first, first + 10)]
            stream.end()
    assert [(v.p_value, v.status, v.episode) for v in found] == [(v.p_value, v.status, v.episode) for v in expected]


def test_an_answer_that_was_lost_before_the_restart_is_given_again(repository, tmp_path):
    with served(repository, tmp_path / "state") as server, channel_to(server) as channel:
        stream = stream_to(channel)
        answers = [stream.row(row) for row in range(8)]
        stream.cut()
    with served(repository, tmp_path / "state") as server, channel_to(server) as channel:
        stream = stream_to(channel)
        again = stream.row(7)
        assert again.verdict == answers[7].verdict
        assert again.verdict.status == SCORED
        stream.end()


def test_state_goes_to_a_new_version_with_the_same_features(repository, tmp_path):
    with served(repository, tmp_path / "state") as server, channel_to(server) as channel:
        stream = stream_to(channel)
        for row in range(8):
            stream.row(row)
        stream.end()
    publish_tiny(repository, version=2)
    with served(repository, tmp_path / "state") as server, channel_to(server) as channel:
        stream = stream_to(channel)
        assert stream.row(8).verdict.status == SCORED
        stream.end()


def test_state_of_a_model_that_is_gone_is_left_aside(repository, tmp_path, caplog):
    with served(repository, tmp_path / "state") as server, channel_to(server) as channel:
        stream_to(channel).row(0)
    shutil.rmtree(repository / "tiny")
    publish_tiny(repository, "other")
    with caplog.at_level(logging.WARNING), served(repository, tmp_path / "state"):
        pass
    (skipped,) = [record for record in caplog.records if record.message == "state_skipped"]
    assert (skipped.model, skipped.reason) == ("tiny", "the model is not served")


DAMAGES = {
    "truncated": lambda data: data[:-10],
    "a flipped bit": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "empty": lambda data: b"",
    "something else": lambda data: b"\x80\x04K\x01.",
    "another version": lambda data: data.replace(b"state 3", b"state 9"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_refused_with_a_log_line_and_is_not_fatal(repository, tmp_path, caplog, kind):
    path = tmp_path / "state"
    with served(repository, path) as server, channel_to(server) as channel:
        stream_to(channel).row(0)
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    with pytest.raises(ValueError, match="it "):
        read_state(path)
    with caplog.at_level(logging.ERROR), served(repository, path) as server, channel_to(server) as channel:
        assert stream_to(channel).opened.state == pb.STATE_ORIGIN_FRESH
    assert caplog.text.count("state_rejected") == 1


def test_a_file_that_can_not_be_written_is_logged_and_the_server_goes_on(repository, tmp_path, caplog):
    with caplog.at_level(logging.ERROR), served(repository, tmp_path / "no" / "state") as server, channel_to(server) as channel:
        assert stream_to(channel).row(0)
    assert server.stopped_in_time
    assert "state_not_written" in caplog.text


def test_the_file_is_replaced_whole_and_holds_nothing_but_arrays(repository, tmp_path):
    path = tmp_path / "state"
    with served(repository, path) as server, channel_to(server) as channel:
        stream = stream_to(channel)
        stream.batch(list(range(6)))
    data = path.read_bytes()
    assert data.startswith(MAGIC)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith("state")] == ["state"]
    state = read_state(path)
    assert state.complete
    (model,) = state.models
    assert (model.name, model.version, model.series.names) == ("tiny", 1, ("web",))
    np.testing.assert_array_equal(model.series.values[0], LEVELS[2:6])
    assert model.series.last_time.tolist() == [at(5)]


def test_many_series_are_written_in_parts_each_sensor_whole_and_all_come_back(repository, tmp_path, caplog):
    path, names = tmp_path / "state", [f"host-{number}" for number in range(CHUNK_SERIES * 3 // 4)]
    batch = values_pb2.ObservationBatch(
        series=names, observe_time_unix_nano=[at(0)], values=pack_float64(np.tile(LEVELS[0], (len(names), 1)))
    )
    with served(repository, path) as server, channel_to(server) as channel:
        for sensor in ("a", "b", "c"):
            stream = stream_to(channel, sensor=sensor)
            assert not stream.send(batch=batch).HasField("error")
            stream.end()
    found = [sorted(set(part.series.sensors)) for part in read_state(path).models]
    assert found == [["a", "b"], ["c"]]
    with caplog.at_level(logging.INFO), served(repository, path) as server, channel_to(server) as channel:
        for sensor in ("a", "b", "c"):
            stream = stream_to(channel, sensor=sensor)
            assert (stream.opened.state, stream.opened.series_held) == (pb.STATE_ORIGIN_RESUMED, len(names))
            stream.end()
    (restored,) = [record for record in caplog.records if record.message == "state_restored"]
    assert (restored.model, restored.series, restored.complete) == ("tiny", 3 * len(names), True)


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGKILL] * 3, id="kill"),
        pytest.param([signal.SIGTERM, signal.SIGKILL, signal.SIGTERM], id="mixed", marks=pytest.mark.slow),
    ],
)
def test_a_client_goes_on_over_kills_and_every_verdict_is_that_of_one_replay(repository, tmp_path, signals):
    rows = 240
    values = LEVELS[:rows].copy()
    values[100:103] *= 30
    observations = [Observation("web", at(row), values[row]) for row in range(rows)]
    with running_server(repository=repository) as server, Client(server.address) as client:
        expected = client.detect([at(row) for row in range(rows)], values, model="tiny", explain="all")
    address = f"unix:{tmp_path}/socket"
    arguments = (
        *(repository, "--address", address, "--health-address", "127.0.0.1:0", "--no-canary"),
        *("--state-file", tmp_path / "state", "--state-interval-seconds", "0.02"),
    )
    at_row, within_episode = [40, 101, 170], 101
    reached, killed = [threading.Event() for _ in at_row], threading.Event()

    def source():
        for row, one in enumerate(observations):
            if row == within_episode:  # an episode that is open outlives a kill as far as it was written
                while read_state(tmp_path / "state").models[0].series.last_time.tolist() != [at(row - 1)]:
                    pass
            if row in at_row:
                reached[at_row.index(row)].set()
            if row == within_episode:
                assert killed.wait(60)
            yield one

    found = []

    def judge():
        resume = ResumePolicy(total_seconds=60, first_wait_seconds=0.01, longest_wait_seconds=0.1)
        with Client(address) as client:
            found.extend(client.stream_detect(source(), model="tiny", sensor="zeek", explain="all", resume=resume))

    process = Process(*arguments)
    process.port()
    judging = threading.Thread(target=judge)
    judging.start()
    for number, event in enumerate(reached):
        assert event.wait(60)
        with process:
            process.process.send_signal(signals[number])
            assert process.finish() in (0, -signal.SIGKILL)
        if at_row[number] == within_episode:
            killed.set()
        process = Process(*arguments)
        process.port()
    with process:
        judging.join(60)
        assert not judging.is_alive()
    judged = [verdict for verdict in found if verdict.status is not VerdictStatus.WARMING_UP]
    assert len(found) == rows
    assert [verdict.status for verdict in judged] == [VerdictStatus.SCORED] * len(judged)
    assert [verdict.p_value for verdict in judged] == expected.p_values.tolist()
    assert [(v.anomalous, v.episode) for v in judged] == [(v.anomalous, v.episode) for v in expected.verdicts]


def test_state_of_a_crash_is_fresh_for_a_client_until_it_has_replayed(repository, tmp_path):
    path = tmp_path / "state"
    with served(repository, path, state_interval_seconds=0.01) as server, channel_to(server) as channel:
        stream = stream_to(channel)
        for row in range(8):
            stream.row(row)
        while not path.exists():
            pass
        crashed = path.read_bytes()
        while read_state(path).models[0].series.last_time.tolist() != [at(7)]:
            pass
        crashed = path.read_bytes()
        stream.end()
    path.write_bytes(crashed)
    assert not read_state(path).complete
    with served(repository, path) as server, channel_to(server) as channel:
        stream = stream_to(channel)
        assert (stream.opened.state, stream.opened.series_held) == (pb.STATE_ORIGIN_FRESH, 1)
        assert stream.send(observation=observation(7), warm_up=True).verdict.status in (
            SCORED,
            verdict_pb2.VERDICT_STATUS_DUPLICATE,
        )
        assert stream.row(8).verdict.status == SCORED
        stream.end()
        again = stream_to(channel)
        assert again.opened.state == pb.STATE_ORIGIN_RESUMED
        again.end()
