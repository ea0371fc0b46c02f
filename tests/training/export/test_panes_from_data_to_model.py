"""Models whose rows hold panes, from a datapool to a published version."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.artifact import Artifact, read_artifact
from mods_grpc.data.panes import add_up
from mods_grpc.detection import Detector, Monitor
from mods_grpc.errors import DataError
from training.cli.main import main
from training.data.source import SourceConfig
from training.data.time_range import to_nanoseconds
from training.evaluation.metrics import find_metric
from training.evaluation.scoring import replay_detector
from training.export.onnx_forecaster import open_model
from training.export.parity import check_parity
from training.fitting.prepare import prepare_data
from training.fitting.run import read_run
from training.network.config import ModelConfig

pytestmark = pytest.mark.train
M, DAY, DAYS = 6, 144, 12
START = np.datetime64("2024-01-01T00:00:00")
RANGES = ["--train-time-range", "<2024-01-01,2024-01-10)", "--test-time-range", "<2024-01-10,2024-01-13)"]
MODEL = ["--model-type", "MLP", "--steps-ahead", "7", "--sequence-len", "12", "--level", "--transform", "log1p", "--epochs", "8"]


def draw_bursts() -> np.ndarray:
    """Draw counts of ten minutes with bursts that nobody foresees, and that leave the window an hour later."""
    random = np.random.default_rng(1)
    counts = random.poisson(20, DAYS * DAY + M - 1) + random.poisson(300, DAYS * DAY + M - 1) * (
        random.random(DAYS * DAY + M - 1) < 0.05
    )
    return counts.astype(np.float64)


def write_tables(root: Path, panes: np.ndarray, *, both: bool) -> None:
    for name, values, window in (("w01h-s10m", add_up(panes, M)[M - 1 :], M), ("w10m-s10m", panes, 1))[: 1 + both]:
        for day in range(-(-len(values) // DAY)):
            rows = values[day * DAY : (day + 1) * DAY]
            times = START + (day * DAY + np.arange(len(rows))) * np.timedelta64(600, "s")
            lines = ["window_start\twindow_end\tin_count_uid\tin_distinct_id"]
            lines += [
                f"{t}Z\t{t + np.timedelta64(600 * window, 's')}Z\t{v:g}\t{v % 7:g}" for t, v in zip(times, rows, strict=True)
            ]
            path = root / "conn" / f"2024/01/{day + 1:02d}" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")


def fit_and_export(folder: Path, name: str, *options: str) -> Artifact:
    data = ["--datapool", str(folder / "pool"), "--data-select-query", "conn|in_count_uid~x|in_distinct_id~ids", *RANGES]
    assert main(["fit", *data, *MODEL, "--run", str(folder / name), *options]) == 0
    assert main(["export", "--run", str(folder / name), "--repository", str(folder / "models"), "--name", name]) == 0
    return read_artifact(folder / "models", name, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panes")
    write_tables(folder / "pool", draw_bursts(), both=True)
    return folder


@pytest.fixture(scope="module")
def with_panes(folder: Path) -> Artifact:
    return fit_and_export(folder, "panes", "--panes", "auto")


def mean_error(artifact: Artifact, step: int) -> float:
    metric = find_metric(artifact.manifest.metrics, "MAE", "x", step)
    assert metric
    return metric.value


def test_a_model_with_panes_is_published_with_what_it_takes_and_forecasts_bursts_that_leave(
    folder: Path, with_panes: Artifact
) -> None:
    manifest = with_panes.manifest
    assert [feature.pane for feature in manifest.features] == [True, False]
    assert manifest.panes == M
    assert manifest.features[0].training_maximum > 300  # of whole windows
    assert check_parity(with_panes.model, with_panes.parity) < 5e-6
    card = (folder / "models" / "panes" / "1" / "MODEL_CARD.md").read_text()
    assert "**Rows hold the last 600 s alone of x**" in card
    assert "rows hold the whole window of ids" in card
    plain = fit_and_export(folder, "plain")
    assert plain.manifest.panes == 0
    assert mean_error(with_panes, 1) < 0.75 * mean_error(plain, 1)
    assert mean_error(with_panes, 7) < 1.1 * mean_error(plain, 7)


def test_the_detector_judges_whole_windows_of_rows_with_panes(folder: Path, with_panes: Artifact) -> None:
    run, _ = read_run(folder / "panes")
    data = prepare_data(run.source, run.model)
    manifest, forecast, series, part = with_panes.manifest, open_model(with_panes), data.series, data.parts["test"]
    detector = Detector.from_manifest(manifest)
    table = detector.table(manifest.rows)
    monitor = Monitor(detector, forecast, table, slide_seconds=600, holdoff_rows=M)
    rows = np.arange(part[0].start - manifest.rows, part[0].stop)
    verdicts = monitor.observe(
        np.full(len(rows), table.allocate(), np.intp),
        to_nanoseconds(series.times[rows]),
        series.rows[rows],
        reported=np.ones(len(rows), np.bool_),
        significance=1e-3,
        impute_rows=0,
    )
    scored = np.flatnonzero(np.isfinite(verdicts.p_value))
    assert rows[scored].tolist() == list(range(*part[0].indices(len(series.values))))
    np.testing.assert_array_equal(verdicts.observed[scored], series.values[rows[scored]])
    samples = data.samples["test"]
    at = np.searchsorted(rows, samples.origins)
    np.testing.assert_array_equal(verdicts.forecast[at], forecast(samples.windows, samples.times)[:, 0])
    replayed = replay_detector(manifest, forecast, series, part, 1.0)
    np.testing.assert_array_equal(replayed.p_values, verdicts.p_value[scored])


def test_evaluate_reads_the_panes_of_the_model_again(folder: Path, with_panes: Artifact) -> None:
    output = folder / "evaluation"
    model = str(folder / "models" / "panes" / "1")
    words = ["--datapool", str(folder / "pool"), "--output", str(output), "--no-report"]
    assert main(["evaluate", "--model", model, *words]) == 0
    assert SourceConfig.from_manifest(with_panes.manifest, {"datapool": "d", "panes": "auto"}).panes == "x"


def test_later_rows_change_no_panes_windows_or_weights_of_earlier_ones(tmp_path: Path) -> None:
    panes = draw_bursts() * 10 + 500  # never 0: offsets are estimated
    weights, windows = [], []
    for name in ("one", "other"):
        write_tables(tmp_path / name / "pool", panes, both=False)
        data = ["--datapool", str(tmp_path / name / "pool"), "--data-select-query", "conn|in_count_uid~x", *RANGES]
        run = str(tmp_path / name / "run")
        assert main(["fit", *data, *MODEL[:-1], "1", "--panes", "auto", "--run", run]) == 0
        record, _ = read_run(Path(run))
        assert record.features[0].pane
        assert record.report.exact_panes == {"x": 0}
        weights.append((tmp_path / name / "run" / "weights.npz").read_bytes())
        prepared = prepare_data(record.source, record.model)
        windows.append([prepared.samples[part].windows for part in ("train", "validation", "calibration")])
        cut = 9 * DAY + M - 1
        panes[cut:] = np.random.default_rng(2).permutation(panes[cut:])
    assert weights[0] == weights[1]
    for one, other in zip(*windows, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_window_too_short_for_the_panes_has_none_by_itself_and_is_refused_if_they_are_named(folder: Path) -> None:
    source = SourceConfig(
        datapool=str(folder / "pool"),
        data_select_query="conn|in_count_uid~x",
        train_time_range="<2024-01-01,2024-01-10)",
        panes="auto",
    )
    data = prepare_data(source, ModelConfig(sequence_len=4))
    assert data.series.panes == 0
    np.testing.assert_array_equal(data.samples["train"].windows[:, -1], data.samples["train"].last)
    with pytest.raises(DataError, match="a window has 6 panes"):
        prepare_data(replace(source, panes="x"), ModelConfig(sequence_len=4))


def test_times_of_samples_are_those_of_the_windows_whose_panes_they_end_with(folder: Path) -> None:
    run, _ = read_run(folder / "panes")
    data = prepare_data(run.source, run.model)
    samples = data.samples["train"]
    np.testing.assert_array_equal(samples.times, to_nanoseconds(data.series.times)[samples.origins - 1])
    panes = draw_bursts()
    np.testing.assert_array_equal(samples.windows[:, -1, 0], panes[M - 1 :][samples.origins - 1])
