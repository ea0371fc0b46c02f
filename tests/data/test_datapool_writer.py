"""The writer of the datapool: files, headers and what its buffer does."""

import math
from pathlib import Path

import pytest

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.datapool_layout import find_unfinished, parse_path, unfinished_folders
from mods_grpc.data.datapool_writer import DatapoolWriter
from mods_grpc.errors import DataError
from mods_grpc.features import ALL_FEATURES, AggregateRow, Definition

START_NS = 1_700_000_400 * NANOS_PER_SECOND  # on the grid of ten minutes
ZEROS = {feature.key: 0.0 for feature in ALL_FEATURES.features}


def of(*protocols: str) -> Definition:
    return Definition(tuple(feature for feature in ALL_FEATURES.features if feature.protocol in protocols))


def test_rows_of_many_hosts_are_written_in_several_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mods_grpc.data.datapool_writer.BUFFERED_CHARACTERS", 1_000)
    writer = DatapoolWriter(tmp_path, 3_600, 600, of("ssh"), by_series=True)
    for start in range(3):
        for host in range(20):
            writer.write(AggregateRow(f"10.0.0.{host}", START_NS + start * 600 * NANOS_PER_SECOND, ZEROS))
    writer.close({"ssh"})
    assert len(writer.files) == 20
    assert all(len(path.read_text().splitlines()) == 4 for path in writer.files)


def test_a_row_is_written_to_the_file_of_each_protocol(tmp_path: Path) -> None:
    writer = DatapoolWriter(tmp_path, 3_600, 600, of("ssh", "dns"), by_series=False)
    writer.write(AggregateRow("site", START_NS, ZEROS))
    writer.close({"ssh", "dns"})
    assert writer.files == {tmp_path / protocol / "2023/11/14/w01h-s10m.tsv" for protocol in ("ssh", "dns")}
    header, row = (tmp_path / "ssh/2023/11/14/w01h-s10m.tsv").read_text().splitlines()
    assert header.split("\t")[:3] == ["window_start", "window_end", "in"]
    assert row.split("\t")[:3] == ["2023-11-14T22:20:00.000Z", "2023-11-14T23:20:00.000Z", "0"]


def test_values_are_written_as_whole_numbers_reals_or_missing_in_the_order_of_the_datapool(tmp_path: Path) -> None:
    keys = [
        "conn|out_producer_consumer_ratio",
        "conn|out_new_hosts",
        "conn|out_failed",
        "conn|in_avg_duration",
        "conn|in_count_uid",
    ]
    writer = DatapoolWriter(tmp_path, 3_600, 600, Definition.of(keys), by_series=False)
    values = ({keys[0]: -0.25, keys[1]: math.nan, keys[2]: 3.0, keys[3]: 2.0, keys[4]: 1e15}, dict.fromkeys(keys, 0.0))
    for number, of_row in enumerate(values):
        writer.write(AggregateRow("site", START_NS + number * 600 * NANOS_PER_SECOND, of_row))
    writer.close({"conn"})
    lines = [line.split("\t")[2:] for line in (tmp_path / "conn/2023/11/14/w01h-s10m.tsv").read_text().splitlines()]
    assert lines == [
        ["in_avg_duration", "in_count_uid", "out_failed", "out_new_hosts", "out_producer_consumer_ratio"],
        ["2.0", "1000000000000000", "3", '""', "-0.25"],
        ["0.0", "0", "0", "0", "0.0"],
    ]


def test_protocols_without_any_record_are_removed(tmp_path: Path) -> None:
    writer = DatapoolWriter(tmp_path, 3_600, 600, of("ssh", "dns"), by_series=False)
    writer.write(AggregateRow("site", START_NS, ZEROS))
    writer.close({"ssh"})
    assert [folder.name for folder in tmp_path.iterdir()] == ["ssh"]
    assert len(writer.files) == 1


def test_a_folder_that_is_not_empty_raises_data_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="is not empty"):
        DatapoolWriter(tmp_path, 3_600, 600, of("ssh"), by_series=False)


def write_row(writer: DatapoolWriter) -> None:
    writer.write(AggregateRow("site", START_NS, ZEROS))
    writer.flush()


@pytest.mark.parametrize("exists", [False, True], ids=["a new folder", "an empty folder"])
def test_a_datapool_has_no_files_until_it_is_whole(tmp_path: Path, exists: bool) -> None:
    pool = tmp_path / "pool"
    if exists:
        pool.mkdir()
    with DatapoolWriter(pool, 3_600, 600, of("ssh"), by_series=False) as writer:
        write_row(writer)
        assert find_unfinished(pool) is not None
        assert not (pool / "ssh").exists()
        assert all(parse_path(path.as_posix()) is None for path in tmp_path.rglob("*.tsv"))
        writer.close({"ssh"})
    assert find_unfinished(pool) is None
    assert [path.relative_to(pool).as_posix() for path in pool.rglob("*.tsv")] == ["ssh/2023/11/14/w01h-s10m.tsv"]
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with DatapoolWriter(tmp_path / "pool", 3_600, 600, of("ssh"), by_series=False) as writer:
            write_row(writer)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made_since", [False, True], ids=["the folder is absent", "the folder was made since"])
def test_what_a_killed_process_left_is_removed_and_named(tmp_path: Path, made_since: bool) -> None:
    leftover, _ = unfinished_folders(tmp_path / "pool")
    (leftover / "conn/2020/01/01").mkdir(parents=True)
    if made_since:
        (tmp_path / "pool").mkdir()
    with DatapoolWriter(tmp_path / "pool", 3_600, 600, of("ssh"), by_series=False) as writer:
        assert writer.leftover == leftover
        write_row(writer)
        writer.close({"ssh"})
    assert [path.name for path in (tmp_path / "pool").iterdir()] == ["ssh"]
    assert not leftover.exists()


def test_two_writers_of_one_datapool_are_refused(tmp_path: Path) -> None:
    with DatapoolWriter(tmp_path / "pool", 3_600, 600, of("ssh"), by_series=False):
        with pytest.raises(DataError, match="another process is writing"):
            DatapoolWriter(tmp_path / "pool", 3_600, 600, of("ssh"), by_series=False)
        assert find_unfinished(tmp_path / "pool") is not None


def test_panes_are_tables_of_their_own_from_the_start_of_the_last_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mods_grpc.data.datapool_writer.BUFFERED_CHARACTERS", 100)
    definition = Definition.of(["conn|in_count_uid", "conn|in_avg_duration", "dns|in_distinct_query"])
    writer = DatapoolWriter(tmp_path, 3_600, 600, definition, by_series=False, with_panes=True)
    for number in range(8):
        values = {"conn|in_count_uid": 60.0, "conn|in_avg_duration": 1.5, "dns|in_distinct_query": 3.0}
        start = START_NS + number * 600 * NANOS_PER_SECOND
        writer.write(AggregateRow("site", start, values, {"conn|in_count_uid": float(number)}))
    writer.close({"conn", "dns"})
    rows = []
    for day in ("14", "15"):
        header, *lines = (tmp_path / f"conn/2023/11/{day}/w10m-s10m.tsv").read_text().splitlines()
        assert header.split("\t") == ["window_start", "window_end", "in_count_uid"]
        rows += [line.split("\t") for line in lines]
    assert rows[0] == ["2023-11-14T23:10:00.000Z", "2023-11-14T23:20:00.000Z", "0"]
    assert [row[2] for row in rows] == [str(number) for number in range(8)]
    assert {path.name for path in (tmp_path / "dns").rglob("*.tsv")} == {"w01h-s10m.tsv"}  # of distinct values there are none
    first = (tmp_path / "conn/2023/11/14/w01h-s10m.tsv").read_text().splitlines()[1]
    assert first.split("\t")[0] == "2023-11-14T22:20:00.000Z"
