"""Each record is read once: links, copies, compressed copies, and logs that hold what others hold."""

import bz2
import gzip
import lzma
import os
import shutil

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_DOUBTFUL
from mods_grpc.ids.sources.copies import find_copies
from mods_grpc.ids.sources.log_files import list_logs
from mods_grpc.ids.sources.reader import LogReader
from tests.support.small_logs import eve, tsv, write, zeek_json

PROTOCOLS = ("conn", "dns", "http", "ssl")
PER_HOUR = 200


def count(*paths):
    """Return the number of records that are read, and the reasons of the files left out by name."""
    with LogReader(paths, protocols=PROTOCOLS) as reader:
        records = sum(1 for _ in reader.poll())
        return records, {file.path.name: file.reason for file in reader.listing.left_out}


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_log_beside_its_compressed_copy_is_read_once(tmp_path, compress):
    write(tmp_path, {"conn.00:00:00-01:00:00.log": tsv(), "conn.00:00:00-01:00:00.log.z": compress(tsv())})
    (tmp_path / "conn.00:00:00-01:00:00.log.z").rename(tmp_path / "conn.00:00:00-01:00:00.log.gz")
    assert count(tmp_path) == (3, {"conn.00:00:00-01:00:00.log.gz": "copy"})


def test_a_copy_that_was_still_being_compressed_or_copied_is_left_out(tmp_path):
    whole = tsv(count=3_000)
    cut = gzip.compress(whole)[:5_000]
    write(tmp_path, {"conn.log": whole, "conn.log.gz": cut, "backup/conn.log": whole[: len(whole) // 2]})
    listing = list_logs([tmp_path], PROTOCOLS, recursive=True)
    assert [file.path for file in listing.files] == [tmp_path / "conn.log"]
    assert {file.reason for file in listing.left_out} == {"copy"}


def test_the_same_file_is_read_once_whatever_names_and_paths_it_has(tmp_path):
    write(tmp_path, {"logs/conn.log": tsv(1), "logs/2024-04-19/conn.log": tsv(2)})
    (tmp_path / "logs" / "dns.log").symlink_to("conn.log")
    os.link(tmp_path / "logs" / "conn.log", tmp_path / "logs" / "conn.hard.log")
    (tmp_path / "again").symlink_to("logs")
    logs = tmp_path / "logs"
    records, left_out = count(logs)
    assert (records, sorted(left_out.values())) == (6, ["copy", "copy"])
    assert left_out["dns.log"] == "copy"
    assert count(logs, logs)[0] == count(logs, logs / "conn.log")[0] == count(tmp_path)[0] == 6
    assert count(logs / "conn.log", logs / "conn.log", tmp_path / "again" / "conn.log")[0] == 3
    assert count(tmp_path / "again")[0] == 6


def test_a_copy_under_any_other_name_is_read_once_and_its_original_named(tmp_path):
    write(tmp_path, {"conn.log": tsv(), "conn-copy.log": tsv(), "old/zeek_conn.log.gz": gzip.compress(tsv())})
    listing = list_logs([tmp_path], PROTOCOLS, recursive=True)
    (kept,) = listing.files
    assert len(listing.left_out) == 2
    assert {(file.reason, file.detail) for file in listing.left_out} == {("copy", f"of {kept.path}")}


def test_files_that_begin_alike_are_all_read(tmp_path):
    header = tsv(count=0)
    first, second, third = (tsv(1, count=number) for number in (1, 2, 3))
    ends = [first + line for line in (tsv(2)[len(header) :], tsv(3)[len(header) :])]
    files = {"a/conn.log": ends[0], "b/conn.log": ends[1], "c/conn.log": header, "d/conn.log": header, "e/conn.log": b""}
    assert count(write(tmp_path / "one", files)) == (8, {})
    # a file that another one begins with, but under another name and without uids
    without_uids = {name: text.replace(b"\tuid", b"\tid") for name, text in (("a/conn.log", second), ("b/zeek_conn.log", third))}
    assert count(write(tmp_path / "other", without_uids))[0] == 5
    assert len(first) < len(second) < len(third)


def test_files_that_differ_in_their_last_byte_are_all_read(tmp_path):
    text = tsv(count=40_000)
    write(tmp_path, {"one/conn.log": text, "other/conn.log": text[:-2] + b"3\n"})
    assert count(tmp_path) == (80_000, {})


def test_a_file_that_is_gone_is_no_copy(tmp_path):
    assert find_copies([tmp_path / "gone", tmp_path / "lost"]) == {}


@pytest.mark.parametrize(
    "name", ["json_streaming_conn.log", "conn-json.log", "conn_json.log", "json_streaming_conn.1.log", "conn.log.labeled"]
)
def test_another_format_of_a_log_is_read_only_where_the_log_is_not_beside_it(tmp_path, name):
    make = tsv if name.endswith("labeled") else zeek_json
    write(tmp_path, {"conn.log": tsv(), name: make(5)})
    assert count(tmp_path) == (3, {name: "repeats conn.log"})
    (tmp_path / "conn.log").unlink()
    assert count(tmp_path) == (3, {})


@pytest.mark.parametrize("base", [tsv, zeek_json], ids=["tsv", "json"])
@pytest.mark.parametrize("other", [tsv, zeek_json], ids=["tsv", "json"])
@pytest.mark.parametrize("name", ["conn_internal.log", "internal_conn.log", "conn-ext.log"])
def test_a_filters_log_is_left_out_if_its_records_are_in_the_log_beside_it(tmp_path, base, other, name):
    path = {"path": name.removesuffix(".log")} if other is tsv else {}
    write(tmp_path, {"conn.log": base(), name: other(count=2, **path)})
    assert count(tmp_path) == (3, {name: "repeats conn.log"})
    write(tmp_path, {name: other(4, **path)})
    assert count(tmp_path) == (6, {})
    (tmp_path / "conn.log").unlink()
    assert count(tmp_path) == (3, {})


def test_each_rotation_of_a_filters_log_is_left_out(tmp_path):
    hours = [f"{hour:02d}:00:00-{hour + 1:02d}:00:00.log.gz" for hour in range(4)]
    empty = tsv(count=0)
    write(tmp_path, {f"conn.{hour}": gzip.compress(tsv(number)) for number, hour in enumerate(hours)})
    write(tmp_path, {f"conn_local.{hour}": gzip.compress(tsv(number, path="conn_local")) for number, hour in enumerate(hours)})
    write(tmp_path, {f"conn_local.{hours[0]}": gzip.compress(empty)})
    records, left_out = count(tmp_path)
    assert records == 12
    assert left_out == {f"conn_local.{hour}": "repeats conn.log" for hour in hours[1:]}
    (tmp_path / f"conn.{hours[3]}").unlink()
    assert count(tmp_path)[0] == 12


def test_combined_json_is_left_out_only_if_all_its_logs_are_beside_it(tmp_path):
    write(tmp_path, {"conn.log": tsv(), "all.json": zeek_json(path="conn")})
    assert count(tmp_path) == (3, {"all.json": "repeats conn.log"})
    write(tmp_path, {"all.json": zeek_json(path="conn") + zeek_json(1, path="ssl")})
    assert count(tmp_path)[0] == 9
    write(tmp_path, {"ssl.log": tsv(1, path="ssl")})
    assert count(tmp_path)[0] == 6


def test_a_log_in_both_formats_is_read_once(tmp_path):
    write(tmp_path, {"conn.log": tsv(), "conn.json": zeek_json()})
    assert count(tmp_path) == (3, {"conn.json": "repeats conn.log"})
    write(tmp_path, {"conn.json": zeek_json(1)})
    assert count(tmp_path) == (6, {})


@pytest.mark.parametrize("folder", ["json", "tsv/../json", "json-logs"])
def test_a_log_in_both_formats_in_folders_of_their_own_is_read_once(tmp_path, folder):
    tsv_folder, _, json_folder = folder.rpartition("/../")
    write(tmp_path, {f"{tsv_folder or '.'}/conn.log": tsv(), f"{json_folder}/conn.log": zeek_json()})
    assert count(tmp_path) == (3, {"conn.log": "repeats conn.log"})
    write(tmp_path, {f"{json_folder}/conn.log": zeek_json(1)})
    assert count(tmp_path) == (6, {})


@pytest.mark.parametrize("folder", ["zeek-json", "json/2024-04-19", "b/c"])
def test_a_log_in_both_formats_in_any_two_folders_is_read_once(tmp_path, folder):
    write(tmp_path, {"zeek/conn.log": tsv(), f"{folder}/conn.00:00:00-01:00:00.log.gz": gzip.compress(zeek_json())})
    assert count(tmp_path) == (3, {"conn.00:00:00-01:00:00.log.gz": "repeats conn.log"})
    write(tmp_path, {"zeek/conn.log": tsv(count=2)})  # one that lacks the last line is the one that is left out
    assert count(tmp_path) == (3, {"conn.log": "repeats conn.log"})
    (left_out,) = list_logs([tmp_path], PROTOCOLS, recursive=True).left_out
    assert left_out.detail == f"of {tmp_path / folder / 'conn.00:00:00-01:00:00.log.gz'}"


def test_logs_in_two_formats_are_both_read_unless_uids_and_times_are_the_same(tmp_path):
    later = zeek_json().replace(b".0,", b".5,")
    other = zeek_json().replace(b"C0x1", b"C0y1")
    longer = zeek_json(count=2) + zeek_json(1)
    nameless = zeek_json().replace(b'"uid"', b'"id"')
    for data in (later, other, longer, nameless):
        write(tmp_path, {"a/conn.log": tsv(), "b/conn.log": data})
        assert count(tmp_path) == (3 + data.count(b"\n"), {})


def hours(folder, make, numbers, extension=".log"):
    return {f"{folder}/conn.{n:02d}:00:00-{n + 1:02d}:00:00{extension}": make(360 * n, count=PER_HOUR) for n in numbers}


def day(make, numbers=range(24)):
    header = make(count=0)
    return header + b"".join(make(360 * n, count=PER_HOUR).removeprefix(header) for n in numbers)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(("make", "other"), [(tsv, zeek_json), (zeek_json, tsv), (tsv, tsv)], ids=["json", "tsv", "same format"])
def test_a_log_that_two_folders_cut_at_other_times_is_read_once(tmp_path, make, other, compress):
    files = hours("2024-04-18", make, range(24)) | {"daily/conn.2024-04-18.log": day(other)}
    write(tmp_path, {name: compress(text) for name, text in files.items()})
    expected = {"conn.2024-04-18.log"} if make is tsv else {name.rpartition("/")[2] for name in hours("", make, range(24))}
    records, left_out = count(tmp_path)
    assert (records, set(left_out)) == (24 * PER_HOUR, expected)
    assert count(tmp_path / "2024-04-18", tmp_path / "daily")[0] == 24 * PER_HOUR
    assert list_logs([tmp_path], PROTOCOLS, recursive=True).overlapping == ()


def test_hours_of_a_day_that_another_folder_has_whole_are_left_out(tmp_path):
    write(tmp_path, hours("tsv-hours", tsv, (3, 4, 9, 23)) | {"all/conn.log": day(zeek_json)})
    records, left_out = count(tmp_path)
    assert (records, len(left_out)) == (24 * PER_HOUR, 4)


def test_logs_in_two_folders_that_share_some_records_are_both_read_and_it_is_said(tmp_path, capsys):
    write(tmp_path, hours("some", tsv, range(12, 24)) | {"other/conn.log": day(zeek_json, range(13))})
    assert count(tmp_path) == (24 * PER_HOUR, {"conn.12:00:00-13:00:00.log": "repeats conn.log"})
    halves = {"half/conn.log": day(tsv, range(2, 13)), "other/conn.log": day(zeek_json, range(5))}
    write(tmp_path / "halves", halves)
    assert count(tmp_path / "halves") == (16 * PER_HOUR, {})
    listing = list_logs([tmp_path / "halves"], PROTOCOLS, recursive=True)
    assert [{path.parent.name for path in pair} for pair in listing.overlapping] == [{"half", "other"}]
    assert main(["aggregate", str(tmp_path / "halves"), "--output", str(tmp_path / "pool")]) == EXIT_DOUBTFUL
    assert "share some of their records, which count twice: give one of the two folders alone" in capsys.readouterr().err


def test_sensors_side_by_side_share_nothing(tmp_path):
    files = hours("a", tsv, range(24)) | {"b/conn.log": day(zeek_json).replace(b'"C', b'"D')}
    assert count(write(tmp_path, files)) == (48 * PER_HOUR, {})


def test_an_output_of_suricata_that_repeats_events_is_told_from_one_that_splits_them(tmp_path):
    write(tmp_path, {"eve.json": eve() + eve(1), "eve-flow.json": eve()})
    assert count(tmp_path) == (6, {"eve-flow.json": "repeats eve.json"})
    # events of the same flows, but other ones
    write(tmp_path, {"eve.json": eve(kind="http"), "eve-flow.json": eve()})
    assert count(tmp_path) == (6, {})


def test_requests_of_one_connection_that_a_filter_split_are_all_read(tmp_path):
    one, other = tsv(path="http", count=2), tsv(path="http-images", count=2).replace(b"0.000000", b"9.500000")
    write(tmp_path, {"http.log": one, "http-images.log": other})
    assert count(tmp_path) == (4, {})


def test_a_copy_taken_by_logrotate_is_read_once(tmp_path):
    write(tmp_path, {"eve.json": eve()})
    shutil.copy(tmp_path / "eve.json", tmp_path / "eve.json.1")  # copytruncate, before it truncates
    records, left_out = count(tmp_path)
    assert (records, list(left_out.values())) == (3, ["copy"])
