"""The policy on graphs: nothing that loops, branches, carries code or reaches outside is loaded, however it is hidden."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import check_graph
from mods_grpc.errors import ArtifactError
from tests.support.models.tiny import make_mean_graph

TINY = make_mean_graph().SerializeToString()
EXTERNAL = {"location": "../../etc/passwd"}


def refusal(model):
    with pytest.raises(ArtifactError) as caught:
        check_graph(model if isinstance(model, bytes) else model.SerializeToString())
    assert caught.value.message.startswith("model.onnx: ")
    return caught.value.message.removeprefix("model.onnx: ")


def with_node(*arguments, **attributes):
    model = make_mean_graph()
    model.graph.node.append(helper.make_node(*arguments, **attributes))
    return model


def inner_graph():
    value = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1])
    return helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [value], [value])


def external(tensor, location=True, entries=True):
    if location:
        tensor.data_location = TensorProto.EXTERNAL
    for key, value in EXTERNAL.items() if entries else ():
        tensor.external_data.add(key=key, value=value)
    return tensor


def vector(name="v"):
    return numpy_helper.from_array(np.arange(4.0), name)


def sparse():
    indices = numpy_helper.from_array(np.array([0, 2], np.int64), "indices")
    return helper.make_sparse_tensor(numpy_helper.from_array(np.ones(2), "values"), indices, [4])


def test_the_tiny_graph_passes_and_is_summed_up():
    summary = check_graph(TINY)
    assert summary.operators == {"Concat": 1, "Mul": 1, "ReduceMean": 1}
    assert summary.opset == 18


BRANCHES = {
    "Loop": {"body": inner_graph()},
    "Scan": {"body": inner_graph(), "num_scan_inputs": 1},
    "If": {"then_branch": inner_graph(), "else_branch": inner_graph()},
}


@pytest.mark.parametrize("operator", BRANCHES)
def test_what_loops_or_branches_is_refused(operator):
    assert refusal(with_node(operator, ["scaled"], ["x"], **BRANCHES[operator])) == "holds a nested graph (Loop, Scan or If)"
    assert refusal(with_node(operator, ["scaled"], ["x"])) == f"operator {operator} is not allowed"


@pytest.mark.parametrize("attributes", [{"body": inner_graph()}, {"bodies": [inner_graph()]}], ids=["graph", "list of graphs"])
def test_a_graph_hidden_in_an_attribute_of_an_allowed_operator_is_refused(attributes):
    assert refusal(with_node("Identity", ["scaled"], ["x"], **attributes)) == "holds a nested graph (Loop, Scan or If)"


@pytest.mark.parametrize("operator", ["PyOp", "SequenceMap", "StringNormalizer", "RandomNormal", "Optional", "lstm", ""])
def test_operators_outside_the_list_are_refused_by_name(operator):
    assert refusal(with_node(operator, ["scaled"], ["x"])).endswith("is not allowed")


def test_an_odd_operator_name_is_not_repeated():
    for name in ("a\x1b[31m", "x" * 41, "Loop\n"):
        assert refusal(with_node(name, ["scaled"], ["x"])) == "operator with an odd name is not allowed"


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "ai.onnx.training", "custom"])
def test_another_domain_is_refused_on_the_node_and_in_the_imports(domain):
    assert refusal(with_node("Identity", ["scaled"], ["x"], domain=domain)) == "operator Identity is not allowed"
    model = make_mean_graph()
    model.opset_import.add(domain=domain, version=1)
    assert refusal(model) == "imports an operator domain that is not allowed"


@pytest.mark.parametrize(("location", "entries"), [(True, True), (True, False), (False, True)])
def test_data_outside_the_file_is_refused_wherever_a_tensor_can_stand(location, entries):
    initializer = make_mean_graph()
    external(initializer.graph.initializer[1], location, entries)
    constant = with_node("Constant", [], ["x"], value=external(vector(), location, entries))
    listed = with_node("Identity", ["scaled"], ["x"], values=[vector(), external(vector(), location, entries)])
    for model in (initializer, constant, listed):
        assert refusal(model) == "refers to external data"


def test_a_location_that_only_some_readers_take_for_external_is_refused():
    initializer = make_mean_graph()
    tensor = initializer.graph.initializer[1].SerializeToString() + b"\x70" + varint(2**32 + 1)
    del initializer.graph.initializer[1]
    model = initializer.SerializeToString() + field(7, field(5, tensor))  # graphs given twice are merged
    assert refusal(model) == "refers to external data"


def test_functions_and_training_information_are_refused():
    model = make_mean_graph()
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("local", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 18)]))
    assert refusal(model) == "holds training information or functions"
    model = make_mean_graph()
    model.training_info.add()
    assert refusal(model) == "holds training information or functions"


def test_sparse_data_is_refused_as_an_initializer_and_as_an_attribute():
    model = make_mean_graph()
    model.graph.sparse_initializer.append(sparse())
    assert refusal(model) == "holds sparse data"
    assert refusal(with_node("Constant", [], ["x"], sparse_value=sparse())) == "holds sparse data"
    assert refusal(with_node("Identity", ["scaled"], ["x"], many=[sparse()])) == "holds sparse data"


@pytest.mark.parametrize("opset", [17, 19, 22])
def test_another_opset_is_refused(opset):
    assert refusal(TINY + field(8, b"\x10" + varint(opset))) == (
        f"uses opset {', '.join(map(str, sorted({18, opset})))}, expected 18"
    )
    model = make_mean_graph()
    model.opset_import[0].version = opset
    assert refusal(model) == f"uses opset {opset}, expected 18"


def test_no_opset_is_refused():
    model = make_mean_graph()
    del model.opset_import[:]
    assert refusal(model) == "uses opset none, expected 18"


NO_MODELS = {
    "nothing": (b"", "holds no graph, or more than one"),
    "no graph": (onnx.ModelProto(ir_version=10).SerializeToString(), "holds no graph, or more than one"),
    "an empty graph": (onnx.ModelProto(graph=onnx.GraphProto()).SerializeToString(), "holds no graph, or more than one"),
    "text": (b"import os\n", "not a valid ONNX file"),
    "a zip": (b"PK\x03\x04" + bytes(60), "not a valid ONNX file"),
    "zeros": (bytes(100), "not a valid ONNX file"),
    "a varint without end": (b"\xff" * 100, "not a valid ONNX file"),
    "a group": (b"\x3b\x3c", "not a valid ONNX file"),
    "an operator that is no text": (b"\x3a\x05\x0a\x03\x22\x01\xff", "not a valid ONNX file"),
}


@pytest.mark.parametrize("case", NO_MODELS)
def test_what_is_no_model_is_refused(case):
    data, message = NO_MODELS[case]
    assert refusal(data) == message


def varint(number):
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + varint(number >> 7)


def field(number, data, above=0):
    """A length-delimited field; `above` sets bits of the key that a reader of 32-bit keys drops."""
    return varint(number << 3 | 2 | above) + varint(len(data)) + data


def test_two_graphs_are_refused_because_readers_merge_them():
    graph = with_node("Loop", ["scaled"], ["x"], body=inner_graph()).graph.SerializeToString()
    assert refusal(TINY + field(7, make_mean_graph().graph.SerializeToString())) == "holds no graph, or more than one"
    assert "nested graph" in refusal(TINY + field(7, graph))


def test_a_field_behind_a_key_of_more_than_32_bits_is_refused_because_the_runtime_reads_it():
    node = helper.make_node("Loop", ["scaled"], ["x"], body=inner_graph()).SerializeToString()
    for key in (1 << 32, 1 << 34, 1 << 40):
        hidden = field(1, node, above=key)
        assert refusal(TINY + field(7, hidden, above=key)) == "not a valid ONNX file"
        assert refusal(TINY + field(25, hidden, above=key)) == "not a valid ONNX file"
        model = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 18)]).SerializeToString()
        graph = make_mean_graph().graph.SerializeToString() + hidden
        assert refusal(model + field(7, graph)) == "not a valid ONNX file"


@pytest.mark.parametrize("length", range(0, len(TINY), 3))
def test_a_truncated_model_is_refused_or_still_a_whole_message(length):
    data = TINY[:length]
    try:
        check_graph(data)
    except ArtifactError:
        return
    assert onnx.load_model_from_string(data).graph.node


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_our_error(data):
    with pytest.raises(ArtifactError):
        check_graph(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_model_raises_nothing_but_our_error_and_never_smuggles_an_operator(data):
    changed = bytearray(TINY)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "delete", "repeat"]))
        if kind == "set":
            changed[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        elif kind == "delete":
            del changed[at : at + data.draw(st.integers(1, 8))]
        else:
            changed[at:at] = changed[at : at + 40]
    try:
        summary = check_graph(bytes(changed))
    except ArtifactError:
        return
    try:
        read = onnx.load_model_from_string(bytes(changed))
    except Exception:  # the strict reader may refuse more than we do; what it reads must be what was checked
        return
    assert sorted({node.op_type for node in read.graph.node}) == sorted(summary.operators)
