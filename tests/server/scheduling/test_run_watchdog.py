"""A model run that takes too long is stopped, and the server continues."""

import time

import grpc
import pytest

from mods_grpc.errors import DeadlineError
from mods_grpc.server.scheduling.run_watchdog import CallScope, Watchdog, call_scope, current_call
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc
from tests.support.models.slow import make_slow_graph
from tests.support.models.tiny import publish_tiny
from tests.support.rpc.client import forecast_request, read_failure, window
from tests.support.running_server import channel_to, running_server

WINDOWS = 800
LARGE = pb.ForecastRequest(windows=pb.WindowList(windows=[window()] * WINDOWS))


def test_a_run_that_takes_too_long_is_stopped_and_other_calls_are_answered(tmp_path):
    publish_tiny(tmp_path, model=make_slow_graph())
    with running_server(repository=tmp_path, max_run_seconds=0.05) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            inference.Forecast(LARGE, timeout=60)
        assert read_failure(caught.value)[:2] == (grpc.StatusCode.INTERNAL, "MODEL_OUTPUT_INVALID")
        assert inference.Forecast(forecast_request(), timeout=60).model.version == 1


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    repository = tmp_path_factory.mktemp("slow")
    publish_tiny(repository, model=make_slow_graph())
    with running_server(repository=repository, metrics_address="127.0.0.1:0") as server, channel_to(server) as channel:
        yield server, inference_pb2_grpc.InferenceServiceStub(channel)


def wait_idle(server):
    """Wait until no work is left and return how many seconds that took."""
    started = time.monotonic()
    while server.app._boundary.admission.pending:
        assert time.monotonic() - started < 60
    return time.monotonic() - started


@pytest.fixture(scope="module")
def full_run_seconds(slow):
    """Seconds that a large request takes if it is not stopped."""
    server, inference = slow
    started = time.monotonic()
    inference.Forecast(LARGE, timeout=60)
    wait_idle(server)
    return time.monotonic() - started


@pytest.mark.parametrize("end", ["deadline", "cancelled"])
def test_a_run_is_stopped_when_its_call_has_ended(slow, full_run_seconds, end):
    """One of three times is enough: on a busy machine a run can be long after it was told to stop."""
    server, inference = slow

    def end_a_run():
        server.app._boundary.admission._mean_seconds = 0.0  # otherwise it would be rejected immediately
        call = inference.Forecast.future(LARGE, timeout=full_run_seconds / 4 if end == "deadline" else 60)
        while not server.app._boundary.admission.pending:
            assert not call.done()
        if end == "cancelled":
            call.cancel()
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result(60)
        return wait_idle(server)

    assert any(end_a_run() < full_run_seconds / 2 for _ in range(3))


def test_queued_work_is_dropped_when_its_call_has_ended(slow, full_run_seconds):
    server, inference = slow
    threads, runs = server.app._pool._max_workers, server.app.metrics
    windows_before = runs._sizes.labels("tiny")._sum.get()
    first = [inference.Forecast.future(LARGE, timeout=60) for _ in range(threads)]
    while server.app._boundary.admission.pending < threads:
        assert not any(call.done() for call in first)
    waiting = inference.Forecast.future(LARGE, timeout=60)
    while server.app._boundary.admission.pending <= threads:
        assert not waiting.done()
    waiting.cancel()
    for call in first:
        call.result(60)
    wait_idle(server)
    assert runs._sizes.labels("tiny")._sum.get() - windows_before == WINDOWS * threads


def test_an_expired_call_raises_before_a_run_starts():
    with call_scope(CallScope(-1.0)), pytest.raises(DeadlineError):
        current_call()
    assert current_call() is None


class Options:
    terminate = False


def test_a_run_in_time_is_not_stopped_and_the_watchdog_thread_ends():
    watchdog, options = Watchdog(), Options()
    with watchdog.watch(options, time.monotonic() + 60.0):
        thread = watchdog._thread
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    assert not options.terminate
