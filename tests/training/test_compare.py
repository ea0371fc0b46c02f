from pathlib import Path

import pytest

from mods_grpc.artifact import check_graph, list_versions, read_artifact
from tests.training.data import DATAPOOL, make_walk, needs_datapool, write_table
from training.arrays import unpack
from training.cli import main
from training.compare import latency_microseconds, table_rows
from training.config import MODEL_TYPES
from training.parity import LARGEST_ERROR, check_parity


def test_a_comparison_of_nothing_is_an_empty_table() -> None:
    assert table_rows([]) == []


@pytest.mark.train
def test_the_latency_of_a_graph_is_a_time_above_zero(tmp_path: Path) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=5)))
    ranges = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", ""]
    data = ["--csv", table, "--time-column", "time", "--features", "x0"]
    assert main(["fit", *data, *ranges, "--model-type", "MLP", "--epochs", "1", "--run", str(tmp_path / "run")]) == 0
    assert main(["export", "--run", str(tmp_path / "run"), "--repository", str(tmp_path / "models"), "--name", "x"]) == 0
    artifact = read_artifact(tmp_path / "models", "x", 1)
    assert artifact.manifest.metrics == ()
    assert artifact.manifest.test_range is None
    assert 0 < latency_microseconds(artifact.model, unpack(artifact.parity)["window_1"]) < 100_000


@needs_datapool
@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(600)
def test_every_architecture_fits_exports_and_publishes_the_example_of_the_original_system(tmp_path: Path) -> None:
    output, repository = tmp_path / "compare.tsv", tmp_path / "models"
    told = ["--datapool", str(DATAPOOL / "features"), "--epochs", "3", "--name", "example"]
    assert main(["compare", *told, "--repository", str(repository), "--output", str(output)]) == 0
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == [*MODEL_TYPES, "no change"]
    assert list_versions(repository) == sorted((f"example-{model_type.lower()}", 1) for model_type in MODEL_TYPES)
    for name, version in list_versions(repository):
        artifact = read_artifact(repository, name, version)
        check_graph(artifact.model)
        assert check_parity(artifact.model, artifact.parity) <= LARGEST_ERROR
