"""A model that is slow on many windows and forecasts their mean like the tiny model."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.models.tiny import HORIZON, ROWS


def make_slow_graph(depth=60, width=512):
    """Return a graph whose result is the mean of the window, after `depth` matrix products per window that don't change it."""
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
