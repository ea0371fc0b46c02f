"""Many series in one pool, one model for all of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.artifact import read_artifact
from mods_grpc.errors import DataError
from tests.support.training.data import make_walk, write_day
from training.cli.main import main
from training.data.pool import join_parts, join_series
from training.data.series import Series, per_series
from training.data.source import SourceConfig, load_series
from training.data.time_range import parse_interval, to_nanoseconds
from training.data.windows import SplitRanges, make_samples, split_series
from training.export.onnx_forecaster import open_graph
from training.network.calendar import append_calendar

DAY = 144
ROWS, HORIZON = 5, 3
ALL = parse_interval("2024")


def some_series(count: int = 3, days: int = 4) -> dict[str, Series]:
    return {f"host-{i}": make_walk(days, seed=i + 1) for i in range(count)}


def write_pool(path: Path, named: dict[str, Series]) -> Path:
    """Write the rows of all series in one table, in the order of time and not of series."""
    lines = [
        f"{time},{name},{row[0]:g},{row[1]:g}"
        for name, series in named.items()
        for time, row in zip(series.times, series.values, strict=True)
    ]
    path.write_text("\n".join(["time,host,x0,x1", *sorted(lines)]) + "\n")
    return path


def table_source(path: Path, **options: str) -> SourceConfig:
    given = {"train_time_range": "2024", "time_column": "time", "features": "x0,x1", "series_column": "host"}
    return SourceConfig(csv=str(path), **given | options)


def test_the_windows_of_a_pool_are_those_of_its_series() -> None:
    named = some_series()
    pool = join_series(named)
    part = slice(40, 400)
    pooled = make_samples(pool, per_series(pool, part), ROWS, HORIZON)
    single = [make_samples(series, (part,), ROWS, HORIZON) for _, series in sorted(named.items())]
    np.testing.assert_array_equal(pooled.windows, np.concatenate([samples.windows for samples in single]))
    np.testing.assert_array_equal(pooled.targets, np.concatenate([samples.targets for samples in single]))
    seen = [append_calendar(np.zeros((len(s), 1, 1), np.float32), s.times) for s in (pooled, *single)]
    np.testing.assert_array_equal(seen[0], np.concatenate(seen[1:]))


def test_no_window_and_no_gap_that_is_filled_reaches_from_one_series_into_the_next() -> None:
    named = some_series(2, days=1)
    pool = join_series(named)
    assert [member.stop - member.start for member in pool.members] == [DAY, DAY]
    between = pool.values[pool.members[0].stop : pool.members[1].start]
    assert len(between) >= 7 * DAY
    assert np.isnan(between).all()
    assert len(make_samples(pool, (slice(0, len(pool.times)),), ROWS, HORIZON)) == 2 * (DAY - ROWS - HORIZON + 1)


def test_series_that_begin_and_end_at_different_times_share_the_parts() -> None:
    early, late = make_walk(4, seed=1), make_walk(4, seed=2)
    late = replace(late, times=late.times + np.timedelta64(86_400, "s"))
    pool = join_series({"early": early, "late": late})
    assert [member.stop - member.start for member in pool.members] == [5 * DAY, 5 * DAY]
    ranges = SplitRanges(train=parse_interval("<2024-01-01,2024-01-05)"), test=parse_interval("2024-01-05"))
    test = split_series(pool, ranges, ROWS, HORIZON)["test"]
    samples = make_samples(pool, test, ROWS, HORIZON)
    expected = make_samples(late, (late.slice(parse_interval("2024-01-05")),), ROWS, HORIZON)
    np.testing.assert_array_equal(samples.windows, expected.windows)  # the early one has ended


def test_parts_are_brought_together_at_their_time_of_the_week_with_what_lies_before_them() -> None:
    pool = join_series(some_series(3, days=6))
    earlier, later = per_series(pool, slice(0, 3 * DAY)), per_series(pool, slice(4 * DAY, 6 * DAY))
    laid, first, second, members = join_parts(pool, earlier, later, ROWS)
    expected = np.concatenate([pool.values[cut] for cut in earlier])
    known = laid.values[first]
    np.testing.assert_array_equal(known[np.isfinite(known).all(axis=1)], expected)
    samples, wanted = make_samples(laid, (second,), ROWS, HORIZON), make_samples(pool, later, ROWS, HORIZON)
    np.testing.assert_array_equal(samples.windows, wanted.windows)
    week = 7 * 86_400 * 10**9
    np.testing.assert_array_equal(samples.times % week, wanted.times % week)
    assert (np.diff(to_nanoseconds(laid.times)) == 600 * 10**9).all()
    for rows, *parts in zip(members, earlier, later, strict=True):
        np.testing.assert_array_equal(laid.values[rows], np.concatenate([pool.values[part] for part in parts]))
        assert (np.diff(rows) > 0).all()


def test_a_pool_of_one_is_the_series_itself() -> None:
    series = make_walk(2)
    assert join_series({"only": series}) is series
    *joined, members = join_parts(series, (slice(0, 100),), (slice(150, 200),), ROWS)
    assert joined == [series, slice(0, 100), slice(150, 200)]
    np.testing.assert_array_equal(members, [[*range(100), *range(150, 200)]])


def test_series_of_other_features_or_another_grid_are_refused() -> None:
    first = make_walk(2)
    shifted = replace(first, times=first.times + np.timedelta64(60, "s"))
    with pytest.raises(DataError, match="series b is not on the time grid"):
        join_series({"a": first, "b": shifted})
    with pytest.raises(DataError, match="series b differs"):
        join_series({"a": first, "b": replace(first, slide_seconds=300)})


def test_a_table_names_the_series_of_its_rows(tmp_path: Path) -> None:
    named = some_series()
    path = write_pool(tmp_path / "hosts.csv", named)
    pool = load_series(table_source(path), ALL)
    assert pool.report.series == 3
    assert pool.report.rows == 3 * 4 * DAY
    for member, (_, series) in zip(pool.members, sorted(named.items()), strict=True):
        np.testing.assert_array_equal(pool.values[member], series.values)
    alone = load_series(table_source(path, only_series="host-1"), ALL)
    assert not alone.members
    np.testing.assert_array_equal(alone.values, named["host-1"].values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only_series": "host-9"}, "no series host-9; there are host-0, host-1, host-2"),
        ({"series_column": "sensor"}, "sensor"),
        ({"series_column": "", "only_series": "host-1"}, "only_series needs"),
    ],
)
def test_unknown_series_are_an_error_that_lists_the_series(tmp_path: Path, options: dict[str, str], message: str) -> None:
    path = write_pool(tmp_path / "hosts.csv", some_series())
    with pytest.raises(DataError, match=message):
        load_series(table_source(path, **options), ALL)


def test_folders_of_a_datapool_are_series(tmp_path: Path) -> None:
    for index, name in enumerate(("10.0.0.0%2F24", "10.0.1.0%2F24")):
        rows = [f"2024-01-01T{i // 6:02d}:{i % 6}0:00.000Z\t{100 * index + i}" for i in range(60)]
        write_day(tmp_path / name, "ssh", "2024-01-01", "\n".join(["window_start\tin", *rows]) + "\n")
    source = SourceConfig(datapool=str(tmp_path), series_folders=True, train_time_range="2024", data_select_query="ssh|in")
    pool = load_series(source, ALL)
    assert [pool.values[member][0, 0] for member in pool.members] == [0.0, 100.0]
    alone = load_series(replace(source, only_series="10.0.1.0/24"), ALL)
    assert alone.values[0, 0] == 100.0


@pytest.mark.train
def test_one_model_is_fitted_to_a_pool_calibrated_on_all_of_it_and_evaluated_on_one(tmp_path: Path, capsys) -> None:
    path = write_pool(tmp_path / "hosts.csv", some_series(3, days=6))
    data = ["--csv", str(path), "--time-column", "time", "--features", "x0,x1", "--series-column", "host"]
    ranges = ["--train-time-range", "<2024-01-01,2024-01-06)", "--test-time-range", "2024-01-06"]
    model = ["--model-type", "MLP", "--epochs", "2", "--steps-ahead", "2", "--calendar"]
    assert main(["fit", *data, *ranges, *model, "--run", str(tmp_path / "run")]) == 0
    assert "3 series read" in capsys.readouterr().out
    assert main(["export", "--run", str(tmp_path / "run"), "--repository", str(tmp_path / "models"), "--name", "hosts"]) == 0
    artifact = read_artifact(tmp_path / "models", "hosts", 1)
    manifest = artifact.manifest
    assert manifest.calibration_range.rows == 3 * round(5 * DAY * 0.25 - manifest.rows - 2)
    # every row of the three calibration ranges whose windows are full, and none twice
    assert manifest.calibration.samples == manifest.calibration_range.rows
    windows = np.full((1, manifest.rows, 2), 1000.0)
    assert open_graph(artifact.model)(windows, np.zeros(1, np.int64)).shape == (1, 2, 2)
    evaluate = [
        "evaluate",
        "--model",
        str(tmp_path / "models" / "hosts" / "1"),
        *data,
        "--output",
        str(tmp_path / "out"),
        "--no-report",
    ]
    assert main(evaluate) == 1
    assert "name one with --only-series" in capsys.readouterr().err
    assert main([*evaluate, "--only-series", "host-2"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not (tmp_path / "out" / "report.html").exists()
