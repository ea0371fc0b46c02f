import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.artifact import Artifact, Manifest, read_artifact
from mods_grpc.exit_codes import EXIT_FAILED, EXIT_USAGE
from tests.support.real_data import DATAPOOL, needs_datapool
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.evaluation.metrics import find_metric
from training.export.onnx_forecaster import open_graph
from training.export.parity import check_parity
from training.fitting.prepare import prepare_data
from training.fitting.run import read_run
from training.network.scaler import Scaler

SHORT_MODEL = ["--steps-ahead", "4", "--sequence-len", "8"]
TABLE_RANGES = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", "2024-01-06"]


def fit_and_export(folder: Path, *options: str) -> Artifact:
    table = write_table(folder / "x.csv", make_walk(days=6))
    run, repository = str(folder / "run"), str(folder / "repository")
    data = ["--csv", str(table), "--time-column", "time", "--features", "x0,x1:sum", "--window-slide", "w01h-s10m", *TABLE_RANGES]
    assert main(["fit", *data, "--run", run, "--model-type", "MLP", "--epochs", "3", *options]) == 0
    assert main(["export", "--run", run, "--repository", repository, "--model", "walk"]) == 0
    return read_artifact(Path(repository), "walk", 1)


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    fit_and_export(folder, "--model-delta", *SHORT_MODEL)
    return folder


@pytest.fixture
def exported(tmp_path: Path, exported_once: Path) -> Path:
    """A folder of the test's own with x.csv, run and repository of a fitted and exported model `walk`."""
    shutil.copytree(exported_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def require_complete_metrics(manifest: Manifest) -> None:
    assert (manifest.rows, manifest.horizon) == (8 + manifest.differencing, 4)
    for metric in ("MAE", "RMSE", "SMAPE", "MAPE", "R2", "COSINE", "MASE", "RELATIVE_MAE", "RELATIVE_MAE_SEASONAL"):
        for feature in ("x0", "x1"):
            assert all(find_metric(manifest.metrics, metric, feature, step) for step in (1, 2, 3, 4)), metric


@pytest.mark.train
def test_metrics_are_complete_at_every_step(exported: Path) -> None:
    manifest = read_artifact(exported / "repository", "walk", 1).manifest
    assert manifest.differencing
    require_complete_metrics(manifest)


@pytest.mark.train
@pytest.mark.parametrize("option", ["--no-model-delta", "--level"])
def test_metrics_are_complete_without_differences_and_with_a_level(tmp_path: Path, option: str) -> None:
    manifest = fit_and_export(tmp_path, option, *SHORT_MODEL).manifest
    assert manifest.differencing == (option != "--no-model-delta")
    require_complete_metrics(manifest)


@pytest.mark.train
def test_a_table_is_fitted_exported_evaluated_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = fit_and_export(tmp_path, "--transform", "log1p", "--steps-ahead", "2")
    manifest = artifact.manifest
    assert [(f.name, f.kind) for f in manifest.features] == [("x0", "count"), ("x1", "sum")]
    assert check_parity(artifact.model, artifact.parity) < 1e-5
    run, _ = read_run(tmp_path / "run")
    prepared = prepare_data(run.source, run.model)
    train = prepared.samples["train"]
    expected = Scaler.fit(train.windows, train.targets, transform="log1p", differencing=True)
    assert manifest.scaler["input_scale"] == tuple(expected.input_scale)
    assert manifest.scaler["output_mean"] == tuple(expected.output_mean.ravel())
    touched = prepared.series.values[prepared.parts["train"][0]]
    assert [f.training_maximum for f in manifest.features] == touched.max(axis=0).tolist()
    card = (tmp_path / "repository" / "walk" / "1" / "MODEL_CARD.md").read_text()
    assert "python -m training fit --csv" in card
    assert "python -m training export --run" in card
    assert str(tmp_path) not in card
    assert str(tmp_path) not in (tmp_path / "repository" / "walk" / "1" / "manifest.json").read_text()
    forecast = open_graph(artifact.model)(train.windows[:3], train.times[:3])
    assert forecast.shape == (3, 2, 2)
    assert np.isfinite(forecast).all()

    output = tmp_path / "evaluation"
    model = str(tmp_path / "repository" / "walk" / "1")
    words = ["--csv", str(tmp_path / "x.csv"), "--time-column", "time", "--features", "x0,x1:sum", "--output", str(output)]
    assert main(["evaluate", "--model", model, *words]) == 0
    assert str(tmp_path) not in (output / "report.html").read_text()
    assert "episodes in" in capsys.readouterr().out
    again = {
        (m["metric"], m["feature"], m["step"]): m["value"] for m in json.loads((output / "metrics.json").read_text())["metrics"]
    }
    for metric in manifest.metrics:
        assert again[metric.metric, metric.feature, metric.step] == pytest.approx(metric.value)


@pytest.mark.train
def test_a_second_export_is_the_next_version_with_the_same_graph(exported: Path) -> None:
    first = read_artifact(exported / "repository", "walk", 1)
    words = ["export", "--run", str(exported / "run"), "--repository", str(exported / "repository"), "--name", "walk"]
    assert main(words) == 0
    second = read_artifact(exported / "repository", "walk", 2)
    assert first.model == second.model
    assert first.parity == second.parity
    assert main([*words, "--version", "2"]) == 1


@pytest.mark.train
def test_recalibration_on_the_same_data_changes_nothing_and_on_later_data_the_calibration(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = read_artifact(exported / "repository", "walk", 1)
    model = ["recalibrate", "--model", "walk", "--model-version", "1", "--repository", str(exported / "repository")]
    table = write_table(exported / "longer.csv", make_walk(days=9))
    assert main([*model, "--csv", str(exported / "x.csv")]) == 0
    again = read_artifact(exported / "repository", "walk", 2)
    assert again.manifest.calibration == first.manifest.calibration
    assert again.manifest.calibration_range == first.manifest.calibration_range
    card = (exported / "repository" / "walk" / "2" / "MODEL_CARD.md").read_text()
    assert card.startswith("# walk, version 2\n")
    assert "python -m training recalibrate --model" in card
    assert card.count("\n## Detection\n") == card.count("\n## Limits\n") == 1
    assert str(exported) not in card

    later = ["--calibration-time-range", "<2024-01-07,2024-01-10)"]
    assert main([*model, "--csv", str(table), *later]) == 0
    moved = read_artifact(exported / "repository", "walk", 3)
    assert moved.model == first.model
    assert moved.manifest.calibration_range.start == "2024-01-07T00:00:00"
    assert moved.manifest.calibration.samples == 3 * 144
    assert moved.manifest.calibration != first.manifest.calibration

    capsys.readouterr()
    assert main([*model, "--csv", str(exported / "x.csv"), "--calibration-time-range", "<2024-01-02,2024-01-03)"]) == 1
    assert "must begin a window and a horizon after" in capsys.readouterr().err
    write_table(exported / "x.csv", make_walk(days=6, seed=2))
    assert main([*model, "--csv", str(exported / "x.csv")]) == 1
    assert "not that of the model's run" in capsys.readouterr().err


@pytest.mark.train
def test_a_model_of_simulated_traffic_detects_injected_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, run, repository = str(tmp_path / "pool"), str(tmp_path / "run"), str(tmp_path / "repository")
    ranges = ["--time-range", "<2026-01-05,2026-01-26)", "--events-time-range", "<2026-01-13,2026-01-26)"]
    assert main(["simulate", "--output", pool, *ranges]) == 0
    times = ["--train-time-range", "<2026-01-05,2026-01-13)", "--test-time-range", "<2026-01-13,2026-01-26)"]
    assert main(["fit", "--datapool", pool, *times, "--epochs", "4", "--model-type", "GRU", "--blocks", "8", "--run", run]) == 0
    assert main(["export", "--run", run, "--repository", repository, "--name", "campus"]) == 0
    manifest = read_artifact(Path(repository), "campus", 1).manifest
    assert [feature.name for feature in manifest.features] == ["conn_in", "conn_out", "dns_in_distinct", "ssh_in"]
    words = ["--model", f"{repository}/campus/1", "--datapool", pool, "--events", f"{pool}/events.csv"]
    words += ["--output", str(tmp_path / "evaluation"), "--no-report"]
    capsys.readouterr()
    assert main(["evaluate", *words, "--false-alarms-per-day", "1"]) == 0
    shown = capsys.readouterr().out
    assert "of 18 events detected" in shown
    assert int(shown.split(" of 18 events detected")[0].split()[-1]) >= 6
    episodes = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["detector"]["episodes"]
    reasons = [episode["reason"].partition(" ")[0] for episode in episodes]
    assert {"conn_in", "ssh_in"} <= set(reasons) <= {"conn_in", "conn_out", "dns_in_distinct", "ssh_in"}


def test_a_failed_command_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=2)))
    empty, binary = tmp_path / "repository" / "x" / "1", tmp_path / "binary.csv"
    empty.mkdir(parents=True)
    binary.write_bytes(bytes(range(256)))
    cases = [
        (["fit", "--csv", str(tmp_path / "none.csv")], "none.csv: No such file or directory"),
        (["fit", "--csv", str(empty)], f"{empty}: Is a directory"),
        (["fit", "--csv", str(binary)], "binary.csv: expected text in UTF-8"),
        (["fit", "--datapool", str(tmp_path / "none")], "no datapool folder"),
        (["fit", "--csv", table, "--time-column", "when"], "no time column when"),
        (["export", "--run", str(tmp_path), "--model", "x"], "is not a run directory"),
        (["evaluate", "--csv", table, "--model", str(tmp_path / "x" / "1")], "no model version"),
        (["evaluate", "--csv", table, "--model", str(empty)], f"{empty}: manifest.json: cannot be opened"),
        (["evaluate", "--csv", table, "--model", "x", "--repository", str(tmp_path)], "no model x in"),
        (["simulate", "--output", str(tmp_path)], "is not empty"),
    ]
    for words, message in cases:
        assert main(words) == EXIT_FAILED
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.startswith("error: ")
        assert shown.count("\n") == 1


def test_option_values_that_cannot_be_used_are_a_usage_error_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=2)))
    cases = [
        (
            ["fit", "--csv", table, "--train-time-range", "yesterday"],
            "--train-time-range: time range 'yesterday': expected <start,end)",
        ),
        (["search", "--csv", table, "--trials", "0"], "--trials: expected a whole number from 1"),
        (
            ["fit", "--csv", table, "--train-time-range", "2024-01-02", "--test-time-range", "2024-01-01"],
            "the test range <2024-01-01T00:00:00,2024-01-02T00:00:00) begins before the train range",
        ),
        (["export", "--model", "Campus"], "--model: expected a name of 1 to 64 of a-z, 0-9, _ and -"),
        (["fit", "--csv", table, "--dropout-rate", "1"], "--dropout-rate: expected a share from 0 and below 1, found '1'"),
        (["fit", "--csv", table, "--level", "--no-model-delta"], "level adds nothing"),
        (["fit", "--csv", table, "--averaging", "1"], "--averaging: expected a number from 0 and below 1"),
        (["search", "--csv", table, "--learning-rates", "1e-3"], "--learning-rates: expected 2 values separated by a comma"),
        (["search", "--csv", table, "--trials", "0"], "--trials: expected a whole number from 1"),
        (["evaluate", "--csv", table, "--model", str(tmp_path)], "expected NAME or REPOSITORY/NAME/VERSION"),
        (["evaluate", "--csv", table, "--model", "exported/x/1", "--model-version", "2"], "--model-version needs --model NAME"),
    ]
    for words, message in cases:
        with pytest.raises(SystemExit) as raised:
            main(words)
        assert raised.value.code == EXIT_USAGE
        shown = capsys.readouterr().err
        assert shown.startswith("error: ")
        assert message in shown


def test_the_parameters_of_mods_are_options_under_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    shown = capsys.readouterr().out
    names = """data-select-query train-time-range train-time-ranges-excluded test-time-range test-time-ranges-excluded
        window-slide
        sequence-len model-delta steps-ahead model-type num-epochs epochs-patience blocks stacked-blocks batch-size
        batch-normalization dropout-rate interpolate"""
    assert [name for name in names.split() if f"--{name}" not in shown] == []


@needs_datapool
@pytest.mark.train
def test_the_example_of_the_original_system_fits_and_exports(tmp_path: Path) -> None:
    run, repository = str(tmp_path / "run"), str(tmp_path / "repository")
    assert main(["fit", "--datapool", str(DATAPOOL / "zip"), "--run", run, "--epochs", "2"]) == 0
    assert main(["export", "--run", run, "--repository", repository, "--name", "example"]) == 0
    manifest = read_artifact(Path(repository), "example", 1).manifest
    assert (manifest.sequence_len, manifest.horizon, manifest.differencing) == (12, 1, True)
    assert manifest.test_range is not None
    assert manifest.test_range.rows == 144
