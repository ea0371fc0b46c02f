"""State that outlives the process: complete after a drain, completed by the client's replay after a crash."""

import contextlib
import hashlib
import io
import json
import logging
import signal
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.client import Client, Observation, ResumePolicy, VerdictStatus
from mods_grpc.detection import SeriesTable
from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.server.models.unserved import ModelSeries
from mods_grpc.server.persistence.snapshot_file import DIGEST_BYTES, MAGIC, SavedState, read_state, take_snapshot, write_state
from mods_grpc.server.persistence.snapshotter import CHUNK_SERIES
from mods_grpc.server.series.replay_cache import ReplayCache
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2, verdict_pb2
from tests.support.models.tiny import LEVELS, ROWS, publish_tiny
from tests.support.rpc.client import Stream, at, observation
from tests.support.running_server import Process, channel_to, running_server

NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }".ljust(127) + b"\n"
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
SCORED = verdict_pb2.VERDICT_STATUS_SCORED


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


def served(repository, path, **options):
    return running_server(repository=repository, state_file=str(path), **{"state_interval_seconds": 0.0} | options)


def wait_for_state(path, row):
    """Return when the state file holds one series up to a row. Earlier files may be absent or hold no series."""
    last_times = None
    while last_times != [at(row)]:
        with contextlib.suppress(FileNotFoundError):
            last_times = [time for model in read_state(path).models for time in model.series.last_time.tolist()]


def stream_to(channel, sensor="zeek"):
    return Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor=sensor)


def test_a_stream_continues_after_a_drained_restart_with_the_same_verdicts(repository, tmp_path):
    path = tmp_path / "state"
    with running_server(repository=repository) as server, channel_to(server) as channel:
        stream = stream_to(channel)
        expected = [stream.row(row).verdict for row in range(30)]
        stream.end()
    verdicts = []
    for first in (0, 10, 20):
        with served(repository, path) as server, channel_to(server) as channel:
            stream = stream_to(channel)
            assert stream.opened.state == (pb.STATE_ORIGIN_RESUMED if first else pb.STATE_ORIGIN_FRESH)
            assert stream.opened.series_held == (1 if first else 0)
            verdicts += [stream.row(row).verdict for row in range(first, first + 10)]
            stream.end()
    assert [(v.p_value, v.status, v.episode) for v in verdicts] == [(v.p_value, v.status, v.episode) for v in expected]


def test_a_reply_that_was_lost_before_the_restart_is_sent_again(repository, tmp_path):
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


def test_state_is_restored_into_a_new_version_with_the_same_features(repository, tmp_path):
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


def with_digest(content):
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def pack(header, **arrays):
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    return file.getvalue()


def change_content(data, change):
    """Return a state file with its arrays changed in place, and the right digest."""
    with np.load(io.BytesIO(data[len(MAGIC) + DIGEST_BYTES :])) as content:
        arrays = {key: content[key] for key in content.files}
    change(arrays)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return with_digest(file.getvalue())


def change_array(data, name, change):
    return change_content(data, lambda arrays: arrays.update({f"0.{name}": change(arrays[f"0.{name}"])}))


def change_header(data, change):
    def replace(arrays):
        header = change(json.loads(arrays["header"].tobytes()))
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)

    return change_content(data, replace)


def with_negative_replies(header):
    (model,) = header["models"]
    model["replies"] |= {"more": 1, "negative": -1}
    return header


DAMAGES = {
    "truncated": lambda data: data[:-10],
    "half": lambda data: data[: len(data) // 2],
    "no zip, with the right digest": lambda data: with_digest(b"something else"),
    "a truncated zip, with the right digest": lambda data: with_digest(data[len(MAGIC) + DIGEST_BYTES : -30]),
    "a single array, with the right digest": lambda data: with_digest(NPY),
    "a zip without a header, with the right digest": lambda data: with_digest(EMPTY_ZIP),
    "a header that is a list": lambda data: with_digest(pack([])),
    "a model without arrays": lambda data: with_digest(pack({"complete": True, "models": [{"answers": {}}]})),
    "windows of other series": lambda data: change_array(data, "values", lambda array: array[:0]),
    "more rows than a window has": lambda data: change_array(data, "filled", lambda array: array + 99),
    "times without series": lambda data: change_array(data, "last_time", lambda array: np.array(7)),
    "text for numbers": lambda data: change_array(data, "peak", lambda array: array.astype("U5")),
    "fewer cached replies than it counts": lambda data: change_array(data, "reply_sizes", lambda array: array[:0]),
    "fewer bytes than the cached replies have": lambda data: change_array(data, "reply_bytes", lambda array: array[1:]),
    "signed sizes of cached replies": lambda data: change_array(data, "reply_sizes", lambda array: array.astype(np.int32)),
    "a negative number of cached replies": lambda data: change_header(data, with_negative_replies),
    "a flipped bit": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "empty": lambda data: b"",
    "something else": lambda data: b"\x80\x04K\x01.",
    "another version": lambda data: data.replace(b"state 3", b"state 9"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_state_file_is_rejected_and_logged_and_the_server_starts(repository, tmp_path, caplog, kind):
    path = tmp_path / "state"
    with served(repository, path) as server, channel_to(server) as channel:
        stream_to(channel).row(0)
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    damaged = path.read_bytes()
    with pytest.raises(ValueError, match="it "):
        read_state(path)
    with caplog.at_level(logging.ERROR), served(repository, path) as server, channel_to(server) as channel:
        assert stream_to(channel).opened.state == pb.STATE_ORIGIN_FRESH
    assert caplog.text.count("state_rejected") == 1
    assert (tmp_path / "state.rejected").read_bytes() == damaged
    assert read_state(path).complete


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that gives EIO")
def test_a_state_file_that_cannot_be_read_is_not_taken_for_a_damaged_one():
    with pytest.raises(OSError, match="Input/output error"):
        read_state(Path("/proc/self/mem"))


def test_the_state_file_is_replaced_atomically_and_holds_only_arrays(repository, tmp_path):
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


def test_many_series_are_written_in_chunks_of_whole_sensors_and_all_are_restored(repository, tmp_path, caplog):
    path, names = tmp_path / "state", [f"host-{number}" for number in range(CHUNK_SERIES * 3 // 4)]
    batch = values_pb2.ObservationBatch(
        series=names, observe_time_unix_nano=[at(0)], values=pack_float64(np.tile(LEVELS[0], (len(names), 1)))
    )
    with served(repository, path) as server, channel_to(server) as channel:
        for sensor in ("a", "b", "c"):
            stream = stream_to(channel, sensor=sensor)
            assert not stream.send(batch=batch).HasField("error")
            stream.end()
    sensors = [sorted(set(chunk.series.sensors)) for chunk in read_state(path).models]
    assert sensors == [["a", "b"], ["c"]]
    with caplog.at_level(logging.INFO), served(repository, path) as server, channel_to(server) as channel:
        for sensor in ("a", "b", "c"):
            stream = stream_to(channel, sensor=sensor)
            assert (stream.opened.state, stream.opened.series_held) == (pb.STATE_ORIGIN_RESUMED, len(names))
            stream.end()
    (restored,) = [record for record in caplog.records if record.message == "state_restored"]
    assert (restored.model, restored.series, restored.complete) == ("tiny", 3 * len(names), True)


def test_writing_many_cached_replies_makes_no_copy_of_them(repository, tmp_path):
    series = SeriesSlots(SeriesTable(ROWS, 2), max_series=1000, max_series_per_sensor=9, idle_seconds=60.0)
    for number in range(100):
        cache = ReplayCache()
        series.swap_replies(f"sensor-{number}", cache.entries)
        cache.last = series.last_replies(f"sensor-{number}")
        series.add(f"sensor-{number}", "web")
        for row in range(100):
            cache.store("web", b"%d %d" % (number, row) + bytes(400), bytes(200))
    model = ModelSeries(name="tiny", version=1, digest="d", grid=(), series=series)
    state = SavedState(models=(take_snapshot(model, series.sensors()),), complete=True)
    replies = state.models[0].series.answers
    cached = sum(reply.size for entries in replies.values() for reply in entries)
    tracemalloc.start()
    try:
        write_state(tmp_path / "state", state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < cached / 4
    assert read_state(tmp_path / "state").models[0].series.answers == replies


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGKILL] * 3, id="kill"),
        pytest.param([signal.SIGTERM, signal.SIGKILL, signal.SIGTERM], id="mixed", marks=pytest.mark.slow),
    ],
)
def test_verdicts_across_kills_of_the_server_equal_those_of_one_replay(repository, tmp_path, signals):
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
        for row, sent in enumerate(observations):
            if row == within_episode:  # an open episode survives a kill as far as the state file has it
                wait_for_state(tmp_path / "state", row - 1)
            if row in at_row:
                reached[at_row.index(row)].set()
            if row == within_episode:
                assert killed.wait(60)
            yield sent

    verdicts = []

    def score():
        resume = ResumePolicy(total_seconds=60, first_wait_seconds=0.01, longest_wait_seconds=0.1)
        with Client(address) as client:
            verdicts.extend(client.stream_detect(source(), model="tiny", sensor="zeek", explain="all", resume=resume))

    process = Process(*arguments)
    process.port()
    scoring = threading.Thread(target=score)
    scoring.start()
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
        scoring.join(60)
        assert not scoring.is_alive()
    scored = [verdict for verdict in verdicts if verdict.status is not VerdictStatus.WARMING_UP]
    assert len(verdicts) == rows
    assert [verdict.status for verdict in scored] == [VerdictStatus.SCORED] * len(scored)
    assert [verdict.p_value for verdict in scored] == expected.p_values.tolist()
    assert [(v.anomalous, v.episode) for v in scored] == [(v.anomalous, v.episode) for v in expected.verdicts]


def test_state_of_a_crash_counts_as_fresh_until_its_client_has_replayed(repository, tmp_path):
    path = tmp_path / "state"
    with served(repository, path, state_interval_seconds=0.01) as server, channel_to(server) as channel:
        stream = stream_to(channel)
        for row in range(8):
            stream.row(row)
        wait_for_state(path, 7)
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
