import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.real_data import DATAPOOL, needs_datapool
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.data.feature import describe_column
from training.data.series import Series
from training.feature_selection.analysis import analyze
from training.feature_selection.intermittent_demand import classify_demand, croston, croston_tsb

NAN = np.nan


def series_of(**columns: np.ndarray) -> Series:
    walk = make_walk(days=4)
    features = tuple(describe_column(name, "", name) for name in columns)
    return replace(walk, values=np.stack(list(columns.values()), axis=1), features=features)


def test_croston_smooths_sizes_and_intervals_at_demands_only() -> None:
    values = np.array([[0.0], [4.0], [0.0], [0.0], [8.0], [0.0]])
    forecast = croston(values, smoothing=0.5)[:, 0]
    np.testing.assert_allclose(forecast, [NAN, NAN, 2.0, 2.0, 2.0, 6.0 / 2.5])


def test_croston_tsb_decays_while_nothing_comes() -> None:
    values = np.array([[4.0], [0.0], [0.0], [2.0], [0.0]])
    forecast = croston_tsb(values, smoothing=0.5, probability_smoothing=0.5)[:, 0]
    np.testing.assert_allclose(forecast, [NAN, 4.0, 2.0, 1.0, 3.0 * 0.625])


def test_missing_rows_change_neither_forecast() -> None:
    with_holes = np.array([[0.0], [NAN], [4.0], [NAN], [0.0], [NAN], [8.0], [0.0]])
    without = with_holes[np.isfinite(with_holes[:, 0])]
    for method in (croston, croston_tsb):
        np.testing.assert_array_equal(method(with_holes)[np.isfinite(with_holes[:, 0])], method(without))


def test_a_series_without_demand_has_no_forecast() -> None:
    for method in (croston, croston_tsb):
        assert np.isnan(method(np.zeros((5, 2)))).all()


@pytest.mark.parametrize(
    ("values", "demand"),
    [
        ([5, 6, 5, 6], "smooth"),
        ([1, 100, 1, 1], "erratic"),
        ([0, 0, 5, 0, 0, 6], "intermittent"),
        ([0, 0, 1, 0, 0, 100], "lumpy"),
        ([0, 0, NAN], "none"),
    ],
)
def test_demand_is_classed_by_how_often_and_how_evenly_it_comes(values: list[float], demand: str) -> None:
    assert classify_demand(np.array(values, dtype=float)).demand == demand


def test_statistics_and_advice_tell_features_of_different_kinds_apart() -> None:
    random = np.random.default_rng(1)
    rows = 4 * 144
    white, walk = random.normal(100, 5, rows), 1000 + np.cumsum(random.normal(0, 5, rows))
    selection = analyze(
        series_of(
            white=white,
            walk=walk,
            total=white + walk,
            constant=np.full(rows, 7.0),
            absent=np.full(rows, NAN),
            rare=np.where(random.random(rows) < 0.05, random.integers(1, 9, rows), 0).astype(float),
        )
    )
    white_facts, walk_facts, total, constant, absent, rare = selection.statistics
    assert white_facts.adf_p < 0.01 < walk_facts.adf_p
    assert walk_facts.adf_difference_p < 0.01
    assert (white_facts.advice, walk_facts.advice) == ("use", "use, with differences")
    assert walk_facts.acf["next"] > 0.95 > abs(white_facts.acf["next"]) + 0.5
    assert walk_facts.information > white_facts.information + 0.5
    assert total.advice == "leave out: depends on earlier features"
    assert not walk_facts.depends_on_earlier
    assert walk_facts.r2_on_others > 0.999
    assert constant.advice == absent.advice == "leave out: constant"
    assert rare.demand.demand in {"intermittent", "lumpy"}
    assert rare.croston_tsb > 0
    assert rare.advice.startswith("mostly zero")
    assert selection.information.shape == selection.correlation.shape == (6, 6)


def test_rough_statistics_are_noted_in_one_line_instead_of_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 4 * 144
    noise = np.random.default_rng(1).poisson(50, rows).astype(float)
    series = series_of(period=np.tile([1.0, 2.0, 3.0, 4.0], rows // 4), noise=noise, huge=noise * 1e300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert analyze(series).rough == ("period", "huge")
    table = str(write_table(tmp_path / "x.csv", series))
    assert main(["select-features", "--csv", table, "--output", str(tmp_path / "out"), "--no-pictures"]) == 0
    shown = capsys.readouterr()
    assert "note: statistics are rough, as their arithmetic overflowed or was singular, of: period, huge\n" in shown.out
    assert "Warning" not in shown.err


def test_too_few_rows_are_refused() -> None:
    walk = make_walk(days=1)
    with pytest.raises(DataError, match="51 or more"):
        analyze(replace(walk, times=walk.times[:40], values=walk.values[:40]))


def test_a_table_is_examined_with_all_its_columns_of_numbers(tmp_path: Path) -> None:
    table = write_table(tmp_path / "x.csv", make_walk(days=3))
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},site", *(f"{line},north" for line in lines[1:])]) + "\n")
    words = ["select-features", "--csv", str(table), "--time-column", "time", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    tree = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert [feature["name"] for feature in tree["features"]] == ["x0", "x1"]
    assert (tmp_path / "out" / "selection.tsv").read_text().startswith("feature\tmissing\tnot 0")
    for name in ("memory.png", "dependence.png", "intermittence.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_the_options_of_the_data_are_honoured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "x.csv", make_walk(days=3))
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head.replace("time", "window_start") + ",site", *(f"{line},north" for line in lines)]) + "\n")
    words = ["select-features", "--csv", str(table), "--output", str(tmp_path / "out"), "--features", "x1", "--no-pictures"]
    assert main(words) == 0
    both = tmp_path / "both.csv"
    both.write_text(table.read_text() + "\n".join(f"{line},south" for line in lines) + "\n")
    words[2] = str(both)
    assert main([*words, "--series-column", "site"]) == 1
    assert "name one with --only-series" in capsys.readouterr().err
    assert main([*words, "--series-column", "site", "--only-series", "south"]) == 0
    with pytest.raises(SystemExit):
        main([*words, "--interpolate-limit", "-1"])
    assert "--interpolate-limit: expected a whole number from 0 to 2147483647, found '-1'" in capsys.readouterr().err


@needs_datapool
def test_the_columns_of_chosen_protocols_are_examined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["select-features", "--datapool", str(DATAPOOL / "features"), "--output", str(tmp_path), "--no-pictures"]
    words.append("--protocols")
    assert main([*words, "conn,ssl"]) == 0
    assert not list(tmp_path.glob("*.png"))
    names = [feature["name"] for feature in json.loads((tmp_path / "selection.json").read_text())["features"]]
    assert len(names) == 12 + 3
    assert names[0] == "conn_in_sum_orig_bytes"
    assert names[-1] == "ssl_internal"
    assert main([*words, "smtp"]) == 1
    assert "there are conn, dns, http, sip, ssh, ssl" in capsys.readouterr().err
