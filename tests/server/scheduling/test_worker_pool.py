"""The worker pool: results are the same whatever the number of threads."""

import threading
import time

import numpy as np
import pytest

from mods_grpc.detection.engine.chunking import chunks_of
from mods_grpc.errors import DeadlineError
from mods_grpc.protobuf.arrays import FLOAT64_BYTES, pack_float64
from mods_grpc.server.scheduling.run_watchdog import CallScope, call_scope, current_call, run_start
from mods_grpc.server.scheduling.worker_pool import WorkerPool
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL, EXPLAIN_ANOMALIES
from tests.support.models.tiny import ROWS, publish_tiny
from tests.support.rpc.client import Stream, at, detect_request
from tests.support.running_server import channel_to, running_server

PARTS = chunks_of(10, 3)
TIMEOUT_SECONDS = 20.0


@pytest.fixture
def workers():
    workers = WorkerPool(2)
    yield workers
    workers.close()


def on_registered_thread(workers, function):
    """Call a function on a thread registered with the pool; return its result or raise its error."""
    outcomes = []

    def run():
        workers.register_thread()
        try:
            outcomes.append((function(), None))
        except Exception as error:
            outcomes.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    result, error = outcomes[0]
    if error is not None:
        raise error
    return result


def two_thread_barrier():
    """Return a chunk function that returns only once two threads are inside it."""
    barrier = threading.Barrier(2)

    def work(part):
        barrier.wait(TIMEOUT_SECONDS)
        return threading.current_thread().name, part

    return work


def test_chunks_cover_a_batch_without_gap_or_overlap():
    assert [(part.start, part.stop) for part in PARTS] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert chunks_of(0, 3) == []
    assert chunks_of(3, 3) == [slice(0, 3)]


def test_two_threads_run_at_the_same_time_and_results_come_back_in_order(workers):
    results = on_registered_thread(workers, lambda: workers.map_chunks(two_thread_barrier(), PARTS))
    assert [part for _, part in results] == PARTS
    assert len({name for name, _ in results}) == 2


def test_a_thread_that_is_not_registered_gets_no_help(workers):
    results = workers.map_chunks(lambda part: (threading.current_thread(), part), PARTS)
    assert results == [(threading.current_thread(), part) for part in PARTS]


def test_a_pool_of_one_thread_has_no_helpers():
    workers = WorkerPool(1)
    name = on_registered_thread(workers, lambda: {*workers.map_chunks(lambda _: threading.current_thread().name, PARTS)})
    assert len(name) == 1
    workers.close()


def test_nested_chunks_run_on_the_thread_of_their_chunk(workers):
    def work(part):
        mine = threading.current_thread()
        return workers.map_chunks(lambda _: threading.current_thread() is mine, PARTS)

    assert on_registered_thread(workers, lambda: workers.map_chunks(work, PARTS)) == [[True] * len(PARTS)] * len(PARTS)


def test_the_calling_thread_does_everything_while_the_helpers_are_busy(workers):
    free = threading.Event()
    workers._helpers.submit(free.wait, TIMEOUT_SECONDS)
    try:
        results = on_registered_thread(
            workers, lambda: workers.map_chunks(lambda part: (threading.current_thread().name, part), PARTS)
        )
        assert [part for _, part in results] == PARTS
        assert len({name for name, _ in results}) == 1
    finally:
        free.set()


def test_a_closed_pool_runs_everything_on_the_calling_thread(workers):
    workers.close()
    names = on_registered_thread(workers, lambda: workers.map_chunks(lambda part: threading.current_thread().name, PARTS))
    assert len(names) == len(PARTS)
    assert len(set(names)) == 1


def test_an_error_of_one_chunk_is_raised_and_the_remaining_chunks_are_skipped(workers):
    started = []

    def work(part):
        started.append(part)
        raise ValueError(part)

    many = chunks_of(1000, 1)
    with pytest.raises(ValueError, match="slice"):
        on_registered_thread(workers, lambda: workers.map_chunks(work, many))
    assert len(started) <= 2
    assert on_registered_thread(workers, lambda: workers.map_chunks(lambda part: part, many)) == many


def test_helpers_inherit_the_call_scope_and_the_start_of_the_run(workers):
    call, barrier = CallScope(60.0), threading.Barrier(2)

    def work(_):
        barrier.wait(TIMEOUT_SECONDS)
        return current_call(), run_start()

    def lead():
        with call_scope(call):
            return workers.map_chunks(work, PARTS[:2])

    (first, first_start), (second, second_start) = on_registered_thread(workers, lead)
    assert first is second is call
    assert first_start == second_start <= time.monotonic()


def test_all_threads_stop_when_the_call_is_cancelled(workers):
    call, started = CallScope(60.0), []

    def work(part):
        current_call()
        started.append(part)
        call.gone = True

    def lead():
        with call_scope(call):
            workers.map_chunks(work, chunks_of(1000, 1))

    with pytest.raises(DeadlineError):
        on_registered_thread(workers, lead)
    assert 1 <= len(started) <= 2


def test_helpers_inherit_the_error_state_of_numpy(workers):
    wait_for_other_thread = two_thread_barrier()

    def work(part):
        wait_for_other_thread(part)
        return np.log(np.zeros(1))[0]

    def lead():
        with np.errstate(divide="ignore"):
            return workers.map_chunks(work, PARTS[:2])

    assert on_registered_thread(workers, lead) == [-np.inf, -np.inf]


SERIES, STEPS = 1500, 8
RAW = np.random.default_rng(2).gamma(50.0, 20.0, (9000, ROWS, 2))


def responses_with(repository, threads):
    """Yield the responses of a server with `threads` threads per batch to large requests and to stream messages."""
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


def test_responses_do_not_depend_on_the_number_of_threads(tmp_path):
    publish_tiny(tmp_path)
    several, one = list(responses_with(tmp_path, 3)), list(responses_with(tmp_path, 1))
    assert several == one
    assert len(one[-1].scores.p_value) == SERIES * FLOAT64_BYTES
