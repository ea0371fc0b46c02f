"""Large batches shared by threads: nothing can be told from work done alone but the time it takes."""

import threading
import time

import numpy as np
import pytest

from mods_grpc.detection.engine.chunking import parts_of
from mods_grpc.errors import DeadlineError
from mods_grpc.protobuf.arrays import FLOAT64_BYTES, pack_float64
from mods_grpc.server.scheduling.run_watchdog import Caller, caller_waiting, run_began, working_for
from mods_grpc.server.scheduling.worker_pool import Crew
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL, EXPLAIN_ANOMALIES
from tests.support.http2.client import Stream, at, detect_request
from tests.support.models.tiny import ROWS, publish_tiny
from tests.support.running_server import channel_to, running_server

PARTS = parts_of(10, 3)
PATIENCE = 20.0


@pytest.fixture
def crew():
    crew = Crew(2)
    yield crew
    crew.close()


def in_a_thread_of(crew, work):
    """Run work on a thread that shares, and return what it returned or raise what it raised."""
    found = []

    def run():
        crew.enlist()
        try:
            found.append((work(), None))
        except Exception as error:
            found.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    result, error = found[0]
    if error is not None:
        raise error
    return result


def meeting():
    """Return work on a part that ends only when two threads are at it at the same time."""
    barrier = threading.Barrier(2)

    def work(part):
        barrier.wait(PATIENCE)
        return threading.current_thread().name, part

    return work


def test_a_batch_is_cut_without_gap_or_overlap():
    assert [(part.start, part.stop) for part in PARTS] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert parts_of(0, 3) == []
    assert parts_of(3, 3) == [slice(0, 3)]


def test_two_threads_work_at_the_same_time_and_the_parts_come_back_in_order(crew):
    found = in_a_thread_of(crew, lambda: crew.share(meeting(), PARTS))
    assert [part for _, part in found] == PARTS
    assert len({name for name, _ in found}) == 2


def test_a_thread_that_was_not_enlisted_works_alone(crew):
    found = crew.share(lambda part: (threading.current_thread(), part), PARTS)
    assert found == [(threading.current_thread(), part) for part in PARTS]


def test_a_crew_of_one_works_alone():
    crew = Crew(1)
    name = in_a_thread_of(crew, lambda: {*crew.share(lambda _: threading.current_thread().name, PARTS)})
    assert len(name) == 1
    crew.close()


def test_what_is_shared_inside_a_part_is_done_by_who_works_on_the_part(crew):
    def work(part):
        mine = threading.current_thread()
        return crew.share(lambda _: threading.current_thread() is mine, PARTS)

    assert in_a_thread_of(crew, lambda: crew.share(work, PARTS)) == [[True] * len(PARTS)] * len(PARTS)


def test_who_answers_does_everything_while_the_helpers_are_busy(crew):
    free = threading.Event()
    crew._helpers.submit(free.wait, PATIENCE)
    try:
        found = in_a_thread_of(crew, lambda: crew.share(lambda part: (threading.current_thread().name, part), PARTS))
        assert [part for _, part in found] == PARTS
        assert len({name for name, _ in found}) == 1
    finally:
        free.set()


def test_who_still_works_when_the_helpers_are_let_go_goes_on_alone(crew):
    crew.close()
    names = in_a_thread_of(crew, lambda: crew.share(lambda part: threading.current_thread().name, PARTS))
    assert len(names) == len(PARTS)
    assert len(set(names)) == 1


def test_what_a_part_raises_is_raised_and_the_rest_is_left_out(crew):
    begun = []

    def work(part):
        begun.append(part)
        raise ValueError(part)

    many = parts_of(1000, 1)
    with pytest.raises(ValueError, match="slice"):
        in_a_thread_of(crew, lambda: crew.share(work, many))
    assert len(begun) <= 2
    assert in_a_thread_of(crew, lambda: crew.share(lambda part: part, many)) == many


def test_helpers_work_for_the_same_caller_and_count_from_the_same_beginning(crew):
    caller, barrier = Caller(60.0), threading.Barrier(2)

    def work(_):
        barrier.wait(PATIENCE)
        return caller_waiting(), run_began()

    def lead():
        with working_for(caller):
            return crew.share(work, PARTS[:2])

    (first, began), (second, also) = in_a_thread_of(crew, lead)
    assert first is second is caller
    assert began == also <= time.monotonic()


def test_all_end_when_the_caller_waits_no_longer(crew):
    caller, begun = Caller(60.0), []

    def work(part):
        caller_waiting()
        begun.append(part)
        caller.gone = True

    def lead():
        with working_for(caller):
            crew.share(work, parts_of(1000, 1))

    with pytest.raises(DeadlineError):
        in_a_thread_of(crew, lead)
    assert 1 <= len(begun) <= 2


def test_helpers_take_over_what_numpy_is_to_ignore(crew):
    meet = meeting()

    def work(part):
        meet(part)
        return np.log(np.zeros(1))[0]

    def lead():
        with np.errstate(divide="ignore"):
            return crew.share(work, PARTS[:2])

    assert in_a_thread_of(crew, lead) == [-np.inf, -np.inf]


SERIES, STEPS = 1500, 8
RAW = np.random.default_rng(2).gamma(50.0, 20.0, (9000, ROWS, 2))


def answers_with(repository, threads):
    """Return what a server with so many threads a batch says to large requests, and to the messages of a stream."""
    with running_server(repository=repository, run_threads=threads) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        windows = values_pb2.WindowBatch(start_time_unix_nano=[at(0)], values=pack_float64(RAW))
        yield inference.Forecast(pb.ForecastRequest(batch=windows, coverages=[0.9]), timeout=60)
        times, values = [at(row) for row in range(3000)], pack_float64(RAW[:3000, 0])
        rows = values_pb2.ObservationBatch(observe_time_unix_nano=times, values=values)
        yield inference.Detect(detect_request(pb.DetectSeries(series="a", batch=rows), explain=EXPLAIN_ALL), timeout=60)
        stream, names = Stream(inference, explain=EXPLAIN_ANOMALIES), [f"host {number}" for number in range(SERIES)]
        for step in range(STEPS):
            values = pack_float64(RAW[step * 100 : step * 100 + SERIES, 0])
            yield stream.send(batch=values_pb2.ObservationBatch(series=names, observe_time_unix_nano=[at(step)], values=values))


def test_answers_do_not_depend_on_how_many_threads_made_them(tmp_path):
    publish_tiny(tmp_path)
    several, one = list(answers_with(tmp_path, 3)), list(answers_with(tmp_path, 1))
    assert several == one
    assert len(one[-1].scores.p_value) == SERIES * FLOAT64_BYTES
