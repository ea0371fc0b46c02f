import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mods_grpc.artifact import Artifact, read_artifact
from mods_grpc.detection import Detector
from mods_grpc.server.onnx.open_session import open_session
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.data.series import per_series
from training.data.source import SourceConfig, load_series
from training.data.time_range import parse_interval
from training.evaluation.scoring import replay_detector
from training.export.onnx_forecaster import open_model
from training.export.parity import check_parity

pytestmark = pytest.mark.train
DAYS = 9
TEST_RANGE = "<2024-01-08,2024-01-10)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted and exported model with quantiles, and its data."""
    folder = tmp_path_factory.mktemp("quantiles")
    table = str(write_table(folder / "x.csv", make_walk(days=DAYS)))
    data = ["--csv", table, "--time-column", "time", "--features", "x0,x1"]
    ranges = ["--train-time-range", "<2024-01-01,2024-01-08)", "--test-time-range", TEST_RANGE]
    model = ["--model-type", "ensemble", "--members", "MLP,NLinear", "--quantiles", "0.1,0.5,0.9", "--loss", "pinball"]
    assert main(["fit", *data, *ranges, *model, "--steps-ahead", "6", "--epochs", "2", "--run", str(folder / "run")]) == 0
    assert main(["export", "--run", str(folder / "run"), "--repository", str(folder / "models"), "--name", "x"]) == 0
    return folder


@pytest.fixture
def artifact(folder: Path) -> Artifact:
    return read_artifact(folder / "models", "x", 1)


def test_a_model_with_quantiles_is_served_with_their_ends_and_its_card_says_what_the_evidence_is(
    folder: Path, artifact: Artifact
) -> None:
    windows = np.cumsum(np.random.default_rng(1).normal(size=(5, artifact.manifest.rows, 2)), axis=1) + 1000.0
    served = open_session(artifact, "cpu").forecast(windows, np.zeros(len(windows), np.int64))
    session = onnxruntime.InferenceSession(artifact.model, providers=["CPUExecutionProvider"])
    (quantiles,) = session.run(["quantiles"], {"window": windows})
    np.testing.assert_array_equal(served, np.concatenate([quantiles[..., level] for level in (1, 0, 2)], axis=-1))
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert check_parity(artifact.model, artifact.parity) < 1e-5
    interval = artifact.manifest.calibration.interval
    assert interval
    assert interval.levels == (0.1, 0.5, 0.9)
    assert "between its quantiles 0.1 and 0.9, in widths of it" in (folder / "models" / "x" / "1" / "MODEL_CARD.md").read_text()


def test_evaluate_scores_as_the_server_does_and_measures_its_intervals(folder: Path, artifact: Artifact) -> None:
    output = folder / "evaluation"
    data = ["--csv", str(folder / "x.csv"), "--time-column", "time", "--features", "x0,x1"]
    assert main(["evaluate", "--model", str(folder / "models" / "x" / "1"), *data, "--output", str(output), "--no-report"]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    manifest, interval = artifact.manifest, parse_interval(TEST_RANGE)
    series = load_series(
        SourceConfig.from_manifest(manifest, {"csv": str(folder / "x.csv")}), parse_interval("<2024-01-07,2024-01-10)")
    )
    part = per_series(series, series.slice(interval))
    session = open_session(artifact, "cpu")
    by_server = replay_detector(manifest, session.forecast, series, part, 1.0)
    by_training = replay_detector(manifest, open_model(artifact), series, part, 1.0)
    np.testing.assert_array_equal(by_server.p_values, by_training.p_values)
    assert by_server.episodes == by_training.episodes
    assert metrics["detector"]["p_values"]["counts"] == np.histogram(by_server.p_values, 20, (0, 1))[0].tolist()
    rows = np.arange(part[0].start, part[0].stop - 5)
    windows = series.values[rows[:, None] + np.arange(-manifest.rows, 0)]
    low, high = Detector.from_manifest(manifest).path_interval(session.forecast(windows, np.zeros(len(rows), np.int64)), 0.8)
    inside = (series.values[rows] >= low[:, 0]) & (series.values[rows] <= high[:, 0])
    realised = [c["realised"] for c in metrics["coverage"] if (c["step"], c["nominal"]) == (1, 0.8)]
    np.testing.assert_allclose(realised, inside.mean(axis=0))


def test_recalibration_of_a_model_with_quantiles_on_the_same_data_changes_nothing(folder: Path, artifact: Artifact) -> None:
    model = str(folder / "models" / "x" / "1")
    assert main(["recalibrate", "--model", model, "--csv", str(folder / "x.csv"), "--repository", str(folder / "again")]) == 0
    again = read_artifact(folder / "again", "x", 1)
    assert again.manifest.calibration == artifact.manifest.calibration
