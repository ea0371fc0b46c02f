from pathlib import Path

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.real_data import DATAPOOL, needs_datapool
from tests.support.training.data import format_datapool, make_row_times, write_day, zip_days
from training.data.datapool import read_datapool
from training.data.query import DEFAULT_QUERY, parse_query
from training.data.time_range import parse_interval

JUNE = parse_interval("2019-06")
QUERY = "conn|in_count_uid~a;ssh|in~b"


def small_pool(root: Path) -> Path:
    write_day(
        root,
        "conn",
        "2019-06-01",
        format_datapool([(t, {"in_count_uid": str(100 + i)}) for i, t in enumerate(make_row_times(6))]),
    )
    write_day(root, "ssh", "2019-06-01", format_datapool([(t, {"in": str(i)}) for i, t in enumerate(make_row_times(6))]))
    return root


def test_loose_files_and_archives_give_the_same_series(tmp_path: Path) -> None:
    loose = small_pool(tmp_path / "loose")
    (tmp_path / "packed").mkdir()
    zip_days(loose, tmp_path / "packed" / "2019-06-01.zip")
    first = read_datapool(loose, parse_query(QUERY), JUNE)
    second = read_datapool(tmp_path / "packed", parse_query(QUERY), JUNE)
    np.testing.assert_array_equal(first.values, second.values)
    assert first.digest == second.digest
    assert first.report.files == second.report.files == 2


def test_the_order_of_protocols_never_swaps_the_columns_of_two_queries(tmp_path: Path) -> None:
    pool = small_pool(tmp_path)
    one = read_datapool(pool, parse_query("conn|in_count_uid~a;ssh|in~b"), JUNE)
    other = read_datapool(pool, parse_query("ssh|in~b;conn|in_count_uid~a"), JUNE)
    assert (one.names, other.names) == (["a", "b"], ["b", "a"])
    np.testing.assert_array_equal(one.values, other.values[:, ::-1])
    again = read_datapool(pool, parse_query("conn|in_count_uid~a;ssh|in~b"), JUNE)
    np.testing.assert_array_equal(one.values, again.values)


def test_a_changed_file_is_seen_because_nothing_is_cached(tmp_path: Path) -> None:
    pool = small_pool(tmp_path)
    first = read_datapool(pool, parse_query(QUERY), JUNE)
    write_day(pool, "ssh", "2019-06-01", format_datapool([(t, {"in": "7"}) for t in make_row_times(6)]))
    second = read_datapool(pool, parse_query(QUERY), JUNE)
    assert first.digest != second.digest
    assert (second.values[:, 1] == 7).all()


def test_rows_are_put_in_the_order_of_their_own_times(tmp_path: Path) -> None:
    rows = [(t, {"in": str(i)}) for i, t in enumerate(make_row_times(6))]
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool(rows[::-1]))
    series = read_datapool(tmp_path, parse_query("ssh|in"), JUNE)
    np.testing.assert_array_equal(series.values[:, 0], np.arange(6.0))


def test_missing_rows_are_inserted_and_stay_missing_until_the_repair(tmp_path: Path) -> None:
    rows_left = [
        row
        for i, row in enumerate((t, {"in": str(10 * i)}) for i, t in enumerate(make_row_times(12)))
        if i not in (2, 5, 6, 7, 8)
    ]
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool(rows_left))
    series = read_datapool(tmp_path, parse_query("ssh|in"), JUNE)
    assert series.report.inserted == 5
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(series.values[:, 0])), [2, 5, 6, 7, 8])
    repaired = series.interpolate(3)
    assert repaired.values[2, 0] == 20.0
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(repaired.values[:, 0])), [5, 6, 7, 8])
    assert repaired.report.interpolated == {"in": 1}
    np.testing.assert_array_equal(series.interpolate(4).values[:, 0], 10.0 * np.arange(12))


def test_an_empty_cell_is_missing_and_becomes_0_only_where_asked_for(tmp_path: Path) -> None:
    cells = ["1", '""', "3", "4"]
    write_day(
        tmp_path, "ssh", "2019-06-01", format_datapool([(t, {"in": c}) for t, c in zip(make_row_times(4), cells, strict=True)])
    )
    series = read_datapool(tmp_path, parse_query("ssh|in"), JUNE)
    np.testing.assert_array_equal(series.values[:, 0], [1, np.nan, 3, 4])
    assert series.report.missing == {"in": 1}
    filled = read_datapool(tmp_path, parse_query("ssh|in"), JUNE, zero_fill=["in"])
    np.testing.assert_array_equal(filled.values[:, 0], [1, 0, 3, 4])
    assert (filled.report.zero_filled, filled.report.missing) == ({"in": 1}, {"in": 0})


def test_bytes_are_converted_in_floats_and_missing_rows_do_not_matter(tmp_path: Path) -> None:
    rows = [(t, {"in_sum_orig_bytes": str(1536 * i)}) for i, t in enumerate(make_row_times(4)) if i != 2]
    write_day(tmp_path, "conn", "2019-06-01", format_datapool(rows))
    series = read_datapool(tmp_path, parse_query("conn|in_sum_orig_bytes~sent_kB"), JUNE)
    np.testing.assert_array_equal(series.values[:, 0], [0, 1.5, np.nan, 4.5])


def test_duplicates_are_merged_and_contradictions_become_missing(tmp_path: Path) -> None:
    rows = [(t, {"in": str(i), "out": "5"}) for i, t in enumerate(make_row_times(4))]
    rows += [(make_row_times(4)[1], {"in": "1", "out": "5"}), (make_row_times(4)[2], {"in": "99", "out": "5"})]
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool(rows))
    series = read_datapool(tmp_path, parse_query("ssh|in|out"), JUNE)
    assert (series.report.duplicates, series.report.contradictions) == (1, 1)
    np.testing.assert_array_equal(series.values, [[0, 5], [1, 5], [np.nan, 5], [3, 5]])


def test_rows_off_the_grid_or_of_another_length_are_set_aside_and_counted(tmp_path: Path) -> None:
    rows = [(t, {"in": str(i)}) for i, t in enumerate(make_row_times(4))]
    text = format_datapool(rows) + "2019-06-01T00:05:00.000Z\t2019-06-01T01:05:00.000Z\t77\n"
    text += "2019-06-01T00:40:00.000Z\t2019-06-01T03:40:00.000Z\t88\n"
    write_day(tmp_path, "ssh", "2019-06-01", text)
    series = read_datapool(tmp_path, parse_query("ssh|in#window_start,window_end"), JUNE)
    assert series.report.off_grid == 2
    assert len(series.times) == 4


def test_protocols_are_outer_joined_on_the_start_of_the_window(tmp_path: Path) -> None:
    write_day(tmp_path, "conn", "2019-06-01", format_datapool([(t, {"in_count_uid": "1"}) for t in make_row_times(4)[:3]]))
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool([(t, {"in": "2"}) for t in make_row_times(4)[1:]]))
    series = read_datapool(tmp_path, parse_query(QUERY), JUNE)
    np.testing.assert_array_equal(series.values, [[1, np.nan], [1, 2], [1, 2], [np.nan, 2]])


def test_other_windows_and_slides_are_read_by_their_name(tmp_path: Path) -> None:
    text = "window_start\tin\n" + "".join(f"2019-06-01T00:0{i}:00.000Z\t{i}\n" for i in range(5))
    write_day(tmp_path, "ssh", "2019-06-01", text, "w10m-s01m")
    series = read_datapool(tmp_path, parse_query("ssh|in"), JUNE, window_slide="w10m-s01m")
    assert (series.window_seconds, series.slide_seconds, series.holdoff_rows) == (600, 60, 10)
    assert len(series.times) == 5


@pytest.mark.parametrize(
    ("query", "window_slide", "message"),
    [
        ("smb|in", "w01h-s10m", "no protocol smb .* there are conn, ssh; .* aggregate again"),
        ("ssh|inn", "w01h-s10m", "no column inn; there are window_start, window_end, in"),
        ("ssh|in", "w10m-s10m", "there are none"),
        ("ssh|in", "1h", "expected the form w01h-s10m"),
        ("ssh|in", "w10m-s01h", "not above the window"),
    ],
)
def test_what_is_not_there_is_refused_and_the_rest_listed(tmp_path: Path, query: str, window_slide: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_datapool(small_pool(tmp_path), parse_query(query), JUNE, window_slide=window_slide)


def test_text_where_a_number_belongs_is_refused_with_its_row(tmp_path: Path) -> None:
    write_day(
        tmp_path,
        "ssh",
        "2019-06-01",
        format_datapool([(t, {"in": "1" if i else "many"}) for i, t in enumerate(make_row_times(3))]),
    )
    with pytest.raises(DataError, match="expected a number"):
        read_datapool(tmp_path, parse_query("ssh|in"), JUNE)


def test_data_outside_the_range_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is data from 2019-06-01 to 2019-06-01"):
        read_datapool(small_pool(tmp_path), parse_query(QUERY), parse_interval("2020"))


@needs_datapool
def test_the_datapool_of_mods_reads_alike_from_files_and_archives() -> None:
    interval = parse_interval("<2019-06-01,2019-06-04)")
    loose = read_datapool(DATAPOOL / "features", parse_query(DEFAULT_QUERY), interval)
    packed = read_datapool(DATAPOOL / "zip", parse_query(DEFAULT_QUERY), interval)
    assert loose.digest == packed.digest
    assert loose.values.shape == (432, 4)
    assert np.isfinite(loose.values).all()
    both = read_datapool(DATAPOOL, parse_query(DEFAULT_QUERY), interval)
    assert (both.digest, both.report.duplicates) == (loose.digest, 3 * 432)


@needs_datapool
def test_sip_with_its_odd_header_and_missing_rows_reads() -> None:
    query = parse_query("sip|in_count_uid~sip_in|in_distinct_`id.orig_h`~sip_hosts|internal_count_uid~sip_internal")
    series = read_datapool(DATAPOOL / "features", query, parse_interval("<2019-06-01,2019-06-04)"), zero_fill=["sip_internal"])
    assert len(series.times) == 432
    assert series.report.inserted == 14
    assert series.report.zero_filled == {"sip_internal": 418}
    assert np.isnan(series.interpolate(1).values[:, 0]).sum() > 0
    assert np.isfinite(series.interpolate(4).values[:, 0]).all()


def test_the_window_and_slide_of_all_files_need_no_name(tmp_path: Path) -> None:
    times = [(t, {"in": "1"}) for t in make_row_times(2)]
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool(times), "w10m-s10m")
    series = read_datapool(tmp_path, parse_query("ssh|in"), JUNE)
    assert (series.window_seconds, series.slide_seconds) == (600, 600)
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool(times))
    series = read_datapool(tmp_path, parse_query("ssh|in"), JUNE)  # the others are the panes of these
    assert (series.window_seconds, series.slide_seconds) == (3600, 600)
    write_day(tmp_path, "ssh", "2019-06-01", format_datapool(times), "w30m-s10m")
    with pytest.raises(DataError, match="holds files of w01h-s10m, w10m-s10m, w30m-s10m; choose one with --window-slide"):
        read_datapool(tmp_path, parse_query("ssh|in"), JUNE)


def test_a_folder_without_files_of_a_datapool_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files such as conn/2026/01/05/w01h-s10m"):
        read_datapool(tmp_path, parse_query("ssh|in"), JUNE)


@pytest.mark.parametrize("folder", [".pool.unfinished", "pool/.pool.unfinished"])
def test_a_datapool_that_was_not_finished_is_refused_with_what_to_do(tmp_path: Path, folder: str) -> None:
    write_day(tmp_path / folder, "ssh", "2019-06-01", format_datapool([(t, {"in": "1"}) for t in make_row_times(2)]))
    with pytest.raises(DataError, match=r"pool is not whole, only .*\.unfinished is there; .* or run it again"):
        read_datapool(tmp_path / "pool", parse_query("ssh|in"), JUNE)
