"""A model that runs too long is stopped, and the server goes on."""

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from running_server import channel_to, running_server
from talking import failure_of, forecast_request, window
from tiny_model import HORIZON, ROWS, publish_tiny

from mods_grpc.server.watchdog import Watchdog
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc


def slow_graph(depth=60, width=512):
    """The mean of the window, after as much idle arithmetic on every window as the batch is large."""
    info = helper.make_tensor_value_info
    inputs = [info("window", TensorProto.DOUBLE, ["batch", ROWS, 2])]
    outputs = [info("forecast", TensorProto.DOUBLE, ["batch", HORIZON, 2])]
    rng = np.random.default_rng(1)
    numbers = [
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
        numpy_helper.from_array(np.zeros((2, width)), "spread"),
        numpy_helper.from_array(rng.normal(0, 0.01, (width, width)), "weights"),
        numpy_helper.from_array(np.zeros((width, 2)), "gather"),
    ]
    node = helper.make_node
    nodes = [node("ReduceMean", ["window", "axes"], ["mean"], keepdims=1), node("MatMul", ["mean", "spread"], ["x0"])]
    nodes += [node("MatMul", [f"x{i}", "weights"], [f"x{i + 1}"]) for i in range(depth)]
    nodes += [
        node("MatMul", [f"x{depth}", "gather"], ["nothing"]),
        node("Add", ["mean", "nothing"], ["same"]),
        node("Concat", ["same"] * HORIZON, ["forecast"], axis=1),
    ]
    graph = helper.make_graph(nodes, "slow", inputs, outputs, numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


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
