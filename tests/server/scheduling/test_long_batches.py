"""A large message is scored on a pool thread: other calls are answered meanwhile, and nothing is lost."""

import threading

import numpy as np
import pytest

from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.server.models.loader import SCORING_CHUNK_ROWS
from mods_grpc.server.scheduling.fair_lock import FairLock
from mods_grpc.server.streaming.row_scorer import RowScorer
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL, VERDICT_STATUS_SCORED
from tests.support.models.slow import make_slow_graph
from tests.support.models.tiny import LEVELS, ROWS, publish_tiny
from tests.support.rpc.client import Stream, at, read_status
from tests.support.running_server import channel_to, running_server

MANY = 1000


@pytest.fixture
def served(tmp_path):
    publish_tiny(tmp_path, model=make_slow_graph())
    with running_server(repository=tmp_path, max_series=40_000) as server, channel_to(server) as channel:
        stubs = inference_pb2_grpc.InferenceServiceStub(channel), model_pb2_grpc.ModelServiceStub(channel)
        yield server, *stubs


def row_of_many(row, many=MANY):
    series = [f"host {number}" for number in range(many)]
    values = pack_float64(np.tile(LEVELS[row], (many, 1)))
    return values_pb2.ObservationBatch(series=series, observe_time_unix_nano=[at(row)], values=values)


class Reading(threading.Thread):
    """Sends a large message and waits for its answer on a thread."""

    def __init__(self, stream, batch):
        super().__init__()
        self._stream, self._batch = stream, batch
        self.start()

    def run(self):
        self.answer = self._stream.send(batch=self._batch)


def test_other_calls_are_answered_while_a_large_batch_is_scored(served):
    _, inference, directory = served
    large, small = Stream(inference, sensor="large"), Stream(inference, sensor="small")
    for row in range(ROWS):
        large.send(batch=row_of_many(row))
    reading = Reading(large, row_of_many(ROWS))
    while reading.is_alive():
        if directory.GetModel(model_pb2.GetModelRequest(), timeout=30).model.version == 1 and reading.is_alive():
            break
    assert reading.is_alive()
    assert not small.row(0).HasField("error")  # the same model: after the large batch
    reading.join()
    assert set(reading.answer.scores.status) == {VERDICT_STATUS_SCORED}
    large.cut()
    small.cut()


def test_a_message_of_a_millisecond_is_scored_on_the_loop_in_an_iteration_of_its_own(tmp_path, monkeypatch):
    passed = []
    monkeypatch.setattr(FairLock, "release_later", lambda self: passed.append(self.locked) or self.release())
    monkeypatch.setattr(FairLock, "run_in_executor", None)
    monkeypatch.setattr(RowScorer, "estimate_seconds", lambda *_: 0.001)
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="explained", explain=EXPLAIN_ALL)
        answer = stream.send(batch=row_of_many(0, 40))
        assert len(answer.verdicts) == 40
        assert passed == [False]
        stream.row(0)
        stream.cut()
    assert len(passed) == 1


def test_a_version_that_loads_while_a_large_batch_is_scored_takes_over_its_rows(served, tmp_path):
    server, inference, _ = served
    stream = Stream(inference, sensor="moved")
    for row in range(ROWS):
        stream.send(batch=row_of_many(row))
    reading = Reading(stream, row_of_many(ROWS))
    publish_tiny(tmp_path, version=2)
    server.rescan()
    reading.join()
    assert set(reading.answer.scores.status) == {VERDICT_STATUS_SCORED}
    response = stream.ask(data={"sequence": ROWS + 2, "batch": row_of_many(ROWS + 1)})
    assert response.model.version == 2
    assert set(response.answer.scores.status) == {VERDICT_STATUS_SCORED}
    assert not response.answer.errors
    stream.cut()


def test_a_stream_lost_while_its_batch_is_scored_gets_the_reply_when_it_reconnects(served):
    _, inference, _ = served
    first = Stream(inference, sensor="back")
    for row in range(ROWS):
        first.send(batch=row_of_many(row))
    message = {"batch": row_of_many(ROWS)}
    first.put(data={"sequence": ROWS + 1, **message})
    first.cut()
    second = Stream(inference, sensor="back")
    answer = second.send(**message)
    assert set(answer.scores.status) == {VERDICT_STATUS_SCORED}
    assert set(second.send(batch=row_of_many(ROWS + 1)).scores.status) == {VERDICT_STATUS_SCORED}
    second.cut()


def test_the_chunks_of_a_message_share_one_time_limit_and_nothing_is_applied_after_it(tmp_path):
    publish_tiny(tmp_path, model=make_slow_graph())
    parts = 3 * SCORING_CHUNK_ROWS["CPUExecutionProvider"]
    with running_server(repository=tmp_path, run_threads=2, max_run_seconds=0.05) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel))
        for row in range(ROWS):
            assert not stream.send(batch=row_of_many(row, parts)).HasField("error")
        for _ in range(2):  # resent, it still counts as new
            assert read_status(stream.send(batch=row_of_many(ROWS, parts)).error)[1] == "MODEL_OUTPUT_INVALID"
