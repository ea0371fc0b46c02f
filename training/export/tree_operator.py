"""The conversion of forests: from the Python function that Keras calls to the operator TreeEnsembleRegressor of ONNX."""

from typing import Any

import numpy as np

from mods_grpc.artifact.tree_policy import TREE_DOMAIN, TREE_OPERATOR
from training.network.forest import Forest

PYTHON_FUNCTIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
"""Operators of TensorFlow that call Python. Forests are the only use of them in a model."""


def convert_forest(context: Any, node: Any, name: str, args: Any) -> None:
    """Convert a call of `tree_layers.ForestLayer` into a TreeEnsembleRegressor; a custom handler of tf2onnx."""
    del name, args
    inputs = node.input[0]
    features, *arrays = (source.get_tensor_value(as_list=False) for source in node.inputs[1:])
    forest = Forest(**dict(zip(Forest.__dataclass_fields__, arrays, strict=True)))
    shapes, kinds, results = node.output_shapes, node.output_dtypes, list(node.output)
    context.remove_node(node.name)
    context.make_node(
        TREE_OPERATOR,
        [inputs],
        outputs=results,
        domain=TREE_DOMAIN,
        attr=tree_attributes(forest, int(features)),
        shapes=shapes,
        dtypes=kinds,
    )


def tree_attributes(forest: Forest, features: int) -> dict[str, Any]:
    """Return the attributes of a TreeEnsembleRegressor, in which nodes are numbered from 0 in each tree.

    Its targets are the features of the first step, then of the second, and so on.
    """
    steps = forest.value.shape[1]
    nodes = len(forest.feature)
    sizes = np.diff(np.append(forest.root, nodes))
    trees, starts = np.repeat(np.arange(len(sizes)), sizes), np.repeat(forest.root, sizes)
    leaf = forest.is_leaf
    numbers = np.arange(nodes) - starts
    targets = np.arange(steps) * features + np.repeat(forest.target, sizes)[leaf][:, np.newaxis]
    return {
        "n_targets": steps * features,
        "nodes_treeids": trees.tolist(),
        "nodes_nodeids": numbers.tolist(),
        "nodes_featureids": forest.feature.tolist(),
        "nodes_modes": ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf.tolist()],
        "nodes_values": forest.threshold.tolist(),
        "nodes_truenodeids": np.where(leaf, 0, forest.left - starts).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, forest.right - starts).tolist(),
        "target_treeids": np.repeat(trees[leaf], steps).tolist(),
        "target_nodeids": np.repeat(numbers[leaf], steps).tolist(),
        "target_ids": targets.ravel().tolist(),
        "target_weights": forest.value[leaf].ravel().tolist(),
    }
