"""A network of two dense layers with weights of no meaning, for the cost of a model that costs next to nothing."""

import io
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import publish

HIDDEN, OPSET, IR_VERSION = 32, 18, 10


def publish_mlp(manifest, repository):
    """Publish it as `mlp`, with the features and the calibration of another model's manifest."""
    rng = np.random.default_rng(4)
    rows, horizon, features = manifest.rows, manifest.horizon, len(manifest.features)
    first = rng.normal(0, 0.1, (rows * features, HIDDEN)).astype(np.float32)
    second = rng.normal(0, 0.1, (HIDDEN, horizon * features)).astype(np.float32)
    graph = _graph(rows, horizon, features, first, second)
    vectors = {}
    for batch in (1, 3, 9):
        window = rng.uniform(1, 100, (batch, rows, features))
        hidden = np.maximum(np.log1p(window).astype(np.float32).reshape(batch, -1) @ first, 0)
        vectors[f"window_{batch}"] = window
        vectors[f"forecast_{batch}"] = np.exp(hidden @ second).astype(np.float64).reshape(batch, horizon, features)
    file = io.BytesIO()
    np.savez(file, **vectors)
    contents = {"model.onnx": graph, "parity.npz": file.getvalue(), "MODEL_CARD.md": b"# Two dense layers\n"}
    publish(repository, replace(manifest, name="mlp", version=1, architecture="MLP", files=()), contents)


def _graph(rows, horizon, features, first, second):
    def constant(name, values):
        return numpy_helper.from_array(np.asarray(values), name)

    constants = [
        constant("one", 1.0),
        constant("flat", np.array([-1, rows * features], np.int64)),
        constant("path", np.array([-1, horizon, features], np.int64)),
        constant("first", first),
        constant("second", second),
    ]
    nodes = [
        helper.make_node("Add", ["window", "one"], ["above"]),
        helper.make_node("Log", ["above"], ["logs"]),
        helper.make_node("Cast", ["logs"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["single", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "first"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["steps"]),
        helper.make_node("Exp", ["steps"], ["raw"]),
        helper.make_node("Cast", ["raw"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Reshape", ["wide", "path"], ["forecast"]),
    ]
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", rows, features])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", horizon, features])
    graph = helper.make_graph(nodes, "mlp", [window], [forecast], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
