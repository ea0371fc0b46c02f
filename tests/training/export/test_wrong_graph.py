"""A fit on sparse features is not refused, and a graph that is wrong by little is: by the export and by the server."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mods_grpc.artifact import MODEL_FILE, Artifact, read_artifact
from mods_grpc.errors import ArtifactError
from mods_grpc.server.onnx.open_session import open_session
from tests.support.training.data import make_sparse, write_table
from training.cli.main import main
from training.export.parity import MAX_PARITY_ERROR, check_parity

pytestmark = pytest.mark.train
MARGIN = 3.0
"""A wrong graph must be further off than this multiple of what is accepted."""

MODELS = {
    "MLP": ["--model-type", "MLP", "--transform", "log1p"],
    "LSTM with quantiles": ["--model-type", "LSTM", "--transform", "log1p", "--quantiles", "0.1,0.5,0.9", "--loss", "pinball"],
    "Conv1D of levels": ["--model-type", "Conv1D", "--no-model-delta"],
}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS.keys())
def artifact(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Artifact:
    folder = tmp_path_factory.mktemp("sparse")
    data = ["--csv", str(write_table(folder / "x.csv", make_sparse(2880))), "--time-column", "time"]
    data += ["--features", "x0,x1,x2,x3,x4", "--train-time-range", "<2024-01-01,2024-01-03)", "--test-time-range", ""]
    size = ["--sequence-len", "12", "--steps-ahead", "2", "--blocks", "16", "--epochs", "3"]
    assert main(["fit", *data, *request.param, *size, "--run", str(folder / "run")]) == 0
    assert main(["export", "--run", str(folder / "run"), "--repository", str(folder / "models"), "--name", "x"]) == 0
    return read_artifact(folder / "models", "x", 1)


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[np.float64]]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def require_refusal(artifact: Artifact, model: onnx.ModelProto, what: str) -> None:
    data = model.SerializeToString()
    assert check_parity(data, artifact.parity) > MARGIN * MAX_PARITY_ERROR, what
    with pytest.raises(ArtifactError, match=r"model.onnx: parity error"):
        open_session(replace(artifact, graphs={MODEL_FILE: data}), "cpu")


def require_refusal_of_change(artifact: Artifact, name: str) -> None:
    """Require that the graph is refused when the largest number of a constant is greater by a hundredth."""
    model = onnx.load_model_from_string(artifact.model)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[int(np.argmax(np.abs(values)))] *= 1.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    require_refusal(artifact, model, f"{name} of shape {values.shape}")


def test_the_right_graph_is_far_from_being_refused_and_the_server_takes_it(artifact: Artifact) -> None:
    assert check_parity(artifact.model, artifact.parity) < MAX_PARITY_ERROR / MARGIN
    assert open_session(artifact, "cpu").provider == "CPUExecutionProvider"
    assert artifact.manifest.tolerance["CPUExecutionProvider"] == MAX_PARITY_ERROR


def test_one_weight_that_is_wrong_by_a_hundredth_is_refused(artifact: Artifact) -> None:
    constants = constants_of(onnx.load_model_from_string(artifact.model))
    kernels = [name for name, values in constants.items() if values.dtype == np.float32 and values.ndim > 1]
    assert len(kernels) >= 2
    for name in kernels:
        require_refusal_of_change(artifact, name)


def test_one_bias_that_is_wrong_by_a_hundredth_is_refused(artifact: Artifact) -> None:
    constants = constants_of(onnx.load_model_from_string(artifact.model))
    biases = [name for name, values in constants.items() if values.dtype == np.float32 and values.ndim == 1 and values.size > 1]
    assert biases
    for name in biases:
        require_refusal_of_change(artifact, name)


def test_one_constant_of_the_scaler_that_is_wrong_by_a_hundredth_is_refused(artifact: Artifact) -> None:
    constants = constants_of(onnx.load_model_from_string(artifact.model))
    scaler = {name: np.array(values) for name, values in artifact.manifest.scaler.items()}
    steps = artifact.manifest.sequence_len
    expected = {
        "input": np.tile(1 / scaler["input_scale"], steps),
        "output": np.repeat(scaler["output_scale"], artifact.manifest.calibration.outputs_per_feature),
    }
    for which, vector in expected.items():
        (name,) = (name for name, values in constants.items() if values.shape == vector.shape and np.allclose(values, vector))
        assert constants[name].dtype == np.float64, which
        require_refusal_of_change(artifact, name)


def test_two_features_in_the_wrong_order_are_refused(artifact: Artifact) -> None:
    model = onnx.load_model_from_string(artifact.model)
    for node in model.graph.node:
        for index, source in enumerate(node.input):
            node.input[index] = "reordered" if source == "window" else source
    model.graph.node.insert(0, onnx.helper.make_node("Gather", ["window", "order"], ["reordered"], "gather", axis=2))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 2, 1, 3, 4]), "order"))
    require_refusal(artifact, model, "order")
