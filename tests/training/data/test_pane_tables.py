"""Panes from tables of windows of one slide beside the sliding windows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.data.panes import add_up
from tests.support.real_data import DATA
from training.data.feature import describe_column
from training.data.panes.tables import align_panes
from training.data.series import DataReport, Series, make_series
from training.data.source import SourceConfig, load_series
from training.data.time_range import parse_interval

M, SLIDE, DAY = 6, np.timedelta64(600, "s"), 144
START = np.datetime64("2024-01-01T00:00:00")
MODS_2018 = DATA / "mods-2018"
PANES = np.random.default_rng(1).poisson(3000, 3 * DAY + M - 1).astype(np.float64)


def make_counts(values: np.ndarray, first: np.datetime64, window: int) -> Series:
    return make_series(
        first + np.arange(len(values)) * SLIDE,
        values[:, None],
        [describe_column("x", "conn", "in_count_uid")],
        window_seconds=600 * window,
        slide_seconds=600,
        report=DataReport(),
    )


def test_the_pane_of_a_window_is_its_last_slide():
    windows, tumbling = make_counts(add_up(PANES, M)[M - 1 :], START, M), make_counts(PANES, START, 1)
    aligned = align_panes(windows, tumbling)
    np.testing.assert_array_equal(aligned.panes[0].panes, PANES[M - 1 :])
    assert (aligned.slides, aligned.panes[0].exact, aligned.panes[0].impossible) == (0, 3 * DAY, 0)


@pytest.mark.parametrize("slides", [12, -12, 144])
def test_a_constant_difference_of_clocks_is_found(slides):
    windows, tumbling = make_counts(add_up(PANES, M)[M - 1 :], START, M), make_counts(PANES, START - slides * SLIDE, 1)
    aligned = align_panes(windows, tumbling)
    assert aligned.slides == slides
    np.testing.assert_array_equal(aligned.panes[0].panes, PANES[M - 1 :])


def test_rows_whose_panes_do_not_add_up_have_none_and_other_data_has_hardly_any():
    windows, panes = make_counts(add_up(PANES, M)[M - 1 :], START, M), PANES.copy()
    panes[100] += 1
    aligned = align_panes(windows, make_counts(panes, START, 1)).panes[0]
    assert np.flatnonzero(np.isnan(aligned.panes)).tolist() == list(range(100 - M + 1, 101))
    assert aligned.impossible == M
    other = np.random.default_rng(2).poisson(3000, len(PANES)).astype(np.float64)
    assert align_panes(windows, make_counts(other, START, 1)).panes[0].exact < 20


def test_zeros_do_not_hide_a_difference_of_clocks():
    panes = np.zeros(3 * DAY)
    panes[::50] = np.arange(1, 10)[: len(panes[::50])]
    windows, tumbling = make_counts(add_up(panes, M)[M - 1 :], START, M), make_counts(panes, START + 7 * SLIDE, 1)
    assert align_panes(windows, tumbling).slides == -7


def write_pool(root: Path, column: str, values: np.ndarray, window: int, name: str) -> None:
    for day in range(-(-len(values) // DAY)):
        rows = values[day * DAY : (day + 1) * DAY]
        times = START + (day * DAY + np.arange(len(rows))) * SLIDE
        lines = [f"window_start\twindow_end\t{column}"]
        lines += [f"{t}Z\t{t + window * SLIDE}Z\t{v:g}" for t, v in zip(times, rows, strict=True)]
        path = root / "conn" / f"2024/01/{day + 1:02d}" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("column", ["in_count_uid", "in_distinct_query"])
def test_a_datapool_with_both_tables_gives_exact_panes_of_what_adds_up(tmp_path, column):
    write_pool(tmp_path, column, add_up(PANES, M)[M - 1 :], M, "w01h-s10m")
    write_pool(tmp_path, column, PANES, 1, "w10m-s10m")
    source = SourceConfig(
        datapool=str(tmp_path), data_select_query=f"conn|{column}~x", train_time_range="<2024-01-01,2024-01-04)", panes="auto"
    )
    series = load_series(source, parse_interval("<2024-01-01,2024-01-04)"))
    whole = load_series(replace(source, panes=""), parse_interval("<2024-01-01,2024-01-04)"))
    np.testing.assert_array_equal(series.values, whole.values)
    if column == "in_distinct_query":
        assert series.panes == 0
        return
    np.testing.assert_array_equal(series.rows[:, 0], PANES[M - 1 :])
    assert series.report.exact_panes == {"x": 3 * DAY}
    assert series.digest != whole.digest  # other panes would make another model
    (tmp_path / "conn/2024/01/03/w10m-s10m.tsv").unlink()
    fewer = load_series(
        replace(source, panes="x", train_time_ranges_excluded="<2024-01-01,2024-01-02)"), parse_interval("2024-01")
    )
    assert np.isnan(fewer.rows[:DAY]).all()
    assert np.isnan(fewer.rows[2 * DAY :]).all()
    np.testing.assert_array_equal(fewer.rows[DAY : 2 * DAY - M, 0], PANES[M - 1 :][DAY : 2 * DAY - M])


@pytest.mark.skipif(not MODS_2018.is_dir(), reason="no real data: mods-2018 (set MODS_DATA)")
def test_the_two_tables_of_mods_2018_are_120_minutes_apart():
    source = SourceConfig(
        csv=str(MODS_2018 / "w01h-s10m.tsv.gz"),
        panes_csv=str(MODS_2018 / "w10m-s10m.tsv.gz"),
        features="number_of_conn",
        window_slide="w01h-s10m",
        train_time_range="<2018-05-01,2018-06-01)",
        panes="auto",
    )
    series = load_series(source, parse_interval("2018-05"))
    assert series.report.panes_behind == -12
    assert series.report.exact_panes["number_of_conn"] > 0.99 * len(series.values)
    recovered = load_series(replace(source, panes_csv=""), parse_interval("2018-05"))
    present = np.isfinite(series.rows) & np.isfinite(recovered.rows)
    error = np.abs(series.rows - recovered.rows)[present].mean()
    assert error < 0.25 * np.abs(np.diff(series.rows[present])).mean()  # hourly jobs can't be seen in hours
