"""A second graph for large batches: checked as the first, and one that can't be told from it in any bit."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import BATCH_MODEL_FILE, MODEL_FILE, read_artifact
from mods_grpc.errors import ArtifactError
from mods_grpc.server.models.versions import VersionState
from mods_grpc.server.onnx.graph_choice import BATCH_SIZES, choose_graph
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.v1 import inference_pb2_grpc
from tests.server.models.test_canary import hungry_graph, load_with_canary
from tests.support.loaded_repository import load_repository, pack_vectors
from tests.support.models.tiny import HORIZON, ROWS, forecast_mean, make_mean_graph, publish_tiny
from tests.support.rpc.client import forecast_request
from tests.support.running_server import channel_to, running_server

WINDOW = np.ones((1, ROWS, 2))
TIMES = np.zeros(1000, np.int64)


def laboured_graph(times=400):
    """The mean, to the last bit, with as many sums of the window as asked for thrown in at no weight."""
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", ROWS, 2])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", HORIZON, 2])
    numbers = [
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
        numpy_helper.from_array(np.array([1, times, 1], np.int64), "times"),
        numpy_helper.from_array(np.array(0.0), "nothing"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["window", "axes"], ["mean"], keepdims=1),
        helper.make_node("Tile", ["window", "times"], ["many"]),
        helper.make_node("ReduceSum", ["many", "axes"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Add", ["mean", "zero"], ["same"]),
        helper.make_node("Concat", ["same"] * HORIZON, ["forecast"], axis=1),
    ]
    graph = helper.make_graph(nodes, "laboured", [window], [forecast], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def session_of(folder, **graphs):
    publish_tiny(folder, **graphs)
    return open_session(read_artifact(folder, "tiny", 1), "cpu")


def test_both_graphs_are_opened_from_the_version(tmp_path):
    session = session_of(tmp_path, batch_model=laboured_graph())
    assert [file for file, _ in session.graphs] == [MODEL_FILE, BATCH_MODEL_FILE]
    windows = np.random.default_rng(1).gamma(2, 2, (700, ROWS, 2))
    for _, graph in session.graphs:
        np.testing.assert_allclose(graph.forecast(windows, TIMES[:700]), forecast_mean(windows), rtol=1e-14)
    assert [file for file, _ in session_of(tmp_path / "other").graphs] == [MODEL_FILE]


def test_the_batch_size_chooses_the_graph(tmp_path):
    doubling = ort.InferenceSession(make_mean_graph(factor=2.0).SerializeToString(), providers=["CPUExecutionProvider"])
    session = replace(session_of(tmp_path), large_graph=doubling, min_large_batch=100)
    windows = np.ones((256, ROWS, 2))
    assert (session.forecast(windows[:99], TIMES[:99]) == 1.0).all()
    assert (session.forecast(windows[:100], TIMES[:100]) == 2.0).all()
    assert (session.forecast(windows, TIMES[:256]) == 2.0).all()


def test_the_second_graph_runs_from_where_it_is_faster(tmp_path):
    chosen = choose_graph(session_of(tmp_path, model=laboured_graph(), batch_model=make_mean_graph()), WINDOW)
    assert chosen.large_graph is not None
    assert chosen.min_large_batch == BATCH_SIZES[0]


def test_a_second_graph_that_is_never_faster_is_dropped(tmp_path):
    chosen = choose_graph(session_of(tmp_path, batch_model=laboured_graph()), WINDOW)
    assert chosen.large_graph is None


def test_a_model_of_one_graph_is_left_as_it_is(tmp_path):
    session = session_of(tmp_path)
    assert choose_graph(session, WINDOW) is session


def rounding_graph():
    """The mean, by way of its third: some of its bits are others."""
    model = make_mean_graph(factor=1 / 3)
    model.graph.initializer.append(numpy_helper.from_array(np.array(3.0), "three"))
    model.graph.node[1].output[0] = "third"
    model.graph.node.insert(2, helper.make_node("Mul", ["third", "three"], ["scaled"]))
    return model


def timed_graph():
    model = make_mean_graph()
    model.graph.input.append(helper.make_tensor_value_info("time", TensorProto.INT64, ["batch"]))
    return model


def forbidden_graph():
    model = make_mean_graph()
    model.graph.node[1].op_type = "NonZero"
    return model


WRONG = {
    "off by more than the tolerance": (lambda: make_mean_graph(factor=1.001), "model.batch.onnx: parity error 0.001 at batch 1"),
    "off by a bit": (
        rounding_graph,
        "model.batch.onnx: forecasts of a batch of 64 are not those of model.onnx in every bit",
    ),
    "not finite": (lambda: make_mean_graph(factor=np.nan), "model.batch.onnx: forecasts of a batch of 1 have another shape or"),
    "of another shape": (lambda: make_mean_graph(rows=5), "model.batch.onnx: expected input window double (batch, 4, 2)"),
    "an operator that is not allowed": (forbidden_graph, "model.batch.onnx: operator NonZero is not allowed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_second_graph_is_refused_while_the_version_before_serves(tmp_path, case):
    make, reason = WRONG[case]
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        publish_tiny(tmp_path, version=2, batch_model=make())
        server.rescan()
        entry = server.app.repository.find("tiny", 2)
        assert (entry.state, entry.loaded) == (VersionState.FAILED, None)
        assert entry.failure.startswith(reason)
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        assert inference.Forecast(forecast_request()).model.version == 1


def test_a_second_graph_that_looks_at_the_time_where_the_first_does_not_is_refused(tmp_path):
    publish_tiny(tmp_path, batch_model=timed_graph())
    artifact = read_artifact(tmp_path, "tiny", 1)
    parity = pack_vectors(window_1=WINDOW, forecast_1=np.ones((1, HORIZON, 2)), time_1=TIMES[:1])
    with pytest.raises(ArtifactError, match="one of the two graphs takes the time and the other does not"):
        open_session(replace(artifact, parity=parity), "cpu")


def test_a_second_graph_that_was_tampered_with_is_refused(tmp_path):
    file = publish_tiny(tmp_path, batch_model=make_mean_graph()) / BATCH_MODEL_FILE
    file.write_bytes(make_mean_graph(factor=2.0).SerializeToString())
    entry = load_repository(tmp_path).find("tiny", 1)
    assert entry.failure == "model.batch.onnx: size or digest differs from the manifest"


def test_a_version_whose_second_graph_was_repaired_is_loaded_again(tmp_path):
    file = publish_tiny(tmp_path, batch_model=make_mean_graph()) / BATCH_MODEL_FILE
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    repository = load_repository(tmp_path)
    assert repository.find("tiny", 1).state is VersionState.FAILED
    file.write_bytes(good)
    repository.scan()
    repository.load_all()
    assert repository.find("tiny", 1).state is VersionState.READY


def test_the_canary_runs_the_second_graph_too(tmp_path):
    publish_tiny(tmp_path, batch_model=make_mean_graph())
    publish_tiny(tmp_path, version=2, batch_model=hungry_graph(12))
    outcomes = load_with_canary(tmp_path)
    assert outcomes[1] == (VersionState.READY, "")
    assert outcomes[2] == (VersionState.FAILED, "canary: needs more than 2048 MiB of memory")
