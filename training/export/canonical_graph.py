"""The canonical form of a graph: the same computation gives the same bytes, independent of the converter's names.

The converter numbers names by a global counter and orders nodes by the iteration order of sets, so two exports of one network
differ in bytes. Here nodes are sorted topologically from the outputs, and everything is named by that order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from mods_grpc.artifact.graph_policy import OPSET
from mods_grpc.artifact.tree_policy import TREE_DOMAIN, TREE_DOMAIN_VERSION
from mods_grpc.errors import ArtifactError

IR_VERSION = 8  # of opset 18
PRODUCER = "mods-grpc"
_KEEPS_ZEROS = frozenset({"Cast", "Concat", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"})
ValueType = tuple[int, tuple[int, ...]]
"""Data type of an input or output, from `onnx.TensorProto`, and its shape without the batch."""

_INITIAL_STATES = slice(5, 7)  # inputs of LSTM and GRU


def canonicalize(model: Any, *, inputs: Mapping[str, ValueType], outputs: Mapping[str, ValueType]) -> Any:
    """Rewrite a converted model in canonical form, without nodes that the outputs don't need.

    Args:
        model: An `onnx.ModelProto` with these inputs and outputs, in this order, and a free batch dimension.
        inputs: Type and shape of each input, by its name.
        outputs: Type and shape of each output, by its name.

    Raises:
        ArtifactError: The model has another number of inputs or outputs.
    """
    graph = model.graph
    results = {name: graph.output[index].name for index, name in enumerate(outputs)} if len(graph.output) == len(outputs) else {}
    if len(graph.input) != len(inputs) or not results:
        raise ArtifactError(f"model.onnx: takes {[i.name for i in graph.input]} and gives {[o.name for o in graph.output]}")
    constants = _read_constants(graph)
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    producers = {output: node for node in nodes for output in node.output}
    _omit_zero_states(nodes, producers, constants)
    names = {"": "", **{value.name: name for value, name in zip(graph.input, inputs, strict=True)}}
    weights: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    initializers: list[Any] = []
    ordered: list[Any] = []
    for node in _topological_order(list(results.values()), producers):
        for name in node.input:
            if name in names:
                continue
            value = constants[name]
            key = (str(value.dtype), value.shape, value.tobytes())
            if key not in weights:
                weights[key] = f"constant_{len(weights)}"
                initializers.append(numpy_helper.from_array(value, weights[key]))
            names[name] = weights[key]
        label = f"{node.op_type.lower()}_{len(ordered)}"
        for index, name in enumerate(node.output):
            names[name] = (f"{label}_{index}" if index else label) if name else ""
        ordered.append(_rename_node(node, names, label))
    _name_outputs(ordered, {names[result]: name for name, result in results.items()})
    graph_proto = helper.make_graph(
        ordered,
        "forecaster",
        _value_infos(inputs),
        _value_infos(outputs),
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == TREE_DOMAIN for node in ordered):
        opsets.append(helper.make_opsetid(TREE_DOMAIN, TREE_DOMAIN_VERSION))
    return helper.make_model(graph_proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name=PRODUCER)


def _value_infos(values: Mapping[str, ValueType]) -> list[Any]:
    return [helper.make_tensor_value_info(name, kind, ("batch", *shape)) for name, (kind, shape) in values.items()]


def _read_constants(graph: Any) -> dict[str, Any]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
    return constants


def _omit_zero_states(nodes: list[Any], producers: dict[str, Any], constants: dict[str, Any]) -> None:
    """Omit initial states that are zero, which is ONNX' default, and with them the operators that compute them."""

    def is_zero(name: str) -> bool:
        if name in constants:
            return not np.any(constants[name])
        node = producers.get(name)
        if node is None or node.op_type not in _KEEPS_ZEROS:
            return False
        return all(is_zero(source) for source in (node.input if node.op_type == "Concat" else node.input[:1]))

    for node in nodes:
        if node.op_type in ("LSTM", "GRU"):
            states = ["" if name and is_zero(name) else name for name in node.input[_INITIAL_STATES]]
            inputs = [*node.input[: _INITIAL_STATES.start], *states, *node.input[_INITIAL_STATES.stop :]]
            while inputs and not inputs[-1]:
                inputs.pop()
            del node.input[:]
            node.input.extend(inputs)


def _topological_order(outputs: list[str], producers: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that the outputs depend on, each after those that it depends on, inputs from first to last."""
    done: set[str] = set()
    pending = [(output, False) for output in reversed(outputs)]
    while pending:
        name, ready = pending.pop()
        if name in done or name not in producers:
            continue
        node = producers[name]
        if ready:
            done.update(node.output)
            yield node
        else:
            pending.append((name, True))
            pending.extend((source, False) for source in reversed(node.input))


def _rename_node(node: Any, names: dict[str, str], label: str) -> Any:
    renamed = helper.make_node(node.op_type, [names[name] for name in node.input], [names[name] for name in node.output], label)
    for attribute in sorted(node.attribute, key=lambda attribute: str(attribute.name)):
        renamed.attribute.add().CopyFrom(attribute)
    renamed.domain = node.domain
    return renamed


def _name_outputs(nodes: list[Any], names: dict[str, str]) -> None:
    for node in nodes:
        for edges in (node.input, node.output):
            for index, edge in enumerate(edges):
                edges[index] = names.get(edge, edge)
