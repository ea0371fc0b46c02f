"""From a fitted network to the artifact's graph: raw window in, raw forecast out, ONNX' own operators only."""

import logging
from typing import Any

import onnx
import tf2onnx

from mods_grpc.artifact import check_graph
from mods_grpc.artifact.graph_policy import OPSET
from mods_grpc.errors import ArtifactError
from training.export.canonical_graph import Value, canonical_model
from training.export.exportable_layers import twin
from training.export.raw_function import raw_function
from training.network.config import ModelConfig
from training.network.scaler import Scaler


def export_graph(network: Any, config: ModelConfig, scaler: Scaler, features: int, *, unroll: bool = False) -> bytes:
    """Export a network with its preprocessing as a serialized ONNX model; the same weights give the same bytes.

    Args:
        network: Keras model over scaled windows.
        config: Its configuration.
        scaler: Numbers of the preprocessing, which become part of the graph.
        features: Features of a row.
        unroll: Write LSTMs out step by step; see `batch_graph`.

    Returns:
        A model of input `window`, float64 `(batch, rows, features)`, and with a calendar `time`, int64 `(batch,)`, that of
        each window's last row in nanoseconds since 1970; of output `forecast`, float64
        `(batch, steps_ahead, features)`, both in raw units, and where the network has them `quantiles`, float64
        `(batch, steps_ahead, features, levels)`.

    Raises:
        DataError: The scaler does not fit the configuration.
        ArtifactError: The result breaks the artifact's contract.
    """
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    function = raw_function(twin(network, unroll=unroll), config, scaler, features)
    converted, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET, custom_op_handlers={"Log": (_keep, [])}
    )
    model = canonical_model(converted, inputs=_inputs(config, features), outputs=_outputs(config, features))
    data: bytes = model.SerializeToString(deterministic=True)
    check_model(data, config, features)
    return data


def _keep(context: Any, node: Any, name: str, args: Any) -> None:
    """Leave an operator as it is: the converter's own handler takes logarithms in float32."""
    del context, node, name, args


def check_model(data: bytes, config: ModelConfig, features: int) -> None:
    """Check a serialized model: valid ONNX with shapes that hold, allowed operators, and the artifact's input and outputs.

    Raises:
        ArtifactError: One of them fails.
    """
    check_graph(data)
    model = onnx.load_model_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"model.onnx: not valid ONNX: {error}") from error
    values = _inputs(config, features) | _outputs(config, features)
    expected = {name: (kind, ("batch", *shape)) for name, (kind, shape) in values.items()}
    found = {value.name: _value(value) for value in (*model.graph.input, *model.graph.output)}
    if found != expected:
        raise ArtifactError(f"model.onnx: has inputs and outputs {found}, expected {expected}")


def _inputs(config: ModelConfig, features: int) -> dict[str, Value]:
    """Return type and shape, but for the batch, of each input."""
    values: dict[str, Value] = {"window": (int(onnx.TensorProto.DOUBLE), (config.rows, features))}
    if config.calendar:
        values["time"] = (int(onnx.TensorProto.INT64), ())
    return values


def _outputs(config: ModelConfig, features: int) -> dict[str, Value]:
    """Return type and shape, but for the batch, of each output."""
    path = (config.steps_ahead, features)
    values: dict[str, Value] = {"forecast": (int(onnx.TensorProto.DOUBLE), path)}
    if config.levels:
        values["quantiles"] = (int(onnx.TensorProto.DOUBLE), (*path, config.heads))
    return values


def _value(value: Any) -> tuple[int, tuple[str | int, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim)
