"""From a fitted network to the artifact's ONNX graph: raw window in, raw forecast out, standard operators only."""

import logging
from typing import Any

import onnx

from mods_grpc.artifact import check_graph
from mods_grpc.artifact.graph_policy import OPSET
from mods_grpc.errors import ArtifactError
from training.export.canonical_graph import ValueType, canonicalize
from training.export.exportable_layers import to_exportable
from training.export.raw_function import build_raw_function
from training.export.tree_operator import PYTHON_FUNCTIONS, convert_forest
from training.network.backend import tf2onnx
from training.network.config import ModelConfig
from training.network.scaler import Scaler


def export_graph(network: Any, config: ModelConfig, scaler: Scaler, features: int, *, unroll: bool = False) -> bytes:
    """Export a network with its preprocessing as a serialized ONNX model. The same weights give the same bytes.

    Args:
        network: Keras model over scaled windows.
        config: Options of the network.
        scaler: Constants of the preprocessing, which become part of the graph.
        features: Features of a row.
        unroll: Unroll LSTMs; see `batch_graph`.

    Returns:
        A model with the inputs and outputs of `raw_function.build_raw_function`.

    Raises:
        DataError: The scaler does not fit the configuration.
        ArtifactError: The graph breaks the artifact's contract.
    """
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it warns of the shape of a forest, which the layer knows
    function = build_raw_function(to_exportable(network, unroll=unroll), config, scaler, features)
    handlers: dict[str, Any] = {"Log": (_keep_operator, []), **{name: (convert_forest, []) for name in PYTHON_FUNCTIONS}}
    converted, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET, custom_op_handlers=handlers
    )
    model = canonicalize(converted, inputs=_input_types(config, features), outputs=_output_types(config, features))
    data: bytes = model.SerializeToString(deterministic=True)
    check_model(data, config, features)
    return data


def _keep_operator(context: Any, node: Any, name: str, args: Any) -> None:
    """Convert an operator to itself. The converter's own handler computes logarithms in float32."""
    del context, node, name, args


def check_model(data: bytes, config: ModelConfig, features: int) -> None:
    """Check a serialized model: valid ONNX with consistent shapes, allowed operators, and the artifact's inputs and outputs.

    Raises:
        ArtifactError: A check fails.
    """
    check_graph(data)
    model = onnx.load_model_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"model.onnx: not valid ONNX: {error}") from error
    values = _input_types(config, features) | _output_types(config, features)
    expected = {name: (kind, ("batch", *shape)) for name, (kind, shape) in values.items()}
    actual = {value.name: _value_type(value) for value in (*model.graph.input, *model.graph.output)}
    if actual != expected:
        raise ArtifactError(f"model.onnx: has inputs and outputs {actual}, expected {expected}")


def _input_types(config: ModelConfig, features: int) -> dict[str, ValueType]:
    """Return type and shape of each input."""
    values: dict[str, ValueType] = {"window": (int(onnx.TensorProto.DOUBLE), (config.rows, features))}
    if config.calendar:
        values["time"] = (int(onnx.TensorProto.INT64), ())
    return values


def _output_types(config: ModelConfig, features: int) -> dict[str, ValueType]:
    """Return type and shape of each output."""
    path = (config.steps_ahead, features)
    values: dict[str, ValueType] = {"forecast": (int(onnx.TensorProto.DOUBLE), path)}
    if config.levels:
        values["quantiles"] = (int(onnx.TensorProto.DOUBLE), (*path, config.heads))
    return values


def _value_type(value: Any) -> tuple[int, tuple[str | int, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim)
