import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mods_grpc.errors import DataError
from tests.support.real_data import MODS_2019, needs_mods_2019
from training.data.query import DEFAULT_QUERY, parse_query
from training.data.table import list_numeric_columns, read_table

SELECTION = parse_query(DEFAULT_QUERY)


def test_columns_known_to_the_query_keep_their_origin_and_others_get_a_kind(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("when,conn_in,load,hits\n" + "".join(f"2024-01-01 00:{i}0:00,{i},{i}.5,{i}\n" for i in range(6)))
    series = read_table(path, "when", ["conn_in", "load", "hits", "load:sum"][:3], SELECTION)
    assert [(f.name, f.protocol, f.kind) for f in series.features] == [
        ("conn_in", "conn", "count"),
        ("load", "", "mean"),
        ("hits", "", "count"),
    ]
    assert (series.window_seconds, series.slide_seconds) == (600, 600)
    assert read_table(path, "when", ["load:sum"], SELECTION).features[0].kind == "sum"


def test_seconds_since_1970_and_gaps_are_read_onto_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("ts\tx\n" + "".join(f"{1_700_000_000 + 60 * i}\t{i}\n" for i in (0, 1, 2, 3, 6, 7)))
    series = read_table(path, "ts", ["x"], SELECTION)
    np.testing.assert_array_equal(series.values[:, 0], [0, 1, 2, 3, np.nan, np.nan, 6, 7])
    assert series.report.inserted == 2


def test_a_clock_change_leaves_a_gap_and_shifts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    hours = ["00", "01", "03", "04"]  # local time: the second hour of that night does not exist
    path.write_text("t,x\n" + "".join(f"2019-03-31T{h}:{m}0:00Z,{h}{m}\n" for h in hours for m in range(6)))
    series = read_table(path, "t", ["x"], SELECTION)
    assert np.isnan(series.values[12:18]).all()
    assert series.values[18, 0] == 30
    assert (series.report.holes, series.report.longest_hole, series.report.clock_changes) == (1, 6, 1)


def test_an_hour_that_the_clock_repeats_is_counted_and_what_disagrees_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    hours = ["00", "01", "02", "02", "03"]
    rows = [f"2024-10-27T{hour}:{m}0:00,{100 * i + m}" for i, hour in enumerate(hours) for m in range(6)]
    path.write_text("t,x\n" + "\n".join(rows) + "\n")
    series = read_table(path, "t", ["x"], SELECTION)
    assert (series.report.contradictions, series.report.duplicates, series.report.clock_changes) == (6, 0, 1)
    assert np.isnan(series.values[12:18]).all()


def test_a_compressed_table_is_read_as_the_plain_one(tmp_path: Path) -> None:
    text = "timestamp,value,label\n" + "".join(f"{1_469_894_400 + 300 * i},0.{i + 1},0\n" for i in range(6))
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    first, second = (read_table(path, "timestamp", ["value"], SELECTION) for path in (plain, packed))
    assert first.digest == second.digest
    packed.write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(DataError, match="not a complete gzip file"):
        read_table(packed, "timestamp", ["value"], SELECTION)
    assert list_numeric_columns(plain, "timestamp") == ["value", "label"]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_parquet_file_is_read_as_the_text_of_the_same_table(tmp_path: Path, zone: str | None) -> None:
    times = pd.date_range("2024-01-01", periods=6, freq="10min", tz=zone)
    table = pd.DataFrame({"time": times, "x": [1.5, None, 3.25, 4.0, 5.0, 6.1], "hits": [1, 2, 3, 4, 5, 6], "site": "a"})
    table.to_parquet(tmp_path / "t.parquet", index=False)
    table.to_csv(tmp_path / "t.csv", index=False)
    first, second = (read_table(tmp_path / name, "time", ["x", "hits"], SELECTION) for name in ("t.parquet", "t.csv"))
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.values[:, 0], [1.5, np.nan, 3.25, 4.0, 5.0, 6.1])
    assert list_numeric_columns(tmp_path / "t.parquet", "time") == ["x", "hits"]
    table.set_index("time").to_parquet(tmp_path / "i.parquet")
    assert read_table(tmp_path / "i.parquet", "time", ["x", "hits"], SELECTION).digest == first.digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope", ["x"], None), "found no time column nope among t, x"),
        (("t", ["y"], None), "found no column y"),
        (("t", ["x:rate"], None), "feature kind is 'rate'"),
        (("t", ["x"], "w01h-s20m"), "rows are 600 s apart"),
        (("x", ["x"], None), "row 1 is 1970-01-01T00:00:00.250000000, expected a time in whole seconds"),
    ],
)
def test_a_table_that_is_not_what_was_said_is_refused(
    tmp_path: Path, arguments: tuple[str, list[str], str | None], message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("t,x\n" + "".join(f"2024-01-01T00:{i}0:00,{i}.25\n" for i in range(6)))
    column, features, window_slide = arguments
    with pytest.raises(DataError, match=message):
        read_table(path, column, features, SELECTION, window_slide=window_slide)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: No such file or directory"):
        read_table(tmp_path / "none.csv", "t", ["x"], SELECTION)


@needs_mods_2019
def test_five_months_of_mods_read_with_their_outage_missing() -> None:
    path = MODS_2019
    series = read_table(path, "window_start", [], SELECTION, window_slide="w01h-s10m").interpolate(3)
    assert series.values.shape == (22_176, 4)
    outage = series.values[series.times == np.datetime64("2019-02-18T20:00:00")]
    assert np.isnan(outage).all()
