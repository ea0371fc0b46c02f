"""A model that runs too long is stopped, and the server goes on."""

import grpc
import pytest
from running_server import channel_to, running_server
from slow_model import slow_graph
from talking import failure_of, forecast_request, window
from tiny_model import publish_tiny

from mods_grpc.server.watchdog import Watchdog
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc


def test_a_run_that_takes_too_long_is_stopped_and_others_are_answered(tmp_path):
    publish_tiny(tmp_path, model=slow_graph())
    with running_server(repository=tmp_path, max_run_seconds=0.05) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        request = pb.ForecastRequest(windows=pb.WindowList(windows=[window()] * 2000))
        with pytest.raises(grpc.RpcError) as caught:
            inference.Forecast(request, timeout=60)
        assert failure_of(caught.value)[:2] == (grpc.StatusCode.INTERNAL, "MODEL_OUTPUT_INVALID")
        assert inference.Forecast(forecast_request(), timeout=60).model.version == 1


class Options:
    terminate = False


def test_what_ends_in_time_is_left_alone_and_the_thread_goes():
    watchdog, options = Watchdog(), Options()
    with watchdog.over(options, 60.0):
        thread = watchdog._thread
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    assert not options.terminate
