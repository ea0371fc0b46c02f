"""Regression trees as arrays: how they are evaluated, and how their numbers are rounded so that every runtime gets the same sums.

A runtime may add the leaves of a row in any order and in float32. So leaves are rounded to a grid so fine that it changes nothing
of use, and so coarse that float32 holds every partial sum exactly. Thresholds are float32 that decide as the fitted ones do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Integers, Singles
from mods_grpc.errors import DataError

CHUNK_ROWS = 512
_MANTISSA_BITS = 23  # one bit less than float32 has, for what rounding adds


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """Trees whose leaves are summed. A leaf holds a path of steps ahead, and each tree serves one feature.

    A node goes to `left` if the value of its input is at most its threshold. A leaf is its own child on both sides.

    Attributes:
        feature: `(nodes,)`, number of the input; 0 at a leaf. threshold: `(nodes,)`; 0 at a leaf.
        left, right: `(nodes,)`, numbers of later nodes of the same tree.
        value: `(nodes, steps)`, what a leaf adds; 0 elsewhere. Float64 only until it is rounded.
        root: `(trees,)`, number of the first node of each tree, ascending. The nodes of a tree follow each other.
        target: `(trees,)`, number of the feature.
    """

    feature: Integers
    threshold: Singles
    left: Integers
    right: Integers
    value: Singles | Floats
    root: Integers
    target: Integers

    def arrays(self) -> dict[str, Any]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def is_leaf(self) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Which nodes are leaves, `(nodes,)`."""
        return np.asarray(self.left == np.arange(len(self.left)))

    @property
    def parameters(self) -> int:
        """Number of thresholds and of values of leaves."""
        leaves = int(self.is_leaf.sum())
        return len(self.feature) - leaves + leaves * int(self.value.shape[1])


def evaluate_forest(inputs: Singles, features: int, forest: Forest) -> Singles:
    """Sum the leaves that inputs `(n, inputs)` reach: `(n, steps, features)`."""
    sums = np.zeros((len(inputs), forest.value.shape[1], features))
    for start in range(0, len(inputs), CHUNK_ROWS):
        rows = inputs[start : start + CHUNK_ROWS]
        leaves = find_leaves(rows, forest)
        for feature in range(features):
            reached = forest.value[leaves[:, forest.target == feature]]
            sums[start : start + CHUNK_ROWS, :, feature] = reached.sum(axis=1, dtype=np.float64)
    return sums.astype(np.float32)


def find_leaves(rows: Singles, forest: Forest) -> Integers:
    """Return the numbers of the leaves that inputs `(n, inputs)` reach, `(n, trees)`."""
    at = np.broadcast_to(forest.root, (len(rows), len(forest.root)))
    numbers = np.arange(len(rows))[:, None]
    while True:
        left = rows[numbers, forest.feature[at]] <= forest.threshold[at]
        following = np.where(left, forest.left[at], forest.right[at])
        if np.array_equal(following, at):
            return np.asarray(at)
        at = following


def round_thresholds(thresholds: Floats) -> Singles:
    """Return the largest float32 at or below each threshold: a float32 is at most the one exactly if it is at most the other."""
    single = thresholds.astype(np.float32)
    return np.where(single.astype(np.float64) > thresholds, np.nextafter(single, np.float32(-np.inf)), single)


def round_leaves(values: Floats | Singles, roots: Integers, targets: Integers) -> Singles:
    """Round the leaves of trees to a grid on which float32 holds every sum of them exactly, whatever the order.

    Args:
        values: `(nodes, steps)`, 0 where there is no leaf.
        roots: See `Forest`.
        targets: See `Forest`.
    """
    largest = np.maximum.reduceat(np.abs(values), roots, axis=0)
    reach = np.zeros((int(targets.max()) + 1, values.shape[1]))
    np.add.at(reach, targets, largest)
    grid = np.exp2(np.ceil(np.log2(np.maximum(reach, 1e-30))) - _MANTISSA_BITS)
    step = np.repeat(grid[targets], np.diff(np.append(roots, len(values))), axis=0)
    return np.asarray(np.rint(values / step) * step, dtype=np.float32)


def join_forests(forests: Sequence[Forest]) -> Forest:
    """Join forests into one; their targets must be numbered for it."""
    offsets = np.cumsum([0, *(len(forest.feature) for forest in forests)])[:-1]

    def joined(name: str, *, shift: bool = False) -> Any:
        return np.concatenate([getattr(f, name) + (offset if shift else 0) for f, offset in zip(forests, offsets, strict=True)])

    return Forest(
        feature=joined("feature"),
        threshold=joined("threshold").astype(np.float32),
        left=joined("left", shift=True),
        right=joined("right", shift=True),
        value=joined("value"),
        root=joined("root", shift=True),
        target=joined("target"),
    )


def make_stumps(inputs: int, steps: int, features: int) -> Forest:
    """Make a forest that is not fitted: at every input stumps that split at -1, 0 and 1, for one feature after the other."""
    trees = 3 * inputs
    root = 3 * np.arange(trees)
    feature = np.zeros(3 * trees, np.int64)
    threshold, value = np.zeros(3 * trees), np.zeros((3 * trees, steps))
    feature[root], threshold[root] = np.arange(trees) // 3, np.arange(trees) % 3 - 1
    left, right = np.arange(3 * trees), np.arange(3 * trees)
    left[root], right[root] = root + 1, root + 2
    value[root + 1], value[root + 2] = -0.125, 0.125
    return Forest(
        feature=feature,
        threshold=threshold.astype(np.float32),
        left=left,
        right=right,
        value=value.astype(np.float32),
        root=root,
        target=np.arange(trees) % features,
    )


def check_forest(forest: Forest, inputs: int, steps: int, features: int) -> None:
    """Check that arrays form trees of these numbers of inputs, steps and features.

    Raises:
        DataError: They don't.
    """
    nodes = len(forest.feature)
    lengths = {len(array) for name, array in forest.arrays().items() if name not in ("root", "target")}
    at = np.arange(nodes)
    within = (
        lengths == {nodes}
        and len(forest.root) == len(forest.target)
        and nodes > 0
        and all(array.ndim == (2 if name == "value" else 1) for name, array in forest.arrays().items())
        and forest.value.shape[1] == steps
        and bool(((forest.feature >= 0) & (forest.feature < inputs)).all())
        and bool(((forest.target >= 0) & (forest.target < features)).all())
        and bool(((forest.root >= 0) & (forest.root < nodes)).all())
        and bool((np.diff(forest.root) > 0).all())
        and bool(((forest.left >= at) & (forest.left < nodes) & (forest.right >= at) & (forest.right < nodes)).all())
        and bool(((forest.left == at) == (forest.right == at)).all())
        and bool(np.isfinite(forest.threshold).all() and np.isfinite(forest.value).all())
    )
    if not within:
        raise DataError("the arrays of a forest form no trees")
