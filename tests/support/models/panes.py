"""A model whose rows hold panes of its first feature, with forecasts that can be computed by hand.

What it forecasts of a window is what the rows hold of it already, and a share of the last window for the rest of it. Of the
second feature, whose rows hold whole windows, it is the mean of the rows.
"""

import io
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import publish
from mods_grpc.detection import PaneSums, calibrate
from tests.support.models.tiny import FEATURES, HORIZON, LEVELS, ROWS, SLIDE, make_manifest

PANES = 3
HAS_PANES = (True, False)


def make_weights(has_panes=HAS_PANES):
    """Return the weights of rows in forecasts, `(HORIZON, ROWS, features)`."""
    weights = np.full((HORIZON, ROWS, len(has_panes)), 1 / ROWS)
    for j in np.flatnonzero(has_panes):
        for step in range(1, HORIZON + 1):
            weights[step - 1, :, j] = 0.0
            weights[step - 1, ROWS - PANES :, j] = min(step / PANES, 1.0)
            weights[step - 1, ROWS - PANES + step :, j] += 1.0
    return weights


def make_pane_graph(has_panes=HAS_PANES):
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", ROWS, len(has_panes)])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", HORIZON, len(has_panes)])
    initializers = [
        numpy_helper.from_array(np.array([1], np.int64), "steps"),
        numpy_helper.from_array(np.array([2], np.int64), "rows"),
        numpy_helper.from_array(make_weights(has_panes), "weights"),
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["window", "steps"], ["by_step"]),
        helper.make_node("Mul", ["by_step", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "rows"], ["forecast"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "panes", [window], [forecast], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def forecast_panes(windows, times=None):
    return (windows[:, None] * make_weights()).sum(axis=2)


def make_pane_calibration():
    return calibrate(
        forecast_panes,
        np.arange(len(LEVELS)) * SLIDE * 10**9,
        LEVELS,
        training=slice(0, 300),
        calibration=slice(0, len(LEVELS)),
        kinds=["count", "sum"],
        rows=ROWS,
        slide_seconds=SLIDE,
        holdoff_rows=6,
        panes=PaneSums(HAS_PANES, PANES),
    )


PANE_CALIBRATION = make_pane_calibration()


def make_pane_manifest(name="tiny", version=1, **changes):
    windows = PaneSums(HAS_PANES, PANES).add_all(LEVELS)
    features = tuple(
        replace(feature, pane=pane, training_minimum=float(np.nanmin(column)), training_maximum=float(np.nanmax(column)))
        for feature, pane, column in zip(make_manifest().features, HAS_PANES, windows.T, strict=True)
    )
    settings = {"features": features, "window_seconds": PANES * SLIDE, "calibration": PANE_CALIBRATION}
    return make_manifest(name, version, **settings | changes)


def make_pane_parity():
    rng, arrays = np.random.default_rng(3), {}
    for batch in (1, 3, 9):
        arrays[f"window_{batch}"] = rng.gamma(50.0, 20.0, (batch, ROWS, len(FEATURES)))
        arrays[f"forecast_{batch}"] = forecast_panes(arrays[f"window_{batch}"])
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def publish_panes(repository, name="tiny", version=1, model=None, **changes):
    contents = {
        "model.onnx": (model or make_pane_graph()).SerializeToString(),
        "parity.npz": make_pane_parity(),
        "MODEL_CARD.md": b"# What is known of the next window, and a share of the last one\n",
    }
    return publish(repository, make_pane_manifest(name, version, **changes), contents)
