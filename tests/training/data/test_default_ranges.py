"""Ranges chosen from the data: the test range is its last part, and training comes before it."""

from pathlib import Path

import pytest

from mods_grpc.errors import DataError
from tests.support.training.data import make_walk, write_table
from training.data.default_ranges import choose_ranges
from training.data.source import SourceConfig

BOTH = ("train_time_range", "test_time_range")


def source(folder: Path, days: int, **options: str) -> SourceConfig:
    table = write_table(folder / "x.csv", make_walk(days=days))
    ranges = {"train_time_range": "<1970,2200)"} | options
    return SourceConfig(csv=str(table), time_column="time", features="x0", window_slide="w01h-s10m", **ranges)


@pytest.mark.parametrize(("days", "first_of_test"), [(3, "2024-01-03"), (6, "2024-01-05"), (10, "2024-01-09")])
def test_the_last_fifth_of_the_data_in_whole_days_is_the_test_range(tmp_path: Path, days: int, first_of_test: str) -> None:
    chosen = choose_ranges(source(tmp_path, days), BOTH)
    assert chosen.train_time_range == f"<2024-01-01T00:00:00,{first_of_test}T00:00:00)"
    assert chosen.test_time_range == f"<{first_of_test}T00:00:00,2024-01-{days + 1:02d}T00:00:00)"


def test_the_last_fifth_of_less_than_three_days_is_cut_within_a_day(tmp_path: Path) -> None:
    chosen = choose_ranges(source(tmp_path, 1), BOTH)
    assert chosen.test_time_range == "<2024-01-01T19:20:00,2024-01-02T00:00:00)"
    assert chosen.train_time_range == "<2024-01-01T00:00:00,2024-01-01T19:20:00)"


def test_the_data_after_a_given_training_range_is_the_test_range(tmp_path: Path) -> None:
    chosen = choose_ranges(source(tmp_path, 4, train_time_range="<2024-01-01,2024-01-03)"), ["test_time_range"])
    assert (chosen.train_time_range, chosen.test_time_range) == (
        "<2024-01-01,2024-01-03)",
        "<2024-01-03T00:00:00,2024-01-05T00:00:00)",
    )


def test_there_is_no_test_range_after_a_training_range_up_to_the_end_of_the_data(tmp_path: Path) -> None:
    assert choose_ranges(source(tmp_path, 2, train_time_range="2024"), ["test_time_range"]).test_time_range == ""


def test_the_data_before_the_first_given_range_is_the_training_range(tmp_path: Path) -> None:
    given = {"calibration_time_range": "2024-01-03", "test_time_range": "2024-01-04"}
    chosen = choose_ranges(source(tmp_path, 4, **given), ["train_time_range"])
    assert chosen.train_time_range == "<2024-01-01T00:00:00,2024-01-03T00:00:00)"


def test_a_test_range_before_all_data_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data to train on before 2023-01-01T00:00:00; there is data in <2024-01-01"):
        choose_ranges(source(tmp_path, 2, test_time_range="2023-01-01"), ["train_time_range"])
