"""What is said of data before a model is fitted to it."""

from pathlib import Path

import numpy as np
import pytest

from mods_grpc.detection.scores.conformal import make_curve
from mods_grpc.errors import DataError
from tests.support.training.data import make_walk, write_table
from training.data.source import SourceConfig
from training.fitting.prepare import MIN_CALIBRATION_SAMPLES, list_warnings, prepare_data
from training.network.config import ModelConfig

MODEL = ModelConfig(model_type="MLP", sequence_len=8, steps_ahead=4, transform="log1p")


def write_source(folder: Path, *lowered: int) -> SourceConfig:
    """Write a table of three features, of which some fall below 0."""
    walk = make_walk(days=6, features=3)
    walk.values[:, lowered] -= 2_000.0
    table = write_table(folder / "x.csv", walk)
    return SourceConfig(csv=str(table), features="x0,x1,x2", window_slide="w01h-s10m", train_time_range="<2024-01-01,2024-01-06)")


@pytest.mark.parametrize(("lowered", "names", "pronoun"), [((1,), ["x1"], "it"), ((0, 2), ["x0", "x2"], "them")])
def test_a_transform_that_takes_no_negative_values_names_the_features_that_have_some(
    tmp_path: Path, lowered: tuple[int, ...], names: list[str], pronoun: str
) -> None:
    with pytest.raises(DataError) as refused:
        prepare_data(write_source(tmp_path, *lowered), MODEL)
    message = refused.value.message
    assert message.startswith("--transform log1p takes no values below 0, and there are some of ")
    assert [name for name in ("x0", "x1", "x2") if f"{name} (down to -" in message] == names
    assert f"leave {pronoun} out of the features, or give --transform none" in message


def test_few_calibration_windows_are_warned_of_and_what_they_bound(tmp_path: Path) -> None:
    data = prepare_data(write_source(tmp_path), MODEL)
    number = len(data.samples["calibration"])
    assert number < MIN_CALIBRATION_SAMPLES
    (warning,) = [text for text in list_warnings(write_source(tmp_path), data) if "calibration windows" in text]
    assert f"only {number} calibration windows: p-values can't fall below 1/{number + 1} and are coarse" in warning
    assert warning.endswith(f"{MIN_CALIBRATION_SAMPLES} or more are advised, from which smaller ones are extrapolated")


def test_as_many_calibration_windows_as_are_advised_have_a_tail() -> None:
    scores = np.random.default_rng(1).exponential(size=MIN_CALIBRATION_SAMPLES)
    assert make_curve(scores).tail is not None
    assert make_curve(scores[1:]).tail is None
