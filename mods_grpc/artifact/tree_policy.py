"""The policy on trees: what a TreeEnsembleRegressor of a graph may hold, checked on its attributes as they are serialized.

The runtime follows the numbers of these attributes from node to node, so they must form trees: nodes in the order of their trees,
children after their parent and each the child of one, leaves at the ends, weights at the leaves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Integers
from mods_grpc.errors import ArtifactError
from mods_grpc.protobuf.wire import read_varint

TREE_OPERATOR = "TreeEnsembleRegressor"
TREE_DOMAIN = "ai.onnx.ml"
TREE_DOMAIN_VERSION = 3

MAX_TREE_VALUES = 2**19
"""Bound of the nodes of all trees of a graph together with the weights at their leaves: some 12 MiB of attributes."""
MAX_TREE_DEPTH = 256
MAX_TREE_TARGETS = 4096
MAX_TREE_INPUTS = 2**20  # the runtime refuses a number of an input that there is none of

_INT, _STRING, _FLOATS, _INTS, _STRINGS = 2, 3, 6, 7, 8  # AttributeProto.type
_VALUE_FIELDS = {_INT: 3, _STRING: 4, _FLOATS: 7, _INTS: 8, _STRINGS: 9}
_NODE_NUMBERS = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
_TARGET_NUMBERS = ("target_treeids", "target_nodeids", "target_ids")
_TYPES: Mapping[str, int] = {
    **dict.fromkeys((*_NODE_NUMBERS, *_TARGET_NUMBERS), _INTS),
    "nodes_modes": _STRINGS,
    "nodes_values": _FLOATS,
    "target_weights": _FLOATS,
    "n_targets": _INT,
    "aggregate_function": _STRING,
    "post_transform": _STRING,
}
_OPTIONAL = {"aggregate_function": b"SUM", "post_transform": b"NONE"}
"""Attributes that may be absent, with their default, which is the only value allowed."""

_BRANCH, _LEAF = b"BRANCH_LEQ", b"LEAF"


@dataclass(slots=True)
class _Attribute:
    name: str = ""
    kind: int = 0
    values: list[int | bytes] | None = None


def check_trees(attributes: Iterable[Iterable[tuple[int, int | bytes]]]) -> int:
    """Check the attributes of a TreeEnsembleRegressor, each as the fields of its message.

    Returns:
        The number of its nodes and weights.

    Raises:
        ArtifactError: An attribute that is not allowed, is absent or of another type or length, numbers that don't form trees,
            more values than MAX_TREE_VALUES, or values that are not finite.
        ValueError: An attribute is not what the protobuf message says.
        IndexError: An attribute ends too early.
    """
    values: dict[str, list[int | bytes]] = {}
    for fields in attributes:
        attribute = _read_attribute(fields)
        if attribute.name in values or _TYPES.get(attribute.name) != attribute.kind:
            raise ArtifactError(f"{TREE_OPERATOR} has an attribute twice, of another type or that is not allowed")
        values[attribute.name] = attribute.values or []
    if missing := sorted(_TYPES.keys() - values.keys() - _OPTIONAL.keys()):
        raise ArtifactError(f"{TREE_OPERATOR} has no {missing[0]}")
    for name, only in _OPTIONAL.items():
        if values.get(name, [only]) != [only]:
            raise ArtifactError(f"{TREE_OPERATOR} has another {name} than {only.decode()}")
    numbers = {name: _numbers(values[name]) for name in (*_NODE_NUMBERS, *_TARGET_NUMBERS, "n_targets")}
    nodes = len(numbers["nodes_treeids"])
    modes = values["nodes_modes"]
    if not nodes or {len(numbers[name]) for name in _NODE_NUMBERS} != {nodes} or len(modes) != nodes:
        raise ArtifactError(f"{TREE_OPERATOR} has attributes of different length")
    if set(modes) - {_BRANCH, _LEAF}:
        raise ArtifactError(f"{TREE_OPERATOR} has a node that is neither BRANCH_LEQ nor LEAF")
    _check_finite(values["nodes_values"], nodes)
    leaves = np.array([mode == _LEAF for mode in modes])
    _check_structure(numbers, leaves)
    _check_targets(numbers, leaves, values["target_weights"])
    return nodes + len(values["target_weights"])


def _read_attribute(fields: Iterable[tuple[int, int | bytes]]) -> _Attribute:
    attribute = _Attribute()
    by_field: dict[int, list[int | bytes]] = {}
    size = 0
    for field, value in fields:
        if field == 1 and isinstance(value, bytes):
            attribute.name = value.decode()
        elif field == 20 and isinstance(value, int):
            attribute.kind = value
        elif field in (3, 4, 7, 8, 9):
            values = _unpack(field, value)
            by_field.setdefault(field, []).extend(values)
            size += len(values)
            if size > MAX_TREE_VALUES:
                raise ArtifactError(f"{TREE_OPERATOR} has more than {MAX_TREE_VALUES} nodes or weights")
        elif field != 13:  # a comment
            raise ArtifactError(f"{TREE_OPERATOR} has an attribute with other data")
    expected = _VALUE_FIELDS.get(attribute.kind)
    if set(by_field) - {expected}:
        raise ArtifactError(f"{TREE_OPERATOR} has an attribute with values of two types")
    attribute.values = by_field.get(expected, []) if expected else []
    if expected in (3, 4):
        attribute.values = attribute.values[-1:]  # of a field that may stand once, readers take the last
    return attribute


def _unpack(field: int, value: int | bytes) -> list[int | bytes]:
    """Return the values that a field holds; repeated numbers may be packed into one field."""
    if field in (3, 8) and isinstance(value, int):
        return [value]
    if field in (4, 9) and isinstance(value, bytes):
        return [value]
    if field == 7 and isinstance(value, bytes) and len(value) % 4 == 0:
        return [value[at : at + 4] for at in range(0, len(value), 4)]
    if field == 8 and isinstance(value, bytes):
        numbers: list[int | bytes] = []
        position = 0
        while position < len(value):
            number, position = read_varint(value, position)
            numbers.append(number)
        return numbers
    raise ArtifactError(f"{TREE_OPERATOR} has an attribute with other data")


def _numbers(values: list[int | bytes]) -> Integers:
    """Return numbers as an array. Negative ones are above every bound here, as in the encoding."""
    if any(not isinstance(value, int) or value >= 2**31 for value in values):
        raise ArtifactError(f"{TREE_OPERATOR} has a number out of range")
    return np.array(values, dtype=np.int64)


def _check_finite(values: list[int | bytes], count: int) -> None:
    data = b"".join(value for value in values if isinstance(value, bytes))
    if len(values) != count or not np.isfinite(np.frombuffer(data, dtype="<f4")).all():
        raise ArtifactError(f"{TREE_OPERATOR} has thresholds or weights that are not finite, or too few")


def _check_structure(numbers: Mapping[str, Integers], leaves: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
    trees, ids = numbers["nodes_treeids"], numbers["nodes_nodeids"]
    begins = np.concatenate([[True], np.diff(trees) != 0])
    firsts = np.flatnonzero(begins)
    sizes = np.diff(np.concatenate([firsts, [len(trees)]]))
    in_order = np.arange(len(trees)) - np.repeat(firsts, sizes)
    if not np.array_equal(trees, np.repeat(np.arange(len(firsts)), sizes)) or not np.array_equal(ids, in_order):
        raise ArtifactError(f"{TREE_OPERATOR} has trees or nodes that are not numbered in order")
    if not (numbers["nodes_featureids"] < MAX_TREE_INPUTS).all():
        raise ArtifactError(f"{TREE_OPERATOR} has a number out of range")
    branches = np.flatnonzero(~leaves)
    last = np.repeat(sizes, sizes)[branches]
    children = np.stack([numbers["nodes_truenodeids"][branches], numbers["nodes_falsenodeids"][branches]])
    if not ((children > ids[branches]) & (children < last)).all():
        raise ArtifactError(f"{TREE_OPERATOR} has a node whose child is not a later node of its tree")
    at = np.sort((children + np.repeat(firsts, sizes)[branches]).ravel())
    if not np.array_equal(at, np.flatnonzero(~begins)):
        raise ArtifactError(f"{TREE_OPERATOR} has a node that is the child of none or of two")
    depth = [0] * len(trees)
    starts = np.repeat(firsts, sizes)[branches]
    for node, true, false in zip(branches.tolist(), *(children + starts).tolist(), strict=True):
        depth[true] = depth[false] = depth[node] + 1
    if max(depth) > MAX_TREE_DEPTH:
        raise ArtifactError(f"{TREE_OPERATOR} has a tree deeper than {MAX_TREE_DEPTH}")


def _check_targets(
    numbers: Mapping[str, Integers], leaves: "np.ndarray[tuple[int], np.dtype[np.bool_]]", weights: list[int | bytes]
) -> None:
    count = int(numbers["n_targets"][0]) if len(numbers["n_targets"]) == 1 else 0
    if not 1 <= count <= MAX_TREE_TARGETS:
        raise ArtifactError(f"{TREE_OPERATOR} has a number of targets out of range")
    trees, nodes, targets = (numbers[name] for name in _TARGET_NUMBERS)
    if not len(trees) == len(nodes) == len(targets):
        raise ArtifactError(f"{TREE_OPERATOR} has attributes of different length")
    _check_finite(weights, len(trees))
    at = np.flatnonzero(leaves)
    places = numbers["nodes_treeids"][at] * 2**31 + numbers["nodes_nodeids"][at]
    weighted = trees * 2**31 + nodes
    ascending = (np.diff(weighted) > 0) | ((np.diff(weighted) == 0) & (np.diff(targets) > 0))
    if not ascending.all() or not np.array_equal(np.unique(weighted), places):
        raise ArtifactError(f"{TREE_OPERATOR} has weights that are not those of its leaves, in order")
    if not (targets < count).all():
        raise ArtifactError(f"{TREE_OPERATOR} has a number of targets out of range")
