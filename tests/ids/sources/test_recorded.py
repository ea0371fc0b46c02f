"""Reading recorded files merged by write time, whatever their names, folders, compression and number."""

import gzip
import lzma
import random
import subprocess
import sys

import pytest

from mods_grpc.features import ALL_FEATURES, Definition
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.file_heads import first_record_ns
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.sources.recorded import with_write_times
from mods_grpc.ids.watch.replay import ReplayProgress
from tests.support.paths import ROOT
from tests.support.small_logs import START, eve, tsv, write

CONN = Definition(tuple(feature for feature in ALL_FEATURES.features if feature.protocol == "conn"))
SECOND = 10**9
HOUR = 3_600
HEADER = tsv(count=0)


def lines(*seconds):
    """Return a log with a connection at each of the given seconds; the uid says when."""
    return HEADER + b"".join(b"%d.000000\tC%d\t203.0.113.1\t1024\t10.0.0.1\t22\n" % (START + at, at) for at in seconds)


def read(*paths, protocols=("conn",)):
    with LogReader(paths, protocols=protocols) as reader:
        return [int(record.uid[1:]) for record in reader.poll()], reader


LAYOUTS = {
    "sensors": lambda writer, hour: f"sensor{writer}/2024-04-19/conn.{hour:02d}:00:00-{hour + 1:02d}:00:00.log",
    "loggers": lambda writer, hour: f"2024-04-19/conn.{hour:02d}:00:00-{hour + 1:02d}:00:00-logger-{writer}.log",
    "threads": lambda writer, hour: f"conn.{writer}.log-2024041{hour}",
    "no order in the names": lambda writer, hour: f"{(7 * writer + 3 * hour) % 11}-{writer}-{hour}_conn.log",
    "numbers that count up": lambda writer, hour: f"{writer}/conn.log.{hour + 1}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_merged_by_time_whatever_their_names(tmp_path, layout):
    times = {(writer, hour): range(HOUR * hour + writer, HOUR * (hour + 1), 97) for writer in range(4) for hour in range(5)}
    write(tmp_path, {LAYOUTS[layout](*key): lines(*seconds) for key, seconds in times.items()})
    assert read(tmp_path)[0] == sorted(at for seconds in times.values() for at in seconds)


def test_several_paths_are_merged_as_one(tmp_path):
    write(tmp_path, {"a/conn.log": lines(0, 3, 6), "b/conn.log": lines(1, 4, 7), "c.log": lines(2, 5, 8)})
    assert read(tmp_path / "a", tmp_path / "b", tmp_path / "c.log")[0] == list(range(9))


def test_files_that_follow_each_other_are_not_open_together(tmp_path):
    write(
        tmp_path,
        {f"conn.{hour:02d}:00:00-{hour + 1:02d}:00:00.log": lines(*range(HOUR * hour, HOUR * hour + 9)) for hour in range(20)},
    )
    with LogReader(tmp_path) as reader:
        opened = {len(reader._recorded._open) for _ in reader.poll()}
        assert max(opened) <= 2
        assert reader.files_read == 20


@pytest.mark.parametrize("position", [0, 1, 30, 59])
def test_a_wrong_time_anywhere_in_a_file_changes_the_order_of_no_other_record(tmp_path, position):
    parts = [[HOUR * hour + 60 * minute for minute in range(60)] for hour in range(6)]
    right = sorted(at for part in parts for at in part)
    for wrong in (90 * 86_400, -1_000 * 86_400):
        moved = [*parts[2][:position], parts[2][position] + wrong, *parts[2][position + 1 :]]
        files = {f"{hour}/conn.log": lines(*(moved if hour == 2 else part)) for hour, part in enumerate(parts)}
        records, _ = read(write(tmp_path / str(wrong), files))
        assert [at for at in records if at in right] == [at for at in right if at in records]
        assert len(records) == len(right)


def test_a_single_wrong_record_in_a_file_of_its_own_waits_for_no_time_that_never_comes(tmp_path):
    wrong = 90 * 86_400
    write(tmp_path, {"conn.log.3": lines(1), "conn.log.2": lines(wrong), "conn.log.1": lines(5), "zeek_conn.log": lines(3, 7)})
    assert read(tmp_path)[0] == [1, 3, wrong, 5, 7]


def test_a_log_whose_first_lines_have_no_record_is_merged(tmp_path):
    stats = b'{"timestamp": "2024-04-19T00:00:00.000000+0000", "event_type": "stats", "x": "%s"}\n' % (b"y" * 1_000)
    write(tmp_path, {"eve.json": stats * 300 + eve(1), "conn.log": tsv(0) + tsv(2)})
    assert first_record_ns(tmp_path / "eve.json") is None
    with LogReader(tmp_path) as reader:
        assert [record.ts for record in reader.poll()] == [(START + at) * SECOND for at in (0, 1, 2, 10, 11, 12, 20, 21, 22)]


def test_the_first_record_of_a_file_is_the_earliest_of_a_few(tmp_path):
    far = 90 * 86_400
    write(
        tmp_path, {"conn.log": lines(far, 7, 5, 9), "early_conn.log": lines(7, -far, 9), "gz.log": b"\x1f\x8b", "empty.log": b""}
    )
    assert first_record_ns(tmp_path / "conn.log") == (START + 5) * SECOND
    assert first_record_ns(tmp_path / "early_conn.log") == (START + 7 - HOUR) * SECOND
    assert (
        first_record_ns(tmp_path / "empty.log") is first_record_ns(tmp_path / "gz.log") is first_record_ns(tmp_path / "x") is None
    )


def test_an_iterator_that_is_dropped_loses_and_repeats_nothing(tmp_path):
    write(tmp_path, {"a/conn.log": lines(*range(0, 100, 2)), "b/conn.log": lines(*range(1, 100, 2))})
    draw = random.Random(1)
    records = []
    with LogReader(tmp_path) as reader:
        while len(records) < 100:
            for record in reader.poll():
                records.append(int(record.uid[1:]))
                if draw.random() < 0.3:
                    break
    assert records == list(range(100))


def test_a_damaged_file_is_counted_by_name_and_read_to_the_damage_on_every_path(tmp_path):
    text = lines(*range(3_000))
    for suffix, compress in (("gz", gzip.compress), ("xz", lzma.compress)):
        whole = compress(text)
        folder = write(tmp_path / suffix, {f"conn.log.{suffix}": whole[: len(whole) * 2 // 3]})
        records, reader = read(folder)
        assert 500 < len(records) < 3_000
        batch = BulkAggregator([folder], CONN)
        list(batch.rows())
        for counters in (reader.counters, batch.counters):
            assert counters.damaged_files == {"damaged file": 1}
            assert counters.first_damaged == {"damaged file": f"conn.log.{suffix}"}
            assert counters.records == len(records)


def test_a_line_that_the_damage_cuts_is_no_record_on_any_path(tmp_path):
    folder = write(tmp_path, {"conn.log.gz": gzip.compress(lines(1, 2) + lines(3).removeprefix(HEADER)[:-2])[:-8]})
    assert read(folder)[0] == [1, 2]
    for size in (7, 1 << 20):
        batch = BulkAggregator([folder], CONN, block_bytes=size)
        list(batch.rows())
        assert (batch.counters.records, batch.counters.malformed) == (2, {"cut": 1})


def test_the_listing_and_the_progress_are_there_for_the_account(tmp_path):
    write(tmp_path, {"conn.log": tsv(), "conn.log.1.gz": gzip.compress(tsv(1)), "ftp.log": tsv(path="ftp")})
    with LogReader(tmp_path) as reader:
        progress = ReplayProgress(reader)
        assert progress.total == sum((tmp_path / name).stat().st_size for name in ("conn.log", "conn.log.1.gz"))
        assert (progress(), reader.files_read) == (0, 0)
        assert sum(1 for _ in reader.poll()) == 6
        assert (progress(), reader.files_read) == (progress.total, 2)
        assert [file.path.name for file in reader.listing.left_out] == ["ftp.log"]


def test_write_times_never_decrease_and_skip_wrong_ones():
    times = [3, 1, 9 * HOUR, 4, 5]
    written = [when // SECOND for when, _ in with_write_times(iter(times), lambda seconds: seconds * SECOND)]
    assert written == [3, 3, 4, 4, 5]
    last = with_write_times(iter([3, 9 * HOUR]), lambda seconds: seconds * SECOND, next_ns=4 * SECOND)
    assert [when // SECOND for when, _ in last] == [3, 4]


READ_MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from pathlib import Path
from mods_grpc.ids.sources.reader import LogReader
reader = LogReader(Path(sys.argv[1]))
times = [record.ts for record in reader.poll()]
print(len(times), times == sorted(times), reader.counters.damaged_files)
"""


def test_more_files_than_may_be_open_are_merged_though_all_overlap(tmp_path):
    write(tmp_path, {f"sensor{number}/conn.log": lines(*range(number, 100_000, 1_000)) for number in range(300)})
    child = subprocess.run([sys.executable, "-c", READ_MANY, tmp_path], capture_output=True, cwd=ROOT, text=True, check=False)
    assert (child.stdout, child.stderr) == ("30000 True {}\n", "")
