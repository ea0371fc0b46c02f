import json
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.artifact import TimeRange
from mods_grpc.errors import DataError
from training.data.feature import describe_column
from training.data.series import DataReport
from training.data.source import SourceConfig
from training.fitting.run import RUN_FILE, TrainingRun, read_library_versions, read_run, write_run
from training.network.config import FitConfig, ModelConfig
from training.network.scaler import Scaler

RUN = TrainingRun(
    created="2026-01-01T00:00:00+00:00",
    command="python -m training fit",
    model=ModelConfig(steps_ahead=2),
    fit=FitConfig(),
    source=SourceConfig(csv="x.csv", train_time_range="2024"),
    features=(describe_column("conn_in", "conn", "in_count_uid"),),
    minimum=(0.0,),
    maximum=(0.1 + 0.2,),
    window_seconds=3600,
    slide_seconds=600,
    ranges={"train": TimeRange(start="a", end="b", rows=3)},
    samples={"train": 2},
    data_digest="00",
    report=DataReport(rows=3, missing={"conn_in": 1}),
    scaler=Scaler(
        transform="log1p",
        differencing=True,
        input_mean=np.array([1 / 3]),
        input_scale=np.array([2.0]),
        output_mean=np.array([[0.1], [0.2]]),
        output_scale=np.array([[1.0], [1.5]]),
        highest=np.array([7.5]),
    ),
    naive_error=(1.0,),
    history={"loss": (0.5, 0.4)},
    best_epoch=2,
    interrupted=False,
    libraries=read_library_versions(),
)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path / "run", RUN, b"weights")
    run, weights = read_run(tmp_path / "run")
    assert weights == b"weights"
    for name in ("model", "fit", "source", "features", "maximum", "ranges", "report", "history", "libraries"):
        assert getattr(run, name) == getattr(RUN, name)
    for name in ("input_mean", "input_scale", "output_mean", "output_scale"):
        np.testing.assert_array_equal(getattr(run.scaler, name), getattr(RUN.scaler, name))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.json", "weights.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "another schema"),
        ({"surprise": 1}, "unknown or absent"),
        ({"model": {"layers": 3}}, "unknown or absent"),
        ({"scaler": {}}, "unknown or absent"),
    ],
)
def test_a_run_of_another_form_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_run(tmp_path, RUN, b"weights")
    tree = json.loads((tmp_path / RUN_FILE).read_text()) | change
    (tmp_path / RUN_FILE).write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message):
        read_run(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run directory"):
        read_run(tmp_path)
