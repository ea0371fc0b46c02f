from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mods_grpc.artifact import read_artifact
from mods_grpc.server.session import open_session
from tests.training.data import make_walk, write_table
from training.cli import main


@pytest.mark.train
def test_a_model_with_quantiles_is_served_and_its_quantiles_are_in_the_graph_for_who_wants_them(tmp_path: Path) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=5)))
    data = ["--csv", table, "--time-column", "time", "--features", "x0,x1"]
    ranges = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", ""]
    model = ["--model-type", "ensemble", "--members", "MLP,NLinear", "--quantiles", "0.1,0.5,0.9", "--loss", "pinball"]
    assert main(["fit", *data, *ranges, *model, "--epochs", "2", "--run", str(tmp_path / "run")]) == 0
    assert main(["export", "--run", str(tmp_path / "run"), "--repository", str(tmp_path / "models"), "--name", "x"]) == 0
    artifact = read_artifact(tmp_path / "models", "x", 1)
    assert artifact.manifest.hyper_parameters["quantiles"] == "0.1,0.5,0.9"
    windows = np.cumsum(np.random.default_rng(1).normal(size=(5, artifact.manifest.rows, 2)), axis=1) + 1000.0
    forecast = open_session(artifact, "cpu").forecast(windows, np.zeros(len(windows), np.int64))
    session = onnxruntime.InferenceSession(artifact.model, providers=["CPUExecutionProvider"])
    (quantiles,) = session.run(["quantiles"], {"window": windows})
    np.testing.assert_array_equal(quantiles[..., 1], forecast)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
