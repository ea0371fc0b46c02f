"""Tables of rows: delimiters, times, missing cells, and what can't be read."""

import gzip
import io
import math
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.data.tables import TableLayout, TextTable, find_time_column, group_by_series, open_table, read_rows
from mods_grpc.errors import DataError

LAYOUT = TableLayout(features=("a", "b"))


def table_rows(text: str, layout: TableLayout = LAYOUT) -> list:
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
        ("time,a,b\n\n0,1,2\n\n0,1,many\n", "t.csv:5: expected a number in column b, found 'many'"),
        ('time,a,b,note\n0,1,2,"two\nlines"\n0,1,many,\n', "t.csv:4: expected a number in column b, found 'many'"),
        ("time,a,b\n0,1,2,3\n", "t.csv:2: expected 3 cells like the header, found 4"),
        ("time,a,b,a\n0,1,2,3\n", "t.csv: 2 columns are named a; expected one"),
        ('time,a,b\n0,1,2\n1,"1,2\n', "t.csv:3: unexpected end of data"),
        ("time,a,b\n0,1,inf\n", "t.csv:2: expected a number in column b, found 'inf'"),
    ],
)
def test_a_malformed_table_raises_data_error_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected.replace("(", r"\(")):
        table_rows(text)


def test_rows_are_grouped_by_series() -> None:
    layout = TableLayout(features=("a",), series_column="site")
    tables = group_by_series(table_rows("time,a,site\n0,1,y\n0,2,x\n600,3,y\n", layout))
    assert [(table.series, table.values.tolist()) for table in tables] == [("y", [[1.0], [3.0]]), ("x", [[2.0]])]


def test_a_row_without_the_name_of_its_series_raises_data_error() -> None:
    with pytest.raises(DataError, match=r"t.csv:3: expected the name of a series in column site"):
        table_rows("time,a,site\n0,1,y\n0,2,\n", TableLayout(features=("a",), series_column="site"))


def test_space_around_column_names_and_a_byte_order_mark_are_ignored() -> None:
    (row,) = table_rows("\ufefftime , a, b\n1,2,3\n")
    assert row.values == (2.0, 3.0)


def test_a_column_that_is_not_read_may_be_repeated() -> None:
    (row,) = table_rows("time,a,b,x,x\n1,2,3,4,5\n")
    assert row.values == (2.0, 3.0)


def test_a_whole_table_is_read_as_its_rows_are() -> None:
    text = "time;a;b\n2019-01-01;1;\n\n2019-01-02;-;4.5\n"
    table = TextTable.read(io.StringIO(text), "t.csv")
    rows = table_rows(text)
    assert (table.header, len(table)) == (("time", "a", "b"), 2)
    assert table.times("time").tolist() == [row.nanos for row in rows]
    np.testing.assert_array_equal(table.numbers("a"), [row.values[0] for row in rows])
    np.testing.assert_array_equal(table.numbers("b"), [row.values[1] for row in rows])
    assert table.texts("b") == ["", "4.5"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time,a\n0,1\n\n0,many\n", "t.csv:4: expected a number in column a"),
        ("time,a\n0,1,2\n", "t.csv:2: expected 2 cells like the header, found 3"),
        ("time,b\n0,1\n", "t.csv: found no column a among time, b"),
        ("time,a,a\n0,1,2\n", "t.csv: 2 columns are named a"),
        ("", "t.csv: is empty"),
    ],
)
def test_a_malformed_whole_table_raises_data_error_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        TextTable.read(io.StringIO(text), "t.csv").numbers("a")


def test_errors_of_a_table_without_lines_count_its_rows() -> None:
    table = TextTable("t.parquet", [("a", ["1", "many"])])
    with pytest.raises(DataError, match=r"t.parquet row 2: expected a number in column a, found 'many'"):
        table.numbers("a")


def test_a_table_without_rows_has_empty_columns() -> None:
    table = TextTable.read(io.StringIO("time,a\n"), "t.csv")
    assert (len(table), table.numbers("a").tolist(), table.times("time").tolist()) == (0, [], [])


@pytest.mark.parametrize(
    ("header", "wanted", "expected"),
    [
        (("end", "TS", "x"), None, "TS"),
        (("time", "window_start"), None, "window_start"),
        (("time", "end"), "end", "end"),
    ],
)
def test_the_time_column_is_the_wanted_one_or_the_first_usual_name(
    header: tuple[str, ...], wanted: str | None, expected: str
) -> None:
    assert find_time_column(header, wanted, "t.csv") == expected


def test_a_compressed_table_is_read_as_the_plain_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time,a,b\n0,1,2\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"time,a,b\n0,1,2\n", mtime=0))
    rows = []
    for name in ("t.csv", "t.csv.gz"):
        with open_table(tmp_path / name) as lines:
            rows.append(list(read_rows(lines, LAYOUT, name)))
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", b"time,a,b\n0,1,\xff\n", "expected text in UTF-8"),
        ("t.csv.gz", b"time,a,b\n", "is not a complete gzip file"),
        ("t.csv.gz", gzip.compress(b"time,a,b\n" + b"0,1,2\n" * 99, mtime=0)[:-9], "is not a complete gzip file"),
    ],
)
def test_a_file_that_cannot_be_decoded_raises_data_error(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected), open_table(tmp_path / name) as lines:
        list(read_rows(lines, LAYOUT, name))
