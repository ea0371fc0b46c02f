"""A network of two dense layers, fitted by least squares in a second: its run time is negligible, so the server's cost shows."""

import io
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.support.rpc_messages import draw_random_walk
from mods_grpc.artifact import publish

HIDDEN, OPSET, IR_VERSION = 32, 18, 10
SEED = 4
RIDGE = 1.0


def publish_mlp(manifest, repository):
    """Publish the network as `mlp`, with the features and the calibration of another model's manifest."""
    rows, horizon, features = manifest.rows, manifest.horizon, len(manifest.features)
    series = draw_random_walk(manifest, SEED)
    weights = _fit_weights(series, rows, horizon)
    graph = _make_graph(rows, horizon, features, weights)
    parity = {}
    for batch in (1, 3, 9):
        window = np.stack([series[i : i + rows] for i in range(batch)])
        parity[f"window_{batch}"], parity[f"forecast_{batch}"] = window, _compute_forecast(window, horizon, weights)
    file = io.BytesIO()
    np.savez(file, **parity)
    contents = {"model.onnx": graph, "parity.npz": file.getvalue(), "MODEL_CARD.md": b"# Two dense layers\n"}
    publish(repository, replace(manifest, name="mlp", version=1, architecture="MLP", files=()), contents)


def _fit_weights(series, rows, horizon):
    """Return weights and biases of both layers.

    A reduced-rank regression of the next rows on the window with HIDDEN / 2 components. Each component has two hidden units: one
    passes its positive part, the other its negative part.
    """
    logs = np.log1p(series)
    views = np.lib.stride_tricks.sliding_window_view(logs, rows + horizon, axis=0).transpose(0, 2, 1)
    inputs, targets = views[:, :rows].reshape(len(views), -1), views[:, rows:].reshape(len(views), -1)
    input_mean, output_mean = inputs.mean(axis=0), targets.mean(axis=0)
    inputs, targets = inputs - input_mean, targets - output_mean
    coefficients = np.linalg.solve(inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1]), inputs.T @ targets)
    _, _, components = np.linalg.svd(inputs @ coefficients, full_matrices=False)
    out = components[: HIDDEN // 2]
    into = coefficients @ out.T
    first, second = np.concatenate([into, -into], axis=1), np.concatenate([out, -out])
    return [np.asarray(weight, np.float32) for weight in (first, -input_mean @ first, second, output_mean)]


def _compute_forecast(window, horizon, weights):
    first, bias, second, output_mean = weights
    hidden = np.maximum(np.log1p(window).astype(np.float32).reshape(len(window), -1) @ first + bias, 0)
    return np.exp(hidden @ second + output_mean).astype(np.float64).reshape(len(window), horizon, -1) - 1.0


def _make_graph(rows, horizon, features, weights):
    def make_constant(name, values):
        return numpy_helper.from_array(np.asarray(values), name)

    constants = [
        make_constant("one", 1.0),
        make_constant("flat", np.array([-1, rows * features], np.int64)),
        make_constant("path", np.array([-1, horizon, features], np.int64)),
        *(make_constant(name, weight) for name, weight in zip(("first", "bias", "second", "centre"), weights, strict=True)),
    ]
    nodes = [
        helper.make_node("Add", ["window", "one"], ["above"]),
        helper.make_node("Log", ["above"], ["logs"]),
        helper.make_node("Cast", ["logs"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["single", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "first"], ["sums"]),
        helper.make_node("Add", ["sums", "bias"], ["biased"]),
        helper.make_node("Relu", ["biased"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["products"]),
        helper.make_node("Add", ["products", "centre"], ["steps"]),
        helper.make_node("Exp", ["steps"], ["raw"]),
        helper.make_node("Cast", ["raw"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Sub", ["wide", "one"], ["flat_path"]),
        helper.make_node("Reshape", ["flat_path", "path"], ["forecast"]),
    ]
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", rows, features])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", horizon, features])
    graph = helper.make_graph(nodes, "mlp", [window], [forecast], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
