"""Versions that come and go while calls and streams go on."""

import asyncio
import gc
import io
import shutil
import threading
import time
import weakref

import grpc
import numpy as np
import pytest

from mods_grpc.artifact import Manifest, publish
from mods_grpc.server.models.loader import Loader, LoadResult
from mods_grpc.server.models.reloader import Reloader
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.models.versions import VersionState
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2, model_pb2_grpc, verdict_pb2
from tests.support.models.tiny import (
    FEATURES,
    HORIZON,
    LEVELS,
    ROWS,
    make_calibration,
    make_manifest,
    make_mean_graph,
    make_parity,
    publish_tiny,
)
from tests.support.rpc.client import Stream, detect_request, forecast_request, observation, observation_batch, read_failure
from tests.support.running_server import channel_to, running_server

SCORED, WARMING_UP = verdict_pb2.VERDICT_STATUS_SCORED, verdict_pb2.VERDICT_STATUS_WARMING_UP
TIMEOUT_SECONDS = 10
LONG_ROWS = 50  # explained, they take so long that they wait for their turn
READY, RETIRED, FAILED = model_pb2.MODEL_STATE_READY, model_pb2.MODEL_STATE_RETIRED, model_pb2.MODEL_STATE_FAILED


@pytest.fixture
def server(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as running:
        yield running


def listed(server):
    with channel_to(server) as channel:
        models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest()).models
    return {(model.name, model.version): model.state for model in models}


def longer_window(rows):
    changes = {"rows": rows, "sequence_len": rows, "calibration": make_calibration(2, HORIZON)}
    vectors = {"window_2": np.ones((2, rows, 2)), "forecast_2": np.ones((2, HORIZON, 2))}
    return {"model": make_mean_graph(rows=rows), "vectors": vectors, **changes}


def publish_other(folder, version, model=None, vectors=None, **changes):
    file = io.BytesIO()
    if vectors:
        np.savez(file, **vectors)
    contents = {
        "model.onnx": (model or make_mean_graph()).SerializeToString(),
        "parity.npz": file.getvalue() or make_parity(),
        "MODEL_CARD.md": b"# Card\n",
    }
    return publish(folder, make_manifest("tiny", version, **changes), contents)


def score_rows(stream, rows, first=0):
    return [stream.row(row).verdict for row in range(first, rows)]


def test_a_stream_moves_to_a_new_version_at_a_message_and_its_verdicts_do_not_change(server, inference, tmp_path):
    moved, still = Stream(inference, sensor="moved"), Stream(inference, sensor="still")
    expected = score_rows(still, 40)
    verdicts = score_rows(moved, 20)
    publish_tiny(tmp_path, version=2)
    server.rescan()
    answer = moved.ask(data=pb.StreamData(sequence=21, observation=observation(20)))
    assert answer.model.version == 2
    moved._sequence = 21
    verdicts += [answer.answer.verdict, *score_rows(moved, 40, 21)]
    assert [v.p_value for v in verdicts] == [v.p_value for v in expected]
    assert [v.status for v in verdicts] == [WARMING_UP] * ROWS + [SCORED] * (40 - ROWS)
    moved.end()
    still.end()


def test_a_stream_that_pinned_its_version_keeps_it(server, inference, tmp_path):
    stream = Stream(inference, sensor="pinned", model=pb.ModelReference(name="tiny", version=1))
    score_rows(stream, 10)
    publish_tiny(tmp_path, version=2)
    server.rescan()
    assert listed(server) == {("tiny", 1): RETIRED, ("tiny", 2): READY}
    answer = stream.ask(data=pb.StreamData(sequence=11, observation=observation(10)))
    assert (answer.model.version, answer.answer.verdict.status) == (1, SCORED)
    stream.ask(end=pb.StreamEnd())


def test_a_stream_ends_when_the_new_version_has_other_features(server, inference, tmp_path):
    stream = Stream(inference)
    score_rows(stream, 6)
    features = tuple(
        type(one)(**{name: getattr(one, name) for name in one.__slots__} | {"name": f"new_{one.name}"})
        for one in make_manifest().features
    )
    publish_other(tmp_path, 2, features=features)
    server.rescan()
    stream.put(data=pb.StreamData(sequence=7, observation=observation(6)))
    code, reason, _ = stream.failure()
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_RETIRED")
    opened = Stream(inference)
    assert list(opened.opened.features) == [f"new_{name}" for name in FEATURES]
    opened.end()


def test_a_longer_window_warms_up_for_the_rows_it_lacks(server, inference, tmp_path):
    stream = Stream(inference)
    score_rows(stream, 10)
    publish_other(tmp_path, 2, **longer_window(ROWS + 3))
    server.rescan()
    assert [v.status for v in score_rows(stream, 15, 10)] == [WARMING_UP] * 3 + [SCORED] * 2
    stream.end()


def test_a_shorter_window_goes_on_with_the_last_rows(server, inference, tmp_path):
    stream = Stream(inference, explain=verdict_pb2.EXPLAIN_ALL)
    score_rows(stream, 10)
    publish_other(tmp_path, 2, **longer_window(2))
    server.rescan()
    verdict = stream.row(10).verdict
    assert verdict.features[0].expected == pytest.approx(LEVELS[8:10, 0].mean())
    stream.end()


def test_deleting_the_newest_version_rolls_back_to_the_previous_one_with_its_series(server, inference, tmp_path):
    publish_tiny(tmp_path, version=2)
    server.rescan()
    stream = Stream(inference)
    score_rows(stream, 10)
    shutil.rmtree(tmp_path / "tiny" / "2")
    server.rescan()
    assert listed(server) == {("tiny", 1): READY}
    answer = stream.ask(data=pb.StreamData(sequence=11, observation=observation(10)))
    assert (answer.model.version, answer.answer.verdict.status) == (1, SCORED)
    stream.ask(end=pb.StreamEnd())


def test_a_withdrawn_model_ends_its_streams_and_is_not_found(server, inference, tmp_path):
    stream = Stream(inference)
    score_rows(stream, 5)
    shutil.rmtree(tmp_path / "tiny")
    server.rescan()
    stream.put(data=pb.StreamData(sequence=6, observation=observation(5)))
    assert stream.failure()[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_RETIRED")
    with pytest.raises(grpc.RpcError) as caught:
        inference.Forecast(forecast_request(model=pb.ModelReference(name="tiny")))
    assert read_failure(caught.value)[:2] == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_a_model_that_is_withdrawn_while_a_message_waits_for_its_series_ends_the_stream(server, inference, tmp_path):
    stream = Stream(inference, explain=verdict_pb2.EXPLAIN_ALL)
    score_rows(stream, 5)
    lock, loop = server.model().series.lock, server._loop
    asyncio.run_coroutine_threadsafe(lock.acquire(0.0), loop).result(TIMEOUT_SECONDS)
    rows = range(5, 5 + LONG_ROWS)
    stream.put(data=pb.StreamData(sequence=6, batch=observation_batch(rows, values=np.tile(LEVELS[5], (LONG_ROWS, 1)))))
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not lock._queue and time.monotonic() < deadline:
        time.sleep(0.005)
    shutil.rmtree(tmp_path / "tiny")
    server.rescan()
    loop.call_soon_threadsafe(lock.release)
    assert stream.failure()[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_RETIRED")


def test_an_unreadable_repository_changes_nothing(server, inference, tmp_path):
    moved = tmp_path.with_name(tmp_path.name + "-away")
    tmp_path.rename(moved)
    server.rescan()
    assert inference.Forecast(forecast_request()).model.version == 1
    moved.rename(tmp_path)


def test_only_the_newest_versions_stay_in_memory_and_older_ones_are_freed_immediately(server, inference, tmp_path):
    first = weakref.ref(server.model())
    for version in (2, 3):
        publish_tiny(tmp_path, version=version)
        server.rescan()
    assert listed(server) == {("tiny", 1): RETIRED, ("tiny", 2): RETIRED, ("tiny", 3): READY}
    assert first() is None
    assert inference.Forecast(forecast_request(model=pb.ModelReference(name="tiny", version=2))).model.version == 2
    with pytest.raises(grpc.RpcError) as caught:
        inference.Forecast(forecast_request(model=pb.ModelReference(name="tiny", version=1)))
    assert read_failure(caught.value)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_RETIRED")
    shutil.rmtree(tmp_path / "tiny" / "3")
    server.rescan()
    assert listed(server) == {("tiny", 1): RETIRED, ("tiny", 2): READY}
    assert inference.Forecast(forecast_request(model=pb.ModelReference(name="tiny", version=1))).model.version == 1


def test_streams_that_send_nothing_keep_no_replaced_version_in_memory(server, inference, tmp_path):
    models, sleepers = [], []
    for version in range(1, 5):
        if version > 1:
            publish_tiny(tmp_path, version=version)
            server.rescan()
        models.append(weakref.ref(server.model()))
        sleepers.append(Stream(inference, sensor=f"sleeper {version}"))
        score_rows(sleepers[-1], ROWS + 1)
    assert [model() is None for model in models] == [True, True, False, False]
    for sleeper in sleepers:
        answer = sleeper.ask(data=pb.StreamData(sequence=ROWS + 2, observation=observation(ROWS + 1)))
        assert (answer.model.version, answer.answer.verdict.status) == (4, SCORED)
        sleeper.ask(end=pb.StreamEnd())


def test_a_version_that_is_not_in_memory_is_described_as_before_without_its_manifest(server, tmp_path):
    def describe():
        with channel_to(server) as channel:
            request = model_pb2.GetModelRequest(name="tiny", version=2)
            return model_pb2_grpc.ModelServiceStub(channel).GetModel(request).model

    publish_other(tmp_path, 2, parameters=4321)
    server.rescan()
    before = describe()
    for version in (3, 4):
        publish_tiny(tmp_path, version=version)
        server.rescan()
    after = describe()
    assert (before.state, after.state, after.parameters) == (READY, RETIRED, 4321)
    assert before.envelope
    for name in ("provider", "envelope"):
        before.ClearField(name)
    before.state = RETIRED
    assert after == before
    assert not any(isinstance(one, Manifest) and one.parameters == 4321 for one in gc.get_objects())


BREAKAGES = {
    "truncated": lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-20]),
    "bit-flipped": lambda folder: (folder / "model.onnx").write_bytes(_flipped((folder / "model.onnx").read_bytes())),
    "without a manifest": lambda folder: (folder / "manifest.json").unlink(),
    "hard-linked": lambda folder: (folder.parent / "twin").hardlink_to(folder / "model.onnx"),
    "linked": lambda folder: _replace_by_link(folder / "model.onnx"),
    "another manifest": lambda folder: (folder / "manifest.json").write_text("{}"),
}


def _flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _replace_by_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_broken_version_is_rejected_with_a_reason_while_the_old_one_serves(server, inference, tmp_path, kind):
    stream = Stream(inference)
    score_rows(stream, 6)
    BREAKAGES[kind](publish_tiny(tmp_path, version=2))
    server.rescan()
    assert listed(server) == {("tiny", 1): READY, ("tiny", 2): FAILED}
    assert server.app.repository.find("tiny", 2).failure
    assert inference.Forecast(forecast_request()).model.version == 1
    assert inference.Detect(detect_request()).model.version == 1
    assert stream.row(6).verdict.status == SCORED
    stream.end()


def test_a_failed_version_is_reloaded_only_when_its_files_change(server, tmp_path):
    folder = publish_tiny(tmp_path, version=2)
    good = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(good[:-1])
    server.rescan()
    failed = server.app.repository.find("tiny", 2)
    server.rescan()
    assert server.app.repository.find("tiny", 2) is failed
    assert failed.state is VersionState.FAILED
    (folder / "model.onnx").write_bytes(good)
    server.rescan()
    assert listed(server) == {("tiny", 1): RETIRED, ("tiny", 2): READY}


class UnluckyLoader(Loader):
    """Rejects the first version the first time, as a canary does whose machine is busy."""

    rejections = iter([LoadResult(failure="canary: took longer than 60 s")])

    def load(self, name, version):
        return next(self.rejections, None) or super().load(name, version)


def test_a_reload_tries_versions_again_that_were_rejected_and_needs_one_look_at_new_ones(tmp_path):
    publish_tiny(tmp_path)
    limits = {"max_series": 9, "max_series_per_sensor": 9, "state_idle_seconds": 9}
    repository = Repository(UnluckyLoader(folder=tmp_path, provider="cpu", **limits))
    repository.scan()

    async def report(_ready):
        pass

    async def reload():
        reloader = Reloader(repository, 0, report)
        await reloader.start()
        states = [[entry.state for entry in repository.entries()]]
        publish_tiny(tmp_path, version=2)
        await asyncio.gather(reloader.reload(), reloader.rescan())
        reloader.stop()
        return [*states, [entry.state for entry in repository.entries()]]

    assert asyncio.run(reload()) == [[VersionState.FAILED], [VersionState.READY, VersionState.RETIRED]]


def test_a_folder_that_still_changes_is_not_loaded(tmp_path):
    publish_tiny(tmp_path)
    repository = Repository(Loader(folder=tmp_path, provider="cpu", max_series=9, max_series_per_sensor=9, state_idle_seconds=9))
    repository.scan()
    folder = tmp_path / "tiny" / "2"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / name).write_text(name)
        repository.apply_scan(repository.stat())
        assert [entry.version for entry in repository.entries()] == [1]
    repository.apply_scan(repository.stat())
    assert [entry.version for entry in repository.entries()] == [2, 1]


def test_no_call_fails_while_versions_come_and_go(server, inference, tmp_path):
    failures, versions, done = [], set(), threading.Event()

    def call():
        while not done.is_set():
            try:
                versions.add(inference.Forecast(forecast_request()).model.version)
            except grpc.RpcError as error:
                failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    stream = Stream(inference)
    try:
        for version in range(2, 12):
            publish_tiny(tmp_path, version=version, model=make_mean_graph(factor=3.0) if version % 3 == 0 else None)
            server.rescan()
            assert stream.row(version).verdict.status in (SCORED, WARMING_UP)
    finally:
        done.set()
        for caller in callers:
            caller.join()
    stream.end()
    assert failures == []
    assert {1, 11} <= versions
    assert not versions & {3, 6, 9}
