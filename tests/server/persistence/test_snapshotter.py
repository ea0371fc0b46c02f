"""Saved series wait for their model, whatever order models load in, and go back to the file while it is not served."""

import asyncio
import base64
import json
import logging
import shutil
import threading

import grpc
import numpy as np
import pytest

from mods_grpc.server.models.loader import Loader
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.persistence.snapshot_file import read_state
from mods_grpc.server.persistence.snapshotter import Snapshotter
from mods_grpc.server.series import replay_cache
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, verdict_pb2
from tests.server.models.test_reload import longer_window, make_manifest, publish_other
from tests.server.persistence.test_snapshot_file import change_content, change_header
from tests.support.models.tiny import ROWS, publish_tiny
from tests.support.rpc.client import Stream, at, observation, read_failure
from tests.support.running_server import RunningServer, channel_to, running_server

FRESH, RESUMED = pb.STATE_ORIGIN_FRESH, pb.STATE_ORIGIN_RESUMED
SCORED = verdict_pb2.VERDICT_STATUS_SCORED
NAMES = ("early", "late", "tiny")
HELD_ROWS = ROWS + 4


@pytest.fixture
def repository(tmp_path):
    for name in NAMES:
        publish_tiny(tmp_path / "repository", name)
    return tmp_path / "repository"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def late_load(monkeypatch):
    """Let the model "late" load only once this event is set."""
    event, load = threading.Event(), Loader.load

    def load_late(loader, name, version):
        assert name != "late" or event.wait(60)
        return load(loader, name, version)

    monkeypatch.setattr(Loader, "load", load_late)
    yield event
    event.set()


def served(repository, path, **options):
    return running_server(repository=repository, state_file=str(path), **{"state_interval_seconds": 0.0} | options)


def open_stream(channel, model, sensor="zeek", version=None, **config):
    reference = pb.ModelReference(name=model, version=version)
    return Stream(inference_pb2_grpc.InferenceServiceStub(channel), model=reference, sensor=sensor, **config)


def feed(server, names=NAMES, rows=range(HELD_ROWS)):
    """Send rows of a series to models, on streams that then end."""
    with channel_to(server) as channel:
        for name in names:
            stream = open_stream(channel, name)
            for row in rows:
                stream.row(row)
            stream.end()


def origins(server, names=NAMES, sensor="zeek"):
    """Return the origin of the state of each model, without changing it."""
    with channel_to(server) as channel:
        streams = [open_stream(channel, name, sensor) for name in names]
        states = [stream.opened.state for stream in streams]
        for stream in streams:
            stream.cut()
    return states


def saved(path):
    return {model.name: model.series.last_time.tolist() for model in read_state(path).models}


def crash(path):
    """Return a function that lets the state file and its journal be as a crash now would leave them."""
    contents = {file: file.read_bytes() for file in path.parent.glob("state*") if file.suffix != ".lock"}

    def leave():
        for file, content in contents.items():
            file.write_bytes(content)

    return leave


def wait_until(condition):
    """Return once a condition holds; the limit on the test's time is that of the suite."""
    while not condition():
        threading.Event().wait(0.005)


def test_a_stream_resumes_whose_model_serves_while_others_still_load(repository, path, late_load, tmp_path):
    late_load.set()
    with served(repository, path) as server:
        feed(server)
    late_load.clear()
    address = f"unix:{tmp_path}/socket"
    starting = threading.Thread(target=lambda: servers.append(RunningServer(**options)))
    options = {"repository": repository, "state_file": str(path), "state_interval_seconds": 0.05, "address": address}
    servers = []
    starting.start()
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(30)
            early = open_when_served(channel, "early")
            assert (early.opened.state, early.opened.series_held) == (RESUMED, 1)
            assert early.row(HELD_ROWS).verdict.status == SCORED
            wait_until(lambda: saved(path)["early"] == [at(HELD_ROWS)])
            assert saved(path)["late"] == [at(HELD_ROWS - 1)]
            late_load.set()
            late = open_when_served(channel, "late")
            assert (late.opened.state, late.opened.series_held) == (RESUMED, 1)
            assert late.row(HELD_ROWS).verdict.status == SCORED
            early.end()
            late.end()
    finally:
        late_load.set()
        starting.join(60)
        servers[0].stop()


def open_when_served(channel, name):
    inference = inference_pb2_grpc.InferenceServiceStub(channel)
    while True:
        stream = Stream(inference, config=False)
        stream.put(config=pb.StreamConfig(model=pb.ModelReference(name=name), sensor="zeek"))
        try:
            stream.opened = stream.read().opened
        except grpc.RpcError as error:
            if read_failure(error)[1] != "MODEL_LOADING":
                raise
        else:
            return stream


def test_series_of_a_model_that_is_absent_are_carried_along_until_it_comes(repository, path, tmp_path, caplog):
    with served(repository, path) as server:
        feed(server)
    (repository / "late").rename(tmp_path / "away")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            with served(repository, path) as server:
                feed(server, ["early"], [HELD_ROWS])
            assert saved(path)["late"] == [at(HELD_ROWS - 1)]
    waiting = [record for record in caplog.records if record.message == "state_waiting"]
    assert [(record.model, record.series, record.reason) for record in waiting] == [("late", 1, "the model is not served")] * 2
    with served(repository, path) as server:
        (tmp_path / "away").rename(repository / "late")
        server.rescan()
        assert origins(server) == [RESUMED] * 3
        feed(server, ["late"], [HELD_ROWS])
        assert server.model("late").series.table.last_time.max() == at(HELD_ROWS)


def test_series_survive_that_the_folder_of_their_model_is_away_for_a_while(repository, path, tmp_path, caplog):
    with served(repository, path, state_interval_seconds=0.02) as server:
        feed(server)
        with caplog.at_level(logging.INFO):
            (repository / "late").rename(tmp_path / "away")
            server.rescan()
            changed = path.stat().st_mtime_ns
            wait_until(lambda: path.stat().st_mtime_ns != changed)
            assert saved(path)["late"] == [at(HELD_ROWS - 1)]
            (tmp_path / "away").rename(repository / "late")
            server.rescan()
        assert origins(server, ["late"]) == [RESUMED]
    messages = [record.message for record in caplog.records if getattr(record, "model", "") == "late"]
    assert messages.index("state_waiting") < messages.index("state_restored") < messages.index("model_serving")


def test_series_wait_while_a_version_with_other_features_serves_and_go_on_when_it_is_rolled_back(repository, path):
    with served(repository, path) as server:
        feed(server, ["tiny"])
        features = tuple(
            type(one)(**{name: getattr(one, name) for name in one.__slots__} | {"name": f"new_{one.name}"})
            for one in make_manifest().features
        )
        publish_other(repository, 2, features=features)
        server.rescan()
        assert origins(server, ["tiny"]) == [FRESH]
        feed(server, ["tiny"], range(3))
    assert sorted(chunk.series.last_time.tolist() for chunk in read_state(path).models) == [[at(2)], [at(HELD_ROWS - 1)]]
    with served(repository, path) as server:
        assert origins(server, ["tiny"]) == [RESUMED]
        assert server.model().series.table.last_time.max() == at(2)
        shutil.rmtree(repository / "tiny" / "2")
        server.rescan()
        assert origins(server, ["tiny"]) == [RESUMED]
        assert server.model().series.table.last_time.max() == at(HELD_ROWS - 1)


def test_a_newer_version_with_a_longer_window_takes_the_waiting_series(repository, path, tmp_path):
    with served(repository, path) as server:
        feed(server, ["tiny"])
    shutil.rmtree(repository / "tiny")
    with served(repository, path) as server:
        publish_other(repository, 2, **longer_window(ROWS + 1))
        server.rescan()
        assert origins(server, ["tiny"]) == [RESUMED]
        assert server.model().series.table.filled.max() == ROWS


def test_the_series_of_a_stream_that_pinned_an_older_version_are_restored_with_it(repository, path):
    publish_tiny(repository, version=2)
    with served(repository, path) as server, channel_to(server) as channel:
        pinned, other = open_stream(channel, "tiny", version=1), open_stream(channel, "tiny")
        for row in range(HELD_ROWS):
            pinned.row(row)
        other.row(0)
    for row in (HELD_ROWS, HELD_ROWS + 1):
        with served(repository, path) as server, channel_to(server) as channel:
            other = open_stream(channel, "tiny")
            assert (other.opened.state, other.opened.series_held) == (RESUMED, 1)
            pinned = open_stream(channel, "tiny", version=1)
            assert (pinned.opened.state, pinned.opened.series_held) == (RESUMED, 1)
            assert pinned.row(row).verdict.status == SCORED


def test_a_sensor_counts_as_stale_whose_pinned_stream_went_on_with_a_model_that_was_away(repository, path, tmp_path):
    with served(repository, path) as server, channel_to(server) as channel:
        feed(server, ["tiny"])
        pinned = open_stream(channel, "tiny", version=1)
        (repository / "tiny").rename(tmp_path / "away")
        server.rescan()
        assert pinned.row(HELD_ROWS).verdict.status == SCORED
        (tmp_path / "away").rename(repository / "tiny")
        server.rescan()
        assert origins(server, ["tiny"]) == [FRESH]
        pinned.cut()


def test_a_stop_before_the_file_was_read_leaves_it_as_it_is(repository, path):
    with served(repository, path) as server:
        feed(server)
    content = path.read_bytes()
    loader = Loader(folder=repository, provider="cpu", max_series=9, max_series_per_sensor=9, state_idle_seconds=9)
    assert asyncio.run(Snapshotter(Repository(loader), path, 1.0).stop())
    assert path.read_bytes() == content


def test_a_file_of_a_server_that_knew_neither_journal_nor_single_stale_sensors_is_read(repository, path, tmp_path):
    with served(repository, path) as server:
        feed(server)
    for complete, expected in ((True, RESUMED), (False, FRESH)):
        old = tmp_path / f"old-{complete}"
        old.write_bytes(as_written_before(path.read_bytes(), complete=complete))
        with served(repository, old) as server:
            assert origins(server) == [expected] * 3


def test_a_file_of_a_server_that_kept_cached_replies_in_the_header_is_read(repository, path):
    with served(repository, path) as server, channel_to(server) as channel:
        stream = open_stream(channel, "tiny")
        answers = [stream.row(row) for row in range(HELD_ROWS)]
        stream.cut()
    path.write_bytes(with_replies_in_header(path.read_bytes()))
    with served(repository, path) as server, channel_to(server) as channel:
        stream = open_stream(channel, "tiny")
        assert stream.row(HELD_ROWS - 1).verdict == answers[-1].verdict
        stream.end()


def with_replies_in_header(data):
    """Return a state file as it was written when each cached reply was a pair of base64 in the header."""

    def change(arrays):
        header = json.loads(arrays["header"].tobytes())
        for number, model in enumerate(header["models"]):
            sizes, content = (arrays.pop(f"{number}.reply_{name}") for name in ("sizes", "bytes"))
            parts = [base64.b64encode(part.tobytes()).decode() for part in np.split(content, np.cumsum(sizes)[:-1])]
            pairs = zip(parts[::2], parts[1::2], strict=True)
            assert not model["answers"]
            model["answers"] = {sensor: [next(pairs) for _ in range(count)] for sensor, count in model.pop("replies").items()}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)

    return change_content(data, change)


def test_each_stream_of_a_sensor_gets_its_lost_answer_after_a_restart_however_much_others_sent(repository, path, monkeypatch):
    with served(repository, path) as server, channel_to(server) as channel:
        streams = {name: open_stream(channel, "tiny") for name in ("quiet", "busy")}
        answers = {}
        for row in range(HELD_ROWS):
            for name, stream in streams.items():
                answers[name] = stream.send(observation=observation(row, series=name))
        for stream in streams.values():
            stream.cut()
    monkeypatch.setattr(replay_cache, "MAX_CACHED_BYTES", 1)
    with served(repository, path) as server, channel_to(server) as channel:
        busy = open_stream(channel, "tiny")
        for row in range(HELD_ROWS, HELD_ROWS + 3):
            busy.send(observation=observation(row, series="busy"))
        quiet = open_stream(channel, "tiny")
        again = quiet.send(observation=observation(HELD_ROWS - 1, series="quiet"))
        assert again.verdict == answers["quiet"].verdict
        assert again.verdict.status == SCORED
        busy.end()
        quiet.end()


def as_written_before(data, *, complete):
    def change(header):
        models = [{key: value for key, value in model.items() if key != "stale"} for model in header["models"]]
        return {"complete": complete, "models": models}

    return change_header(data, change)


def test_after_a_crash_sensors_resume_that_sent_nothing_since_the_file_was_written(repository, path):
    with served(repository, path, state_interval_seconds=0.02) as server:
        feed(server, ["early", "late"])
        wait_until(lambda: path.exists() and saved(path) == {"early": [at(HELD_ROWS - 1)], "late": [at(HELD_ROWS - 1)]})
        changed = path.stat().st_mtime_ns
        wait_until(lambda: path.stat().st_mtime_ns != changed)
        leave = crash(path)
    leave()
    assert not read_state(path).complete
    with served(repository, path) as server:
        assert origins(server, ["early", "late"]) == [RESUMED] * 2
        feed(server, ["late"], [HELD_ROWS])
        leave = crash(path)
    for _ in range(2):  # what changed is not forgotten before the state is written again
        leave()
        with served(repository, path) as server:
            assert origins(server, ["early", "late"]) == [RESUMED, FRESH]
            leave = crash(path)


def test_a_crash_before_the_first_write_after_a_drained_restart_counts_as_a_crash(repository, path):
    with served(repository, path) as server:
        feed(server, ["early", "late"])
    assert not path.with_name("state.journal").exists()
    with served(repository, path) as server:
        feed(server, ["late"], [HELD_ROWS])
        leave = crash(path)
    leave()
    assert read_state(path).complete
    with served(repository, path) as server:
        assert origins(server, ["early", "late"]) == [RESUMED, FRESH]


def test_a_sensor_that_lacks_rows_stays_fresh_over_drained_restarts_until_its_client_has_sent_them(repository, path):
    with served(repository, path) as server:
        feed(server, ["early", "late"])
    with served(repository, path) as server:
        feed(server, ["late"], [HELD_ROWS])
        leave = crash(path)
    leave()
    for _ in range(2):
        with served(repository, path) as server:
            assert origins(server, ["early", "late"]) == [RESUMED, FRESH]
    with served(repository, path) as server, channel_to(server) as channel:
        stream = open_stream(channel, "late")
        stream.send(observation=observation(HELD_ROWS), warm_up=True)
        stream.cut()
        assert origins(server, ["late"]) == [FRESH]
        feed(server, ["late"], [HELD_ROWS + 1])
        assert origins(server, ["late"]) == [RESUMED]
    with served(repository, path) as server:
        assert origins(server, ["late"]) == [RESUMED]


def test_each_client_of_a_sensor_is_told_that_rows_lack_until_it_has_sent_its_own_series(repository, path):
    def send(server, *rows):
        with channel_to(server) as channel:
            stream = open_stream(channel, "tiny")
            for row, series in rows:
                stream.send(observation=observation(row, series=series))
            stream.end()
            return stream.opened.state

    with served(repository, path) as server:
        send(server, *((row, series) for row in range(HELD_ROWS) for series in ("a", "b")))
    with served(repository, path) as server:
        send(server, (HELD_ROWS, "a"), (HELD_ROWS, "b"))
        leave = crash(path)
    leave()
    with served(repository, path) as server:
        assert send(server, (HELD_ROWS, "a")) == FRESH
        assert send(server, (HELD_ROWS, "b")) == FRESH
        assert send(server) == RESUMED


def test_a_final_write_that_fails_is_logged_and_is_no_success(repository, tmp_path, caplog):
    (tmp_path / "folder").mkdir()
    with caplog.at_level(logging.ERROR), served(repository, tmp_path / "folder" / "state") as server:
        feed(server, ["tiny"])
        shutil.rmtree(tmp_path / "folder")
    assert not server.stopped_in_time
    (failed,) = [record for record in caplog.records if record.message == "state_not_written"]
    assert failed.hint == f"create {tmp_path / 'folder'}, with write permission for the server's user"


def test_a_symbolic_link_stays_one(repository, path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "series")
    for _ in range(2):
        with served(repository, path) as server:
            feed(server, ["tiny"])
    assert path.is_symlink()
    assert read_state(tmp_path / "elsewhere" / "series").complete
    assert [entry.name for entry in tmp_path.iterdir() if "lock" in entry.name] == []


def test_a_journal_that_is_a_symbolic_link_stays_one_and_is_followed(repository, path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    journal = tmp_path / "elsewhere" / "changes"
    path.with_name("state.journal").symlink_to(journal)
    with served(repository, path) as server:
        feed(server, ["early", "late"])
    with served(repository, path) as server:
        feed(server, ["late"], [HELD_ROWS])
        state, changes = path.read_bytes(), journal.read_bytes()
    path.write_bytes(state)
    journal.write_bytes(changes)
    with served(repository, path, state_interval_seconds=0.02) as server:
        assert origins(server, ["early", "late"]) == [RESUMED, FRESH]
        wait_until(lambda: read_state(path).journal.encode() in journal.read_bytes().splitlines()[0])
    assert path.with_name("state.journal").is_symlink()
    assert not journal.exists()
