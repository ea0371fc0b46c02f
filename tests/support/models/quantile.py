"""A quantile model whose forecasts can be computed by hand: mean, minimum and maximum of the window's rows."""

import io

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import publish
from tests.support.models.tiny import FEATURES, HORIZON, ROWS, calibrate_forecaster, make_manifest, make_mean_graph

QUANTILES = (0.05, 0.5, 0.95)


def make_quantile_graph(stretch=(1.0, 1.0), levels=3):
    """Return the graph. The factors in `stretch` multiply the upper end one after the other."""
    model = make_mean_graph()
    axes = numpy_helper.from_array(np.array([3], np.int64), "last")
    numbers = [axes, *(numpy_helper.from_array(np.array(by), f"by_{i}") for i, by in enumerate(stretch))]
    ends = ["low", *["middle"] * (levels - 2), "high"]
    nodes = [
        helper.make_node("ReduceMin", ["window", "axes"], ["least"], keepdims=1),
        helper.make_node("ReduceMax", ["window", "axes"], ["largest"], keepdims=1),
        helper.make_node("Mul", ["largest", "by_0"], ["half"]),
        helper.make_node("Mul", ["half", "by_1"], ["stretched"]),
        helper.make_node("Concat", ["least"] * HORIZON, ["lower"], axis=1),
        helper.make_node("Concat", ["stretched"] * HORIZON, ["upper"], axis=1),
        helper.make_node("Unsqueeze", ["lower", "last"], ["low"]),
        helper.make_node("Unsqueeze", ["forecast", "last"], ["middle"]),
        helper.make_node("Unsqueeze", ["upper", "last"], ["high"]),
        helper.make_node("Concat", ends, ["quantiles"], axis=3),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numbers)
    shape = ["batch", HORIZON, len(FEATURES), levels]
    model.graph.output.append(helper.make_tensor_value_info("quantiles", TensorProto.DOUBLE, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def forecast_quantiles(windows, times=None):
    """Return forecast, lower and upper end, `(n, HORIZON, 3 * features)`."""
    outputs = np.concatenate([windows.mean(axis=1), windows.min(axis=1), windows.max(axis=1)], axis=1)
    return np.repeat(outputs[:, None], HORIZON, axis=1)


QUANTILE_CALIBRATION = calibrate_forecaster(forecast_quantiles, QUANTILES)


def make_quantile_parity(drop=(), **changes):
    """Return a file of parity vectors, without those named in `drop`."""
    rng, arrays = np.random.default_rng(3), {}
    for batch in (1, 3, 9):
        window = rng.gamma(50.0, 20.0, (batch, ROWS, len(FEATURES)))
        ends = np.split(forecast_quantiles(window), 3, axis=-1)
        vectors = {"window": window, "forecast": ends[0], "quantiles": np.stack([ends[1], ends[0], ends[2]], axis=-1)}
        arrays |= {f"{name}_{batch}": array for name, array in vectors.items() if name not in drop}
    file = io.BytesIO()
    np.savez(file, **(arrays | changes))
    return file.getvalue()


def publish_quantiles(repository, name="tiny", version=1, model=None, batch_model=None, parity=None, **changes):
    contents = {
        "model.onnx": (model or make_quantile_graph()).SerializeToString(),
        "parity.npz": parity or make_quantile_parity(),
        "MODEL_CARD.md": b"# The mean of the window, and its ends\n",
    }
    if batch_model is not None:
        contents["model.batch.onnx"] = batch_model.SerializeToString()
    return publish(repository, make_manifest(name, version, **{"calibration": QUANTILE_CALIBRATION} | changes), contents)
