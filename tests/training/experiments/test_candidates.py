import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mods_grpc.artifact import Metric, check_graph, list_versions, read_artifact
from tests.support.real_data import DATAPOOL, needs_datapool
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.experiments.candidates import measure_latency_microseconds
from training.experiments.comparison import describe_verdict
from training.export.parity import MAX_PARITY_ERROR, check_parity
from training.fitting.npz import unpack_arrays
from training.network.config import MODEL_TYPES


def test_architectures_that_do_not_exist_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["compare", "--csv", str(tmp_path / "x.csv"), "--model-types", "MLP,RNN"])
    assert raised.value.code == 2
    assert "--model-types: expected architectures of MLP, " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.train
def test_architectures_and_baselines_are_compared_on_one_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the form of the labelled sets: compressed, seconds since 1970, five minutes per row, a column of labels."""
    plain = write_table(tmp_path / "x.csv", make_walk(days=8, features=1)).read_text().splitlines()[1:]
    rows = [f"{1_469_894_400 + 300 * i},{line.split(',')[1]},0" for i, line in enumerate(plain) if i != 700]
    packed = tmp_path / "x.csv.gz"
    packed.write_bytes(gzip.compress("\n".join(["timestamp,value,label", *rows, rows[9]]).encode()))
    data = ["--csv", str(packed), "--time-column", "timestamp", "--features", "value"]
    ranges = ["--train-time-range", "<2016-07-30,2016-08-02)", "--test-time-range", "<2016-08-02,2016-08-03)"]
    ranges += ["--apart-time-range", "<2016-08-03,2016-08-04)"]
    options = ["--model-types", "MLP,NLinear", "--epochs", "2", "--steps-ahead", "6", "--output", str(tmp_path / "out")]
    assert main(["compare", *data, *ranges, *options]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any("best epoch" in line and "apart k=6" in line for line in shown)  # whole headers, though this is no terminal

    table = [line.split("\t") for line in (tmp_path / "out" / "compare.tsv").read_text().splitlines()]
    assert [row[0].split(" (")[0] for row in table[1:]] == [
        *("MLP", "NLinear"),
        *("persistence", "seasonal naive", "ridge", "LightGBM"),
    ]
    assert table[0][8:10] == ["mean k=1", "mean k=6"]
    assert table[0][10:12] == ["apart k=1", "apart k=6"]
    assert table[3][8:12] == ["1.000", "1.000", "1.000", "1.000"]
    assert all(len(row) == len(table[0]) for row in table)
    tree = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (tree["data"]["inserted"], tree["data"]["holes"], tree["data"]["duplicates"]) == (1, 1, 1)
    for candidate in tree["contenders"]:
        assert candidate["epoch_seconds"] > 0
        assert candidate["microseconds"] > 0
        assert len(candidate["relative_mae_geometric_mean"]) == 6
    test, apart = tree["contenders"][0], tree["apart"][0]
    assert apart["name"] == "MLP"
    assert len(tree["apart"]) == len(tree["contenders"]) + len(tree["baselines"])
    assert apart["relative_mae_geometric_mean"] != test["relative_mae_geometric_mean"]
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")


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
    assert 0 < measure_latency_microseconds(artifact.model, unpack_arrays(artifact.parity)["window_1"]) < 100_000


@needs_datapool
@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(600)
def test_every_architecture_fits_exports_and_publishes_the_example_of_the_original_system(tmp_path: Path) -> None:
    output, repository = tmp_path / "comparison", tmp_path / "models"
    words = ["--datapool", str(DATAPOOL / "features"), "--epochs", "3", "--name", "example"]
    assert main(["compare", *words, "--repository", str(repository), "--output", str(output)]) == 0
    rows = [line.split("\t") for line in (output / "compare.tsv").read_text().splitlines()]
    assert [row[0] for row in rows[1:-4]] == list(MODEL_TYPES)
    assert list_versions(repository) == sorted((f"example-{model_type.lower()}", 1) for model_type in MODEL_TYPES)
    for name, version in list_versions(repository):
        artifact = read_artifact(repository, name, version)
        check_graph(artifact.model)
        assert check_parity(artifact.model, artifact.parity) <= MAX_PARITY_ERROR


@pytest.mark.train
def test_an_interrupt_ends_the_whole_comparison_and_keeps_what_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.fitting import fit_run as module  # TensorFlow takes seconds to load

    fit_run, fitted = module.fit_run, []

    def interrupt_second(*arguments: Any, **options: Any) -> Any:
        run, weights = fit_run(*arguments, **options)
        fitted.append(run.model.model_type)
        return replace(run, interrupted=len(fitted) == 2), weights

    monkeypatch.setattr(module, "fit_run", interrupt_second)
    table = str(write_table(tmp_path / "x.csv", make_walk(days=6, features=1)))
    ranges = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", "2024-01-06"]
    words = ["compare", "--csv", table, "--time-column", "time", "--features", "x0", *ranges, "--epochs", "1", "--no-lightgbm"]
    assert main([*words, "--model-types", "MLP,DLinear,NLinear", "--output", str(tmp_path / "out")]) == 130
    assert fitted == ["MLP", "DLinear"]
    shown = capsys.readouterr().out
    assert "interrupted after 1 of 3 models" in shown
    assert "best: " in shown
    rows = [line.split("\t")[0] for line in (tmp_path / "out" / "compare.tsv").read_text().splitlines()]
    assert [name.split(" (")[0] for name in rows] == ["model", "MLP", "persistence", "seasonal naive", "ridge"]


def test_the_verdict_names_the_best_and_says_where_none_beats_no_change() -> None:
    def scored(*values: float) -> tuple[Metric, ...]:
        pairs = enumerate(values, 1)
        return tuple(Metric(metric="RELATIVE_MAE", feature="a", step=k, value=v, persistence=1.0) for k, v in pairs)

    scores = {"MLP": scored(0.9, 1.2), "ridge": scored(0.8, 1.1), "persistence": scored(1.0, 1.0), "LSTM": ()}
    assert describe_verdict(scores, [1, 2]) == (
        "best: ridge at k = 1 with 0.800 times the error of no change; "
        "none beats no change at k = 2 (the nearest: ridge, 1.100 times its error)"
    )
    assert describe_verdict({"MLP": ()}, [1]) == ""
