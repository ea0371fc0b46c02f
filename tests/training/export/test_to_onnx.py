"""The contract of an exported model: the same numbers as Keras, plain operators, the same bytes every time."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from mods_grpc.artifact import check_graph
from mods_grpc.artifact.parity import parity_error
from mods_grpc.errors import ArtifactError, DataError
from tests.support.training.exported_networks import (
    FEATURES,
    contract_config,
    count_operators,
    make_case,
    make_network,
    make_scaler,
    run_graph,
)
from training.export.parity import MAX_PARITY_ERROR, check_parity
from training.export.to_onnx import check_model, export_graph
from training.fitting.npz import pack_arrays, unpack_arrays
from training.network.config import MODEL_TYPES, ModelConfig

FAST = {"MLP", "Conv1D", "LSTM", "GRU", "attentionLSTM", "TCN", "TSMixer", "branches", "ridge", "trees", "boosted", "ensemble"}
"""One of each kind of layer that is converted; the others are exported with the slow tests."""


def all_of(*model_types):
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in model_types]


@pytest.fixture(scope="module", params=all_of(*MODEL_TYPES))
def case(request):
    return make_case(contract_config(request.param))


def test_forecasts_what_keras_forecasts(case):
    assert check_parity(case.model, case.parity) <= MAX_PARITY_ERROR


def test_holds_no_loop_and_the_recurrent_operators_its_name_promises(case):
    operators = count_operators(case.model)
    assert not operators.keys() & {"Loop", "Scan", "If"}
    assert ("LSTM" in operators) == ("LSTM" in case.config.model_type)
    assert ("GRU" in operators) == (case.config.model_type in ("GRU", "GRU-FCN"))
    assert check_graph(case.model).operators == operators


@pytest.mark.parametrize(
    "model_type", ["MLP", *(pytest.param(name, marks=pytest.mark.slow) for name in ("seq2seqLSTM", "TSMixer", "ensemble"))]
)
def test_gives_quantiles_as_a_second_output(model_type):
    config = ModelConfig(model_type=model_type, steps_ahead=4, blocks=8, transform="log1p", quantiles="0.1,0.5,0.75", linear=True)
    case = make_case(config)
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    shapes = {node.name: node.shape for node in session.get_outputs()}
    assert shapes == {"forecast": ["batch", 4, FEATURES], "quantiles": ["batch", 4, FEATURES, 3]}
    arrays = unpack_arrays(case.parity)
    windows, expected, unit = (arrays[f"{kind}_257"] for kind in ("window", "quantiles", "quantiles_unit"))
    quantiles, forecast = session.run(["quantiles", "forecast"], {"window": windows})
    np.testing.assert_array_equal(forecast, quantiles[..., 1])
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    for level in range(3):
        assert parity_error(quantiles[..., level], expected[..., level], unit[..., level]) <= MAX_PARITY_ERROR


def test_takes_a_window_and_gives_a_forecast_in_a_free_batch(case):
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    (window,), (forecast,) = session.get_inputs(), session.get_outputs()
    assert (window.name, window.type, window.shape) == ("window", "tensor(double)", ["batch", 13, FEATURES])
    assert (forecast.name, forecast.type, forecast.shape) == ("forecast", "tensor(double)", ["batch", 4, FEATURES])


@pytest.mark.parametrize("case", all_of("MLP", "bidirectLSTM", "seq2seqLSTM", "stackedTCN", "ensemble"), indirect=True)
def test_exporting_again_gives_the_same_bytes(case):
    assert export_graph(case.network, case.config, case.scaler, FEATURES) == case.model


def test_names_nothing_of_the_machine_or_the_converter(case):
    model = onnx.load_model_from_string(case.model)
    assert (model.producer_name, model.producer_version, model.doc_string, model.domain) == ("mods-grpc", "", "", "")
    assert not model.metadata_props
    assert not model.graph.value_info
    domains = ["", "ai.onnx.ml"] if case.config.model_type in ("trees", "boosted") else [""]
    assert [opset.domain for opset in model.opset_import] == domains


def test_a_row_gets_the_same_bits_in_any_batch_and_place(case):
    window = unpack_arrays(case.parity)["window_257"]
    whole = run_graph(case.model, window)
    np.testing.assert_array_equal(
        np.concatenate([run_graph(case.model, window[row : row + 1]) for row in range(0, 257, 32)]), whole[::32]
    )
    np.testing.assert_array_equal(run_graph(case.model, window[100:117].copy()), whole[100:117])
    np.testing.assert_array_equal(run_graph(case.model, window[::-1].copy()), whole[::-1])


def test_stays_finite_on_absurd_windows(case):
    window = np.zeros((5, 13, FEATURES))
    window[1], window[2], window[3, -1], window[4, ::2] = 1e300, -1e300, 1e300, 1e300
    assert np.isfinite(run_graph(case.model, window)).all()


@pytest.mark.parametrize(
    ("model_type", "transform", "delta"),
    [
        ("MLP", "log1p", True),
        ("MLP", "log1p", False),
        ("MLP", "none", False),
        pytest.param("stackedLSTM", "log1p", True, marks=pytest.mark.slow),
        pytest.param("TCN", "none", False, marks=pytest.mark.slow),
    ],
)
def test_preprocessing_is_inside_the_graph(model_type, transform, delta):
    case = make_case(ModelConfig(model_type=model_type, blocks=8, transform=transform, model_delta=delta))
    assert check_parity(case.model, case.parity) <= MAX_PARITY_ERROR
    absurd = np.full((1, case.config.rows, FEATURES), 1e300)
    assert np.isfinite(run_graph(case.model, absurd)).all()


def test_a_scaler_of_another_configuration_is_refused():
    config = ModelConfig(model_type="MLP", blocks=8)
    network, scaler = make_network(config), make_scaler(config)
    for wrong in (
        replace(scaler, transform="log1p"),
        replace(scaler, differencing=False),
        replace(scaler, input_mean=np.zeros(2)),
    ):
        with pytest.raises(DataError):
            export_graph(network, config, wrong, FEATURES)


def test_a_model_of_another_shape_or_of_bad_operators_is_refused(case):
    with pytest.raises(ArtifactError, match="inputs and outputs"):
        check_model(case.model, replace(case.config, steps_ahead=5), FEATURES)
    model = onnx.load_model_from_string(case.model)
    model.graph.node[0].op_type = "NonZero"
    with pytest.raises(ArtifactError, match="NonZero is not allowed"):
        check_model(model.SerializeToString(), case.config, FEATURES)
    model.graph.node[0].op_type = "Softmax"
    with pytest.raises(ArtifactError, match="not valid ONNX"):
        check_model(model.SerializeToString(), case.config, FEATURES)


def test_parity_notices_a_changed_weight(case):
    model = onnx.load_model_from_string(case.model)
    kernel = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data) if tensor.data_type == 1 else 0)
    values = onnx.numpy_helper.to_array(kernel).copy()
    values.flat[:: max(1, values.size // 16)] += 0.5
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    assert check_parity(model.SerializeToString(), case.parity) > MAX_PARITY_ERROR


def test_parity_vectors_hold_windows_and_forecasts_of_three_batches(case):
    arrays = unpack_arrays(case.parity)
    shapes = {"window": (13, FEATURES), "time": (), "forecast": (4, FEATURES), "forecast_unit": (4, FEATURES)}
    expected = {f"{kind}_{batch}": (batch, *shape) for batch in (1, 3, 257) for kind, shape in shapes.items()}
    assert {name: array.shape for name, array in arrays.items()} == expected
    times = {array.dtype for name, array in arrays.items() if name.startswith("time")}
    assert times == {np.dtype(np.int64)}
    assert {array.dtype for name, array in arrays.items() if not name.startswith("time")} == {np.dtype(np.float64)}


def test_quantiles_are_held_against_keras_too():
    case = make_case(ModelConfig(model_type="MLP", steps_ahead=4, blocks=8, quantiles="0.1,0.5,0.75"))
    arrays = unpack_arrays(case.parity)
    assert arrays["quantiles_3"].shape == arrays["quantiles_unit_3"].shape == (3, 4, FEATURES, 3)
    assert check_parity(case.model, case.parity) <= MAX_PARITY_ERROR
    arrays["quantiles_257"][200, 3, 1, 2] += 1e-3 * arrays["quantiles_unit_257"][200, 3, 1, 2]
    assert check_parity(case.model, pack_arrays(arrays)) == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(DataError, match="parity vectors hold"):
        check_parity(case.model, pack_arrays({name: array for name, array in arrays.items() if "quantiles" not in name}))


@pytest.mark.parametrize("case", ["MLP"], indirect=True)
def test_parity_vectors_of_other_layout_are_refused(case):
    with pytest.raises(DataError):
        check_parity(case.model, pack_arrays({"window_1": np.zeros((1, 13, FEATURES))}))
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("window_1.txt", "1 2 3")
    for data in (b"not a zip", b"", foreign.getvalue()):
        with pytest.raises(DataError):
            check_parity(case.model, data)


OTHER_PROCESS = """
import hashlib, sys
from tests.support.training.exported_networks import FEATURES, contract_config, make_network, make_scaler
from training.export.to_onnx import export_graph
for model_type in reversed(sys.argv[1:]):
    config = contract_config(model_type)
    model = export_graph(make_network(config), config, make_scaler(config), FEATURES)
    print(model_type, hashlib.sha256(model).hexdigest())
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(pytestconfig):
    model_types = ("GRU", "attentionLSTM", "TCN")
    expected = {name: hashlib.sha256(make_case(contract_config(name)).model).hexdigest() for name in model_types}
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(pytestconfig.rootpath)}
    command = [sys.executable, "-c", OTHER_PROCESS, *model_types]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, env=environment, capture_output=True, text=True, check=True)
    assert dict(line.split() for line in done.stdout.splitlines()) == expected
