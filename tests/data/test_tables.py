"""Tables of rows: delimiters, times, missing cells, and what can't be read."""

import io
import math

import pytest

from mods_grpc.data.tables import Layout, gather, parse_time, read_rows
from mods_grpc.errors import DataError

LAYOUT = Layout(features=("a", "b"))


def table_rows(text: str, layout: Layout = LAYOUT) -> list:
    return list(read_rows(io.StringIO(text), layout, "t.csv"))


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("name", ["time", "ts", "Timestamp", "window_start"])
def test_delimiter_and_time_column_are_guessed(delimiter: str, name: str) -> None:
    text = f"b,{name},extra,a\n2,1970-01-01T00:00:01Z,x,1\n".replace(",", delimiter)
    (row,) = table_rows(text)
    assert (row.nanos, row.values, row.series) == (10**9, (1.0, 2.0), "series")


@pytest.mark.parametrize("cell", ["", '""', "-", "NaN", "null", "(empty)"])
def test_a_cell_without_a_value_is_missing(cell: str) -> None:
    (row,) = table_rows(f"time,a,b\n0,{cell},2\n")
    assert math.isnan(row.values[0])


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2019-01-01", 1_546_300_800 * 10**9),
        ("2019-01-01 00:00:00", 1_546_300_800 * 10**9),
        ("2019-01-01T02:00:00+02:00", 1_546_300_800 * 10**9),
        ("2019-01-01T00:00:00.250Z", 1_546_300_800_250_000_000),
        ("1546300800.123456", 1_546_300_800_123_456_000),
        ("1546300800000", 1_546_300_800 * 10**9),
        ("1546300800000000", 1_546_300_800 * 10**9),
        ("1546300800000000001", 1_546_300_800_000_000_001),
    ],
)
def test_a_time_is_read_in_many_forms_and_without_a_zone_as_utc(text: str, nanos: int) -> None:
    assert parse_time(text, "here") == nanos


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("time,a\n", "found no column b for the feature b among time, a"),
        ("x,a,b\n", "name it with --time-column"),
        ("time,a,b\n0,1,2\n0,1\n", "t.csv:3: expected 3 cells"),
        ("time,a,b\nyesterday,1,2\n", "t.csv:2: expected a time"),
        ("time,a,b\n1e40,1,2\n", "t.csv:2: expected a time"),
        ("time,a,b\n9999-01-01,1,2\n", "t.csv:2: expected a time"),
        ("time,a,b\n" + "1" * 200_000 + ",1,2\n", "field larger than field limit"),
        ("time,a,b\n0,1,many\n", "t.csv:2: expected a number in column b, found 'many'"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected.replace("(", r"\(")):
        table_rows(text)


def test_rows_are_gathered_by_series() -> None:
    layout = Layout(features=("a",), series_column="site")
    tables = gather(table_rows("time,a,site\n0,1,y\n0,2,x\n600,3,y\n", layout))
    assert [(table.series, table.values.tolist()) for table in tables] == [("y", [[1.0], [3.0]]), ("x", [[2.0]])]
