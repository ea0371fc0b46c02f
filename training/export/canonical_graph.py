"""One way to write a graph: the same computation gives the same bytes, whatever the converter called things.

The converter numbers names by a global counter and orders nodes by the order of sets, so two exports of one network differ
in bytes. Here nodes are put into the order in which the output needs them, and everything is named by that order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from mods_grpc.artifact.graph_policy import OPSET
from mods_grpc.errors import ArtifactError

IR_VERSION = 8  # of opset 18
PRODUCER = "mods-grpc"
_KEEPS_ZEROS = frozenset({"Cast", "Concat", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"})
Value = tuple[int, tuple[int, ...]]
"""Type of an input or output, of `onnx.TensorProto`, and its shape but for the batch."""

_INITIAL_STATES = slice(5, 7)  # inputs of LSTM and GRU


def canonical_model(model: Any, *, inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> Any:
    """Rewrite a converted model, dropping whatever does not reach its outputs.

    Args:
        model: An `onnx.ModelProto` of these inputs and outputs, in this order, with a free batch dimension.
        inputs: Type and shape of each but for the batch, by its name.
        outputs: The same.

    Raises:
        ArtifactError: There is another number of inputs or outputs.
    """
    graph = model.graph
    results = {name: graph.output[index].name for index, name in enumerate(outputs)} if len(graph.output) == len(outputs) else {}
    if len(graph.input) != len(inputs) or not results:
        raise ArtifactError(f"model.onnx: takes {[i.name for i in graph.input]} and gives {[o.name for o in graph.output]}")
    constants = _constants(graph)
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    producers = {output: node for node in nodes for output in node.output}
    _omit_zero_states(nodes, producers, constants)
    names = {"": "", **{value.name: name for value, name in zip(graph.input, inputs, strict=True)}}
    weights: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    initializers: list[Any] = []
    ordered: list[Any] = []
    for node in _in_order_of_need(list(results.values()), producers):
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
        ordered.append(_rewrite(node, names, label))
    _name_outputs(ordered, {names[result]: name for name, result in results.items()})
    made = helper.make_graph(
        ordered,
        "forecaster",
        _values(inputs),
        _values(outputs),
        initializers,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name=PRODUCER)


def _values(values: Mapping[str, Value]) -> list[Any]:
    return [helper.make_tensor_value_info(name, kind, ("batch", *shape)) for name, (kind, shape) in values.items()]


def _constants(graph: Any) -> dict[str, Any]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
    return found


def _omit_zero_states(nodes: list[Any], producers: dict[str, Any], constants: dict[str, Any]) -> None:
    """Leave out initial states that are zero, ONNX' default, and with them half a dozen operators that make them."""

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
            kept = [*node.input[: _INITIAL_STATES.start], *states, *node.input[_INITIAL_STATES.stop :]]
            while kept and not kept[-1]:
                kept.pop()
            del node.input[:]
            node.input.extend(kept)


def _in_order_of_need(outputs: list[str], producers: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that the outputs need, each after those it needs, inputs from first to last."""
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


def _rewrite(node: Any, names: dict[str, str], label: str) -> Any:
    made = helper.make_node(node.op_type, [names[name] for name in node.input], [names[name] for name in node.output], label)
    for attribute in sorted(node.attribute, key=lambda attribute: str(attribute.name)):
        made.attribute.add().CopyFrom(attribute)
    made.domain = node.domain
    return made


def _name_outputs(nodes: list[Any], names: dict[str, str]) -> None:
    for node in nodes:
        for edges in (node.input, node.output):
            for index, edge in enumerate(edges):
                edges[index] = names.get(edge, edge)
