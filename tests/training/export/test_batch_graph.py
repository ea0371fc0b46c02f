"""The second graph, for large batches: no recurrent operator in it, and the same forecasts to the last bit."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from mods_grpc.artifact import BATCH_MODEL_FILE, read_artifact
from mods_grpc.errors import ArtifactError
from tests.support.loaded_repository import load_repository
from tests.support.training.data import make_walk, write_table
from tests.support.training.exported_networks import FEATURES, contract_config, count_operators, make_case
from training.cli.main import main
from training.export.batch_graph import is_bit_identical, make_batch_graph
from training.export.onnx_forecaster import input_feed, open_session
from training.export.parity import MAX_PARITY_ERROR, check_parity
from training.export.to_onnx import export_graph
from training.fitting.npz import unpack_arrays
from training.network.config import ModelConfig

SMALL_LSTM = ModelConfig(model_type="LSTM", sequence_len=3, blocks=8)
UNROLLED = {
    "LSTM": {"batch_normalization": True, "transform": "log1p"},
    "bidirectLSTM": {"linear": True, "batch_normalization": True, "calendar": True},
    "seq2seqLSTM": {"quantiles": "0.1,0.5,0.9", "calendar": True},
    "stackedLSTM": {"stacked_blocks": 3},
    "attentionLSTM": {"model_delta": False, "batch_normalization": True},
    "ensemble": {"members": "LSTM,GRU"},
}


def batch_graph_of(case):
    return make_batch_graph(case.network, case.config, case.scaler, FEATURES, model=case.model, parity=case.parity)


@cache
def unrolled_model(config):
    return batch_graph_of(make_case(config)).model


@pytest.fixture(autouse=True)
def timed_once(monkeypatch):
    """The times of the graphs are printed and not tested."""
    monkeypatch.setattr("training.export.batch_graph.REPEATS", 1)


FAST = ("LSTM",)


@pytest.fixture(
    scope="module", params=[name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in UNROLLED]
)
def case(request):
    options = UNROLLED[request.param]
    return make_case(ModelConfig(model_type=request.param, sequence_len=4, steps_ahead=2, blocks=8, **options))


def test_an_unrolled_graph_gives_the_bits_of_the_other_in_every_batch(case):
    second = batch_graph_of(case)
    assert second.model
    assert "LSTM" in count_operators(case.model)
    assert "LSTM" not in count_operators(second.model)
    assert check_parity(second.model, case.parity) <= MAX_PARITY_ERROR
    arrays = unpack_arrays(case.parity)
    windows, times = np.resize(arrays["window_257"], (1000, case.config.rows, FEATURES)), np.resize(arrays["time_257"], 1000)
    one, other = open_session(case.model), open_session(second.model)
    for batch in (1, 2, 3, 64, 65, 257, 1000):
        given = input_feed(one, windows[:batch], times[:batch])
        for mine, theirs in zip(one.run(None, given), other.run(None, given), strict=True):
            np.testing.assert_array_equal(theirs, mine)


@pytest.mark.parametrize("model_type", ["GRU", "GRU-FCN", "Conv1D"])
def test_there_is_no_second_graph_where_there_is_no_lstm(model_type):
    second = batch_graph_of(make_case(contract_config(model_type)))
    assert second.model is None
    assert "no LSTM" in second.note


def test_a_graph_that_differs_in_bits_is_left_out_and_the_note_says_so(monkeypatch):
    # above 256 units a product is summed in blocks, in which the operator begins with what was there
    case = make_case(ModelConfig(model_type="LSTM", sequence_len=3, blocks=300))
    unrolled = export_graph(case.network, case.config, case.scaler, FEATURES, unroll=True)
    monkeypatch.setattr("training.export.batch_graph.export_graph", lambda *_, **__: unrolled)
    second = batch_graph_of(case)
    assert (second.model is None) == (not is_bit_identical(case.model, unrolled, case.parity))
    assert second.model or "differ in bits" in second.note


def test_a_changed_weight_is_seen_in_the_bits_and_a_wrong_one_in_the_parity(monkeypatch):
    case, unrolled = make_case(SMALL_LSTM), unrolled_model(SMALL_LSTM)
    for change, seen in ((lambda weight: np.nextafter(weight, np.float32(9)), "bits"), (lambda weight: weight + 0.5, "parity")):
        changed = onnx.load_model_from_string(unrolled)
        kernel = next(tensor for tensor in changed.graph.initializer if list(tensor.dims) == [8, 32])
        kernel.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(kernel)), kernel.name))
        data = changed.SerializeToString()
        assert not is_bit_identical(case.model, data, case.parity)
        assert (check_parity(data, case.parity) > MAX_PARITY_ERROR) == (seen == "parity")
        with monkeypatch.context() as patched:
            patched.setattr("training.export.batch_graph.export_graph", lambda *_, data=data, **__: data)
            if seen == "bits":
                assert batch_graph_of(case).model is None
            else:
                with pytest.raises(ArtifactError, match="the unrolled graph differs from Keras"):
                    batch_graph_of(case)


def test_unrolling_again_gives_the_same_bytes():
    case = make_case(SMALL_LSTM)
    assert export_graph(case.network, case.config, case.scaler, FEATURES, unroll=True) == unrolled_model(SMALL_LSTM)


@pytest.mark.train
def test_a_second_graph_is_published_on_request_served_and_kept_by_a_new_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, run_folder, repository = write_table(tmp_path / "x.csv", make_walk(days=6)), str(tmp_path / "run"), tmp_path / "models"
    data = ["--csv", str(table), "--time-column", "time", "--features", "x0,x1", "--window-slide", "w01h-s10m"]
    ranges = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", "2024-01-06"]
    network = ["--model-type", "LSTM", "--blocks", "8", "--epochs", "1"]
    assert main(["fit", *data, *ranges, *network, "--run", run_folder]) == 0
    export = ["export", "--run", run_folder, "--repository", str(repository), "--name", "walk"]
    assert main(export) == 0
    assert main([*export, "--batch-graph"]) == 0
    assert "Speedup over the first" in capsys.readouterr().out
    assert main(["recalibrate", "--model", str(repository / "walk" / "2"), "--csv", str(table)]) == 0
    plain, both, again = (read_artifact(repository, "walk", version) for version in (1, 2, 3))
    assert BATCH_MODEL_FILE not in plain.graphs
    assert both.graphs == again.graphs
    assert both.model == plain.model
    assert "second graph" in (repository / "walk" / "2" / "MODEL_CARD.md").read_text()
    assert "second graph" not in (repository / "walk" / "1" / "MODEL_CARD.md").read_text()
    assert both.manifest.file(BATCH_MODEL_FILE).size == len(both.graphs[BATCH_MODEL_FILE])
    entry = load_repository(repository).find("walk", 2)
    assert entry is not None
    assert entry.loaded is not None
