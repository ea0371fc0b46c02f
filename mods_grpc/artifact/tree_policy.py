"""The policy on trees: what a TreeEnsembleRegressor of a graph may hold, checked on its attributes as they are serialized.

The runtime follows the numbers of these attributes from node to node, so they must form trees: nodes in the order of their trees,
children after their parent and each the child of one, leaves at the ends, weights at the leaves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

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

_NUMBER_KEY, _FLOAT_KEY = 8 << 3, 7 << 3 | 5  # of a field of `ints`, and of one of `floats`
_BRANCH, _LEAF = b"BRANCH_LEQ", b"LEAF"


Fields = Callable[[bytes], Iterator[tuple[int, int | bytes]]]
"""Reads the fields of a protobuf message."""


@dataclass(slots=True)
class _Attribute:
    """An attribute. `count` is the number of its values, of which only those of its own type are filled."""

    name: str = ""
    kind: int = 0
    numbers: list[Integers] = field(default_factory=list)
    floats: list[bytes] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    fields: set[int] = field(default_factory=set)

    @property
    def count(self) -> int:
        return sum(map(len, self.numbers)) + sum(map(len, self.floats)) // 4 + len(self.texts)


def check_trees(attributes: Iterable[bytes], read_fields: Fields) -> int:
    """Check the serialized attributes of a TreeEnsembleRegressor.

    Args:
        attributes: Each a serialized AttributeProto.
        read_fields: Reads the fields of a message.

    Returns:
        The number of its nodes and weights.

    Raises:
        ArtifactError: An attribute that is not allowed, is absent or of another type or length, numbers that don't form trees,
            more values than MAX_TREE_VALUES, or values that are not finite.
        ValueError: An attribute is not what the protobuf message says.
        IndexError: An attribute ends too early.
    """
    by_name: dict[str, _Attribute] = {}
    for data in attributes:
        attribute = _read_attribute(data, read_fields)
        if attribute.name in by_name or _TYPES.get(attribute.name) != attribute.kind:
            raise ArtifactError(f"{TREE_OPERATOR} has an attribute twice, of another type or that is not allowed")
        by_name[attribute.name] = attribute
    if missing := sorted(_TYPES.keys() - by_name.keys() - _OPTIONAL.keys()):
        raise ArtifactError(f"{TREE_OPERATOR} has no {missing[0]}")
    for name, only in _OPTIONAL.items():
        if name in by_name and by_name[name].texts[-1:] != [only]:  # of a field that may stand once, readers take the last
            raise ArtifactError(f"{TREE_OPERATOR} has another {name} than {only.decode()}")
    numbers = {name: _join_numbers(by_name[name]) for name in (*_NODE_NUMBERS, *_TARGET_NUMBERS, "n_targets")}
    nodes = len(numbers["nodes_treeids"])
    modes = by_name["nodes_modes"].texts
    if not nodes or {len(numbers[name]) for name in _NODE_NUMBERS} != {nodes} or len(modes) != nodes:
        raise ArtifactError(f"{TREE_OPERATOR} has attributes of different length")
    if set(modes) - {_BRANCH, _LEAF}:
        raise ArtifactError(f"{TREE_OPERATOR} has a node that is neither BRANCH_LEQ nor LEAF")
    _check_finite(by_name["nodes_values"], nodes)
    leaves = np.array([mode == _LEAF for mode in modes])
    _check_structure(numbers, leaves)
    _check_targets(numbers, leaves, by_name["target_weights"])
    return nodes + by_name["target_weights"].count


def _read_attribute(data: bytes, read_fields: Fields) -> _Attribute:
    attribute = _Attribute()
    if data[:1] == b"\x0a" and len(data) > 1 and data[1] < 0x80:  # the name; then mostly a long run of numbers
        start = 2 + data[1]
        numbers, end = _read_run(data, start)
        if numbers is not None:
            attribute.numbers.append(numbers)
            attribute.fields.add(8)
        elif end > start:
            attribute.floats.append(np.frombuffer(data, np.uint8)[start:end].reshape(-1, 5)[:, 1:].tobytes())
            attribute.fields.add(7)
        data = data[:start] + data[end:]
    for number, value in read_fields(data):
        if number == 1 and isinstance(value, bytes):
            attribute.name = value.decode()
        elif number == 20 and isinstance(value, int):
            attribute.kind = value
        elif number in (3, 4, 7, 8, 9):
            attribute.fields.add(number)
            _append_value(attribute, number, value)
        elif number != 13:  # a comment
            raise ArtifactError(f"{TREE_OPERATOR} has an attribute with other data")
        if len(attribute.texts) + len(attribute.numbers) > MAX_TREE_VALUES:
            raise ArtifactError(f"{TREE_OPERATOR} has more than {MAX_TREE_VALUES} nodes or weights")
    if attribute.fields - {_VALUE_FIELDS.get(attribute.kind)}:
        raise ArtifactError(f"{TREE_OPERATOR} has an attribute with values of two types")
    if attribute.count > MAX_TREE_VALUES:
        raise ArtifactError(f"{TREE_OPERATOR} has more than {MAX_TREE_VALUES} nodes or weights")
    return attribute


def _read_run(data: bytes, start: int) -> tuple[Integers | None, int]:
    """Read a run of fields of one number each from `start`, all at once.

    Returns:
        The numbers, or None if there are none or those of the run are floats; and where the run ends.
    """
    octets = np.frombuffer(data, np.uint8)[start:]
    if not len(octets):
        return None, start
    if octets[0] == _FLOAT_KEY:
        other = np.flatnonzero(octets[: len(octets) // 5 * 5 : 5] != _FLOAT_KEY)
        return None, start + 5 * (int(other[0]) if len(other) else len(octets) // 5)
    if octets[0] != _NUMBER_KEY:
        return None, start
    ends = np.flatnonzero(octets < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    pairs = len(ends) // 2
    other = np.flatnonzero(
        (octets[starts[0 : 2 * pairs : 2]] != _NUMBER_KEY) | (ends[1 : 2 * pairs : 2] - starts[1 : 2 * pairs : 2] > 3)
    )
    pairs = int(other[0]) if len(other) else pairs  # up to a number of more than four bytes, which is read slowly
    if not pairs:
        return None, start
    first, last = starts[1 : 2 * pairs : 2], ends[1 : 2 * pairs : 2]
    numbers = np.zeros(pairs, np.int64)
    for place in range(4):
        at = first + place
        inside = at <= last
        numbers[inside] |= (octets[at[inside]].astype(np.int64) & 0x7F) << (7 * place)
    return numbers, start + int(last[-1]) + 1


def _append_value(attribute: _Attribute, number: int, value: int | bytes) -> None:
    """Append what a field holds; repeated numbers may be packed into one field."""
    if number in (3, 8) and isinstance(value, int):
        attribute.numbers.append(_check_range([value]))
    elif number in (4, 9) and isinstance(value, bytes):
        attribute.texts.append(value)
    elif number == 7 and isinstance(value, bytes) and len(value) % 4 == 0:
        attribute.floats.append(value)
    elif number == 8 and isinstance(value, bytes):
        numbers, position = [], 0
        while position < len(value):
            each, position = read_varint(value, position)
            numbers.append(each)
        attribute.numbers.append(_check_range(numbers))
    else:
        raise ArtifactError(f"{TREE_OPERATOR} has an attribute with other data")


def _check_range(numbers: list[int]) -> Integers:
    """Return numbers as an array. Negative ones are above every bound here, as in the encoding."""
    if any(number >= 2**31 for number in numbers):
        raise ArtifactError(f"{TREE_OPERATOR} has a number out of range")
    return np.array(numbers, dtype=np.int64)


def _join_numbers(attribute: _Attribute) -> Integers:
    if attribute.kind == _INT:
        return attribute.numbers[-1][-1:] if attribute.numbers else np.zeros(0, np.int64)  # the last, as readers take it
    return np.concatenate([np.zeros(0, np.int64), *attribute.numbers])


def _check_finite(attribute: _Attribute, count: int) -> None:
    data = b"".join(attribute.floats)
    if len(data) != 4 * count or not np.isfinite(np.frombuffer(data, dtype="<f4")).all():
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
    numbers: Mapping[str, Integers], leaves: "np.ndarray[tuple[int], np.dtype[np.bool_]]", weights: _Attribute
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
