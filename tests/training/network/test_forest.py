"""Trees decide and sum alike in LightGBM, in numpy and in the exported operator, to the bit."""

from dataclasses import replace

import lightgbm
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mods_grpc.artifact import check_graph
from mods_grpc.errors import DataError
from training.export.tree_operator import tree_attributes
from training.fitting.trees.boosting import _read_tree, allocate_trees
from training.network.forest import (
    Forest,
    check_forest,
    evaluate_forest,
    join_forests,
    make_stumps,
    round_leaves,
    round_thresholds,
)

INPUTS, STEPS, FEATURES = 7, 3, 2


def random_tree(random, leaves, target):
    left, right, open_leaves = [0], [0], [0]
    while len(open_leaves) < leaves:
        node = open_leaves.pop(int(random.integers(len(open_leaves))))
        left[node], right[node] = len(left), len(left) + 1
        open_leaves += [left[node], right[node]]
        left += [left[node], right[node]]
        right += [right[node] - 1, right[node]]
    left, right = np.array(left), np.array(right)
    leaf = left == np.arange(len(left))
    return Forest(
        feature=np.where(leaf, 0, random.integers(0, INPUTS, len(left))),
        threshold=np.where(leaf, 0, random.normal(size=len(left))).astype(np.float32),
        left=left,
        right=right,
        value=np.where(leaf[:, None], random.normal(size=(len(left), STEPS)), 0.0),
        root=np.zeros(1, np.int64),
        target=np.array([target]),
    )


def random_forest(trees=90, seed=1):
    random = np.random.default_rng(seed)
    forest = join_forests([random_tree(random, int(random.integers(1, 20)), tree % FEATURES) for tree in range(trees)])
    return replace(forest, value=round_leaves(forest.value, forest.root, forest.target))


def open_operator(forest, threads=1):
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **tree_attributes(forest, FEATURES))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in (("x", INPUTS), ("y", None)))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=imports, ir_version=8).SerializeToString()
    assert check_graph(model).operators == {"TreeEnsembleRegressor": 1}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_operator_gives_the_same_bits_as_numpy_in_any_batch_and_with_any_threads(threads):
    forest = random_forest()
    session = open_operator(forest, threads)
    inputs = np.random.default_rng(2).normal(size=(300, INPUTS)).astype(np.float32)
    expected = evaluate_forest(inputs, FEATURES, forest).reshape(300, -1)
    np.testing.assert_array_equal(session.run(None, {"x": inputs})[0], expected)
    alone = np.concatenate([session.run(None, {"x": inputs[row : row + 1]})[0] for row in range(20)])
    np.testing.assert_array_equal(alone, expected[:20])


def test_the_order_of_trees_does_not_change_a_bit():
    random = np.random.default_rng(5)
    trees = [random_tree(random, 12, 0) for _ in range(200)]
    joined = join_forests(trees)
    value = round_leaves(joined.value, joined.root, joined.target)
    assert np.abs(value - joined.value).max() < 1e-4
    sums = [np.float32(0)] * 2
    leaves = value[joined.is_leaf][:, 0]
    for index, order in enumerate((leaves, leaves[::-1])):
        for leaf in order[:1500]:
            sums[index] += leaf
    assert sums[0] == np.float32(leaves[:1500].astype(np.float64).sum())
    assert sums[1] == np.float32(leaves[::-1][:1500].astype(np.float64).sum())


def test_values_at_a_threshold_and_beside_it_decide_as_in_double():
    random = np.random.default_rng(3)
    thresholds = np.concatenate([random.normal(size=200), random.normal(size=50) * 1e-30, [0.0, 1.0, 0.1, -0.1, 1 / 3, 1e-40]])
    single = round_thresholds(thresholds)
    for shift in (0, 1, -1, 2, -2):
        values = thresholds.astype(np.float32)
        for _ in range(abs(shift)):
            values = np.nextafter(values, np.float32(np.sign(shift) * np.inf))
        np.testing.assert_array_equal(values <= single, values.astype(np.float64) <= thresholds)


def test_a_tree_of_lightgbm_is_read_as_lightgbm_predicts_it_also_at_its_thresholds():
    random = np.random.default_rng(4)
    inputs = np.round(random.normal(size=(2000, INPUTS)), 1).astype(np.float32)  # few values, so that many meet a threshold
    target = inputs[:, 0] * (inputs[:, 1] > 0.3) + np.abs(inputs[:, 2])
    parameters = {
        "num_leaves": 25,
        "verbose": -1,
        "use_missing": False,
        "num_threads": 1,
        "learning_rate": 1.0,
        "objective": "l1",
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(inputs, target), num_boost_round=3)
    tree = _read_tree(booster, 1, np.arange(INPUTS), 1)
    thresholds = tree.threshold[~tree.is_leaf]
    assert len(thresholds) == 24
    at = np.zeros((3 * 24, INPUTS), np.float32)
    for row, (feature, threshold) in enumerate(zip(tree.feature[~tree.is_leaf], thresholds, strict=True)):
        at[3 * row : 3 * row + 3, feature] = (
            threshold,
            np.nextafter(threshold, np.float32(9)),
            np.nextafter(threshold, np.float32(-9)),
        )
    rows = np.concatenate([inputs, at])
    leaves = booster.predict(rows, start_iteration=1, num_iteration=1, pred_leaf=True).ravel()
    values = booster.predict(rows, start_iteration=1, num_iteration=1, raw_score=True)
    numbered = replace(tree, value=np.arange(len(tree.feature), dtype=np.float32)[:, np.newaxis])
    ours = evaluate_forest(rows, 1, numbered)[:, 0, 0]
    assert len(np.unique(ours)) == len(np.unique(leaves)) == 25
    pairs = np.unique(np.stack([ours, leaves, values], axis=1), axis=0)
    assert len(pairs) == 25  # each of our leaves is one of theirs


@pytest.mark.parametrize(
    "broken",
    [
        {"feature": np.full(9, INPUTS)},
        {"left": np.arange(9) - 1},
        {"right": np.arange(9) + 9},
        {"threshold": np.full(9, np.nan, np.float32)},
        {"root": np.array([3, 0, 6])},
        {"target": np.array([0, 1, 2])},
        {"value": np.zeros((9, 2), np.float32)},
        {"value": np.zeros((8, STEPS), np.float32)},
    ],
)
def test_arrays_that_form_no_trees_are_refused(broken):
    forest = make_stumps(1, STEPS, FEATURES)
    check_forest(forest, 1, STEPS, FEATURES)
    with pytest.raises(DataError, match="no trees"):
        check_forest(replace(forest, **broken), 1, STEPS, FEATURES)


def test_trees_go_where_they_help_most_and_no_feature_is_left_without():
    slow, fast = 0.99 ** np.arange(1, 101), 0.9 ** np.arange(1, 101)
    flat = np.concatenate([[0.5], np.full(40, 0.6)])
    assert allocate_trees([slow, fast, flat], 1000) == [100, 100, 1]
    lengths = allocate_trees([slow, fast, flat], 111)
    assert sum(lengths) == 111
    assert lengths[1] == 100
    assert allocate_trees([slow, slow], 1) == [1, 1]
