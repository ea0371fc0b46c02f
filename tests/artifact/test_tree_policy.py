"""The policy on trees: numbers that the runtime would follow out of its arrays, in circles or for ever are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mods_grpc.artifact import check_graph, graph_policy, tree_policy
from mods_grpc.errors import ArtifactError

# Two trees: a root with a leaf and a branch of two leaves, and a single leaf.
TREES = {
    "n_targets": 2,
    "nodes_treeids": [0, 0, 0, 0, 0, 1],
    "nodes_nodeids": [0, 1, 2, 3, 4, 0],
    "nodes_featureids": [1, 0, 0, 0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, -1.0, 0.0, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 3, 0, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0, 0],
    "target_treeids": [0, 0, 0, 0, 1],
    "target_nodeids": [1, 1, 3, 4, 0],
    "target_ids": [0, 1, 0, 1, 1],
    "target_weights": [1.0, 2.0, 3.0, 4.0, 0.25],
}


def tree_model(version=3, count=1, **changes):
    attributes = {name: value for name, value in {**TREES, **changes}.items() if value is not None}
    nodes = []
    for index in range(count):
        node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y" if index == 0 else f"z{index}"], domain="ai.onnx.ml")
        for name, value in attributes.items():
            kind = onnx.AttributeProto.INTS if value == [] else None
            node.attribute.append(
                value if isinstance(value, onnx.AttributeProto) else helper.make_attribute(name, value, attr_type=kind)
            )
        nodes.append(node)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "trees", infos[:1], infos[1:])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def open_model(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def refusal(model):
    with pytest.raises(ArtifactError) as caught:
        check_graph(model.SerializeToString())
    return caught.value.message.removeprefix("model.onnx: ").removeprefix("TreeEnsembleRegressor ")


def changed(name, index, value):
    values = list(TREES[name])
    values[index] = value
    return {name: values}


def test_trees_pass_and_the_runtime_reads_them_as_they_were_checked():
    model = tree_model()
    assert check_graph(model.SerializeToString()).operators == {"TreeEnsembleRegressor": 1}
    session = open_model(model.SerializeToString())
    inputs = np.array([[0, 0.5], [-1, 1], [0, 1]], np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": inputs})[0], [[1, 2.25], [3, 0.25], [0, 4.25]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (changed("nodes_truenodeids", 2, 0), "has a node whose child is not a later node of its tree"),
        (changed("nodes_truenodeids", 2, 2), "has a node whose child is not a later node of its tree"),
        (changed("nodes_falsenodeids", 2, 5), "has a node whose child is not a later node of its tree"),
        (changed("nodes_falsenodeids", 2, 3), "has a node that is the child of none or of two"),
        (changed("nodes_truenodeids", 0, 3), "has a node that is the child of none or of two"),
        (changed("nodes_truenodeids", 0, -1), "has a number out of range"),
        (changed("nodes_featureids", 0, -1), "has a number out of range"),
        (changed("nodes_featureids", 0, 2**20), "has a number out of range"),
        (changed("nodes_featureids", 0, 2**40), "has a number out of range"),
        (changed("nodes_nodeids", 1, 2), "has trees or nodes that are not numbered in order"),
        (changed("nodes_treeids", 5, 2), "has trees or nodes that are not numbered in order"),
        (changed("nodes_treeids", 0, 1), "has trees or nodes that are not numbered in order"),
        (changed("nodes_modes", 0, "BRANCH_LT"), "has a node that is neither BRANCH_LEQ nor LEAF"),
        (changed("nodes_modes", 0, "BRANCH_MEMBER"), "has a node that is neither BRANCH_LEQ nor LEAF"),
        (changed("nodes_modes", 0, "LEAF"), "has a node that is the child of none or of two"),
        (changed("nodes_values", 0, float("nan")), "has thresholds or weights that are not finite, or too few"),
        (changed("nodes_values", 0, float("inf")), "has thresholds or weights that are not finite, or too few"),
        (changed("target_weights", 0, float("nan")), "has thresholds or weights that are not finite, or too few"),
        (changed("target_nodeids", 0, 0), "has weights that are not those of its leaves, in order"),
        (changed("target_nodeids", 0, 9), "has weights that are not those of its leaves, in order"),
        (changed("target_treeids", 4, 2), "has weights that are not those of its leaves, in order"),
        (changed("target_ids", 1, 0), "has weights that are not those of its leaves, in order"),
        (changed("target_ids", 4, 2), "has a number of targets out of range"),
        (changed("target_ids", 0, -1), "has a number out of range"),
        ({"n_targets": 0}, "has a number of targets out of range"),
        ({"n_targets": 2**20}, "has a number of targets out of range"),
        ({"n_targets": -1}, "has a number out of range"),
        ({"n_targets": None}, "has no n_targets"),
        ({"nodes_values": None}, "has no nodes_values"),
        ({"nodes_values": [0.5]}, "has thresholds or weights that are not finite, or too few"),
        ({"nodes_nodeids": [0]}, "has attributes of different length"),
        ({"nodes_modes": ["LEAF"]}, "has attributes of different length"),
        ({"target_ids": [0]}, "has attributes of different length"),
        ({"aggregate_function": "MAX"}, "has another aggregate_function than SUM"),
        ({"post_transform": "PROBIT"}, "has another post_transform than NONE"),
        ({"n_targets": 2.0}, "has an attribute with other data"),
        ({"n_targets": [2]}, "has an attribute twice, of another type or that is not allowed"),
        ({"nodes_hitrates": [1.0] * 6}, "has an attribute twice, of another type or that is not allowed"),
        ({"nodes_missing_value_tracks_true": [1] * 6}, "has an attribute twice, of another type or that is not allowed"),
        ({"base_values": [1.0, 1.0]}, "has an attribute twice, of another type or that is not allowed"),
        ({"values": helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])}, "has an attribute with other data"),
        ({"graph": helper.make_graph([], "inner", [], [])}, "has an attribute with other data"),
    ],
)
def test_what_is_no_forest_is_refused(changes, reason):
    assert refusal(tree_model(**changes)) == reason


def test_an_attribute_twice_is_refused_because_readers_may_take_either():
    again = helper.make_attribute("nodes_featureids", [0] * 6)
    assert "twice" in refusal(tree_model(again=again))


def test_values_of_another_type_than_the_attribute_names_are_refused():
    mixed = helper.make_attribute("nodes_featureids", TREES["nodes_featureids"])
    mixed.floats.extend([1.0])
    assert refusal(tree_model(nodes_featureids=mixed)) == "has an attribute with values of two types"
    disguised = helper.make_attribute("nodes_featureids", TREES["nodes_featureids"])
    disguised.type = onnx.AttributeProto.FLOATS
    assert refusal(tree_model(nodes_featureids=disguised)) == "has an attribute with values of two types"


def test_other_operators_and_versions_of_the_domain_are_refused():
    for operator in ("TreeEnsembleClassifier", "TreeEnsemble", "SVMRegressor", "LinearRegressor"):
        model = tree_model()
        model.graph.node[0].op_type = operator
        assert refusal(model) == f"operator {operator} is not allowed"
    model = tree_model()
    model.graph.node[0].domain = ""
    assert refusal(model) == "operator TreeEnsembleRegressor is not allowed"
    for version in (1, 2, 4, 5):
        assert refusal(tree_model(version=version)) == "imports an operator domain that is not allowed"


def test_packed_numbers_and_numbers_in_any_order_of_fields_are_read_as_the_runtime_reads_them():
    """The order of fields and the packing are the writer's choice; what is checked must be what the runtime reads."""
    model = tree_model().SerializeToString()
    ids = helper.make_attribute("nodes_featureids", TREES["nodes_featureids"]).SerializeToString()
    name = b"\x0a\x10nodes_featureids"
    packed = name + b"\x42\x06\x01\x00\x00\x00\x00\x00" + b"\xa0\x01\x07"
    assert ids.startswith(name)
    assert len(packed) < len(ids)
    behind = ids.removeprefix(name) + name
    split = name + ids.removeprefix(name)[:4] + b"\x42\x04\x00\x00\x00\x00" + b"\xa0\x01\x07"
    for other in (packed, behind, split):
        changed_model = onnx.load_model_from_string(model)
        (node,) = changed_model.graph.node
        (at,) = (index for index, attribute in enumerate(node.attribute) if attribute.name == "nodes_featureids")
        assert list(onnx.AttributeProto.FromString(other).ints) == TREES["nodes_featureids"]
        plain = [attribute.SerializeToString() for attribute in node.attribute]
        plain[at] = other
        assert tree_policy.check_trees(plain, graph_policy._fields) == 11
    wrong = name + b"\x42\x06\x01\x00\x00\xff\x7f\x00" + b"\xa0\x01\x07"
    with pytest.raises(ArtifactError):
        tree_policy.check_trees([*plain[:at], wrong, *plain[at + 1 :]], graph_policy._fields)


def chain(depth):
    """A tree of which every branch has a leaf on one side."""
    nodes = 2 * depth + 1
    branches = np.arange(nodes) % 2 == 0
    branches[-1] = False
    leaves = np.flatnonzero(~branches)
    ids = np.arange(nodes)
    return {
        "nodes_treeids": [0] * nodes,
        "nodes_nodeids": ids.tolist(),
        "nodes_featureids": [0] * nodes,
        "nodes_modes": ["BRANCH_LEQ" if branch else "LEAF" for branch in branches],
        "nodes_values": [0.0] * nodes,
        "nodes_truenodeids": np.where(branches, ids + 1, 0).tolist(),
        "nodes_falsenodeids": np.where(branches, ids + 2, 0).tolist(),
        "target_treeids": [0] * len(leaves),
        "target_nodeids": leaves.tolist(),
        "target_ids": [0] * len(leaves),
        "target_weights": [1.0] * len(leaves),
    }


def test_the_depth_of_trees_is_bounded():
    check_graph(tree_model(**chain(tree_policy.MAX_TREE_DEPTH)).SerializeToString())
    assert refusal(tree_model(**chain(tree_policy.MAX_TREE_DEPTH + 1))) == f"has a tree deeper than {tree_policy.MAX_TREE_DEPTH}"


def test_the_nodes_of_all_trees_of_a_graph_are_bounded(monkeypatch):
    monkeypatch.setattr("mods_grpc.artifact.graph_policy.MAX_TREE_VALUES", 22)
    check_graph(tree_model(count=2).SerializeToString())
    assert refusal(tree_model(count=3)) == "holds trees of more than 22 nodes and weights"
    monkeypatch.setattr(tree_policy, "MAX_TREE_VALUES", 5)
    assert refusal(tree_model()) == "has more than 5 nodes or weights"


def test_the_runtime_refuses_a_number_of_an_input_that_there_is_none_of():
    model = tree_model(**changed("nodes_featureids", 0, 2**20 - 1)).SerializeToString()
    check_graph(model)
    session = open_model(model)
    with pytest.raises(Exception, match="feature"):
        session.run(None, {"x": np.zeros((1, 2), np.float32)})


NUMBERS = st.integers(-3, 8) | st.sampled_from([2**31 - 1, 2**31, 2**32 + 1, -(2**63), 2**63 - 1])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_attributes_raise_nothing_but_our_error_and_what_passes_is_run(data):
    changes = {}
    for name in data.draw(st.sets(st.sampled_from(sorted(TREES)), min_size=1, max_size=3)):
        values = TREES[name]
        if isinstance(values, int):
            changes[name] = data.draw(NUMBERS)
            continue
        values = list(values)
        draw = {int: NUMBERS, float: st.floats(width=32), str: st.sampled_from(["LEAF", "BRANCH_LEQ", "BRANCH_EQ", ""])}
        for _ in range(data.draw(st.integers(1, 3))):
            values[data.draw(st.integers(0, len(values) - 1))] = data.draw(draw[type(values[0])])
        changes[name] = values[: data.draw(st.integers(1, len(values)))] if data.draw(st.booleans()) else values
    model = tree_model(**changes)
    try:
        check_graph(model.SerializeToString())
    except ArtifactError:
        return
    session = open_model(model.SerializeToString())
    inputs = {"x": np.zeros((3, 2), np.float32)}
    inputs_of_branches = [changes.get("nodes_featureids", [0] * 6)[node] for node in (0, 2)]
    if max(inputs_of_branches) > 1:
        with pytest.raises(Exception, match="feature"):
            session.run(None, inputs)
    else:
        assert session.run(None, inputs)[0].shape[0] == 3
