"""Sessions: the provider that was asked for, the bytes that were checked, the same bits in any batch."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import read_artifact
from mods_grpc.artifact import version_folder as layout
from mods_grpc.artifact.parity import feature_relative_error
from mods_grpc.errors import ArtifactError
from mods_grpc.server.models.versions import VersionState
from mods_grpc.server.onnx.cost_model import CostModel
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.server.onnx.providers import choose_fastest, list_candidates
from mods_grpc.server.onnx.session import MAX_RUN_WINDOWS
from tests.support.loaded_repository import load_repository, pack_vectors, publish_with
from tests.support.models.tiny import ROWS, forecast_mean, make_calibration, make_manifest, make_mean_graph, publish_tiny

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_fails_the_load_and_never_falls_back(tmp_path, provider):
    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    if wanted in ort.get_available_providers():
        pytest.skip(f"{wanted} is really there")
    publish_tiny(tmp_path)
    repository = load_repository(tmp_path, provider)
    entry = next(repository.entries())
    assert (entry.state, entry.failure) == (VersionState.FAILED, f"ONNX Runtime has no {wanted} here")
    assert entry.loaded is None


@pytest.mark.skipif(HAS_CUDA, reason="CUDA is there, so auto may choose it")
def test_auto_chooses_the_cpu_where_nothing_else_is_available(tmp_path):
    publish_tiny(tmp_path)
    assert load_repository(tmp_path, "auto").serving("tiny", None).session.provider == "CPUExecutionProvider"


# seconds at 1, 16 and 256 windows
SMALL, LARGE = CostModel((10e-6, 23e-6, 287e-6)), CostModel((65e-6, 284e-6, 7100e-6))
DEVICE = CostModel((110e-6, 115e-6, 160e-6))


@pytest.mark.parametrize(("processor", "taken"), [(SMALL, "cpu"), (LARGE, "cuda")])
def test_auto_chooses_the_provider_that_is_faster_over_all_sizes(processor, taken):
    names = list_candidates(["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"])
    assert names == ["cuda", "cpu"]
    assert names[choose_fastest([DEVICE, processor])] == taken


def test_the_bytes_that_were_checked_are_the_ones_that_run(tmp_path):
    version = publish_tiny(tmp_path)
    artifact = read_artifact(tmp_path, "tiny", 1)
    (version / "model.onnx").write_bytes(make_mean_graph(factor=2.0).SerializeToString())
    windows = np.random.default_rng(1).gamma(2, 2, (3, ROWS, 2))
    np.testing.assert_allclose(
        open_session(artifact, "cpu").forecast(windows, np.zeros(len(windows), np.int64)), forecast_mean(windows)
    )
    with pytest.raises(ArtifactError):
        read_artifact(tmp_path, "tiny", 1)


def test_an_error_is_relative_to_the_size_of_each_feature():
    expected = np.array([[[100.0, 0.01]], [[-200.0, 0.02]]])
    assert feature_relative_error(np.add(expected, [2.0, 0.0]), expected) == pytest.approx(0.01)
    assert feature_relative_error(np.add(expected, [0.0, 0.002]), expected) == pytest.approx(0.1)


def network(kind, rows=12, features=3, horizon=4, hidden=24):
    """A network of random weights, as training exports them: float64 outside, float32 inside."""
    rng = np.random.default_rng(8)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    def numbers(name, *values):
        return numpy_helper.from_array(np.array(values, np.int64), name)

    node = helper.make_node
    nodes = [node("Cast", ["window"], ["x"], to=TensorProto.FLOAT)]
    if kind == "LSTM":
        weights = [weight("w", 1, 4 * hidden, features), weight("r", 1, 4 * hidden, hidden), weight("b", 1, 8 * hidden)]
        nodes += [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r", "b"], ["", "state"], hidden_size=hidden),
            node("Squeeze", ["state", "first"], ["h"]),
        ]
    else:
        weights = [weight("w", rows * features, hidden)]
        nodes += [node("Reshape", ["x", "flat"], ["f"]), node("MatMul", ["f", "w"], ["m"]), node("Tanh", ["m"], ["h"])]
    weights += [weight("out", hidden, horizon * features), numbers("first", 0), numbers("flat", -1, rows * features)]
    weights += [numbers("shape", -1, horizon, features)]
    nodes += [
        node("MatMul", ["h", "out"], ["y"]),
        node("Reshape", ["y", "shape"], ["z"]),
        node("Cast", ["z"], ["forecast"], to=TensorProto.DOUBLE),
    ]
    values = [
        helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", rows, features]),
        helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", horizon, features]),
    ]
    graph = helper.make_graph(nodes, kind, values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("kind", ["LSTM", "MLP"])
def test_a_forecast_does_not_depend_on_the_rows_beside_it_to_the_last_bit(tmp_path, kind):
    model = network(kind)
    windows, max_windows = np.random.default_rng(9).normal(0, 1, (600, 12, 3)), MAX_RUN_WINDOWS["CPUExecutionProvider"]
    alone = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = alone.run(None, {"window": windows[:65]})
    tiny_manifest = make_manifest()
    shape = make_calibration(3, 4)
    features = tuple(replace(tiny_manifest.features[0], name=f"f{number}") for number in range(3))
    changes = {"sequence_len": 12, "rows": 12, "horizon": 4, "features": features, "calibration": shape}
    parity = pack_vectors(window_65=windows[:65], forecast_65=expected[0])
    publish_with(tmp_path, kind.lower(), parity=parity, model=model, tolerance={"CPUExecutionProvider": 1e-4}, **changes)
    session = load_repository(tmp_path).serving("", None).session
    times = np.zeros(len(windows), np.int64)
    one_by_one = np.concatenate([session.forecast(windows[i : i + 1], times[:1]) for i in range(len(windows))])
    for n in (
        2,
        3,
        4,
        5,
        7,
        8,
        9,
        16,
        17,
        31,
        33,
        64,
        65,
        max_windows - 1,
        max_windows,
        max_windows + 1,
        max_windows + 17,
        2 * max_windows,
        600,
    ):
        assert np.array_equal(session.forecast(windows[:n], times[:n]), one_by_one[:n]), n
        assert np.array_equal(session.forecast(windows[-n:], times[-n:]), one_by_one[-n:]), n


def test_the_manifest_that_is_read_names_the_limits_of_files():
    assert set(layout.MAX_BYTES) == {*layout.LISTED_FILES, layout.MANIFEST_FILE, layout.SIGNATURE_FILE}
    assert json.loads(make_manifest().to_json())["files"] == []
