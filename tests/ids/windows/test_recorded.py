"""Windows from recorded aggregates: rows that repeat are merged as in training, and reported."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.data.tables import TableRow
from mods_grpc.errors import DataError
from mods_grpc.ids.windows.recorded import batch_table_rows, find_datapool, read_datapool

NAN = float("nan")
KEYS = ("ssh|in", "ssh|out")


def row(series: str, nanos: int, *values: float) -> TableRow:
    return TableRow(series=series, nanos=nanos, values=values)


def test_rows_of_one_time_are_one_batch() -> None:
    batches = list(batch_table_rows([row("a", 1, 1.0), row("b", 1, 2.0), row("a", 2, 3.0), row("b", 3, NAN)]))
    assert [(batch.start_ns, batch.series, batch.values.tolist()) for batch in batches] == [
        (1, ("a", "b"), [[1.0], [2.0]]),
        (2, ("a",), [[3.0]]),
    ]


def test_repeated_rows_of_a_table_are_merged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row("a", 1, 1.0, NAN, 7.0), row("a", 1, 1.0, 2.0, 8.0)]
    with caplog.at_level(logging.WARNING):
        (batch,) = batch_table_rows(rows)
    np.testing.assert_array_equal(batch.values, [[1.0, 2.0, NAN]])
    (record,) = caplog.records
    assert (record.message, record.source, record.contradictions) == ("rows_repeated", "table", 1)  # type: ignore[attr-defined]


def test_rows_out_of_order_raise_data_error() -> None:
    with pytest.raises(DataError, match="expected rows in order of time"):
        list(batch_table_rows([row("a", 2, 1.0), row("a", 1, 1.0)]))


def write_day(root: Path, protocol: str, *lines: str) -> None:
    path = root / protocol / "2026/03/02/w01h-s10m.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["window_start\tin\tout", *lines]) + "\n")


def test_repeated_rows_of_a_datapool_are_merged_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = "2026-03-02T00:00:00Z", "2026-03-02T00:10:00Z"
    write_day(tmp_path, "ssh", f"{second}\t3\t4", f"{first}\t1\t", f"{first}\t1\t2", f"{second}\t9\t4")
    datapool = find_datapool(tmp_path, 3_600, 600)
    assert datapool is not None
    with caplog.at_level(logging.WARNING):
        batches = list(read_datapool(datapool, KEYS, (1.0, 2.0), "site"))
    np.testing.assert_array_equal(np.concatenate([batch.values for batch in batches]), [[1.0, 1.0], [NAN, 2.0]])
    assert batches[0].start_ns < batches[1].start_ns
    (record,) = caplog.records
    assert (record.duplicates, record.contradictions) == (1, 1)  # type: ignore[attr-defined]


def test_a_folder_of_other_windows_raises_data_error(tmp_path: Path) -> None:
    assert find_datapool(tmp_path, 3_600, 600) is None
    write_day(tmp_path, "ssh", "2026-03-02T00:00:00Z\t1\t2")
    with pytest.raises(DataError, match=r"holds w01h-s10m.tsv, but the model takes windows of 600 s every 600 s"):
        find_datapool(tmp_path, 600, 600)
