"""A model that runs too long is stopped, and the server goes on."""

import time

import grpc
import pytest

from mods_grpc.errors import DeadlineError
from mods_grpc.server.scheduling.run_watchdog import CallScope, Watchdog, call_scope, current_call
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc
from tests.support.http2.client import failure_of, forecast_request, window
from tests.support.models.slow import slow_graph
from tests.support.models.tiny import publish_tiny
from tests.support.running_server import channel_to, running_server

WINDOWS = 800
LARGE = pb.ForecastRequest(windows=pb.WindowList(windows=[window()] * WINDOWS))


def test_a_run_that_takes_too_long_is_stopped_and_others_are_answered(tmp_path):
    publish_tiny(tmp_path, model=slow_graph())
    with running_server(repository=tmp_path, max_run_seconds=0.05) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            inference.Forecast(LARGE, timeout=60)
        assert failure_of(caught.value)[:2] == (grpc.StatusCode.INTERNAL, "MODEL_OUTPUT_INVALID")
        assert inference.Forecast(forecast_request(), timeout=60).model.version == 1


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    repository = tmp_path_factory.mktemp("slow")
    publish_tiny(repository, model=slow_graph())
    with running_server(repository=repository, metrics_address="127.0.0.1:0") as server, channel_to(server) as channel:
        yield server, inference_pb2_grpc.InferenceServiceStub(channel)


def idle(server):
    """Return when no work is left, and how long that took."""
    started = time.monotonic()
    while server.app._boundary.admission.pending:
        assert time.monotonic() - started < 60
    return time.monotonic() - started


@pytest.fixture(scope="module")
def whole_seconds(slow):
    """How long a large request takes when it is left to finish."""
    server, inference = slow
    started = time.monotonic()
    inference.Forecast(LARGE, timeout=60)
    idle(server)
    return time.monotonic() - started


@pytest.mark.parametrize("end", ["deadline", "cancelled"])
def test_a_run_that_nobody_waits_for_any_more_is_ended(slow, whole_seconds, end):
    server, inference = slow
    server.app._boundary.admission._mean_seconds = 0.0  # or it would be refused at once
    call = inference.Forecast.future(LARGE, timeout=whole_seconds / 4 if end == "deadline" else 60)
    while not server.app._boundary.admission.pending:
        assert not call.done()
    if end == "cancelled":
        call.cancel()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        call.result(60)
    assert idle(server) < whole_seconds / 2


def test_work_whose_caller_is_gone_before_it_begins_is_dropped(slow, whole_seconds):
    server, inference = slow
    threads, runs = server.app._pool._max_workers, server.app.metrics
    before = runs._sizes.labels("tiny")._sum.get()
    first = [inference.Forecast.future(LARGE, timeout=60) for _ in range(threads)]
    while server.app._boundary.admission.pending < threads:
        assert not any(call.done() for call in first)
    waiting = inference.Forecast.future(LARGE, timeout=60)
    while server.app._boundary.admission.pending <= threads:
        assert not waiting.done()
    waiting.cancel()
    for call in first:
        call.result(60)
    idle(server)
    assert runs._sizes.labels("tiny")._sum.get() - before == WINDOWS * threads


def test_who_waits_no_longer_is_told_before_anything_runs():
    with call_scope(CallScope(-1.0)), pytest.raises(DeadlineError):
        current_call()
    assert current_call() is None


class Options:
    terminate = False


def test_what_ends_in_time_is_left_alone_and_the_thread_goes():
    watchdog, options = Watchdog(), Options()
    with watchdog.watch(options, time.monotonic() + 60.0):
        thread = watchdog._thread
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    assert not options.terminate
