"""Following logs that grow, rotate, are emptied, compressed and moved, and resuming at a saved position."""

import gzip
import json
import os
import random
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from mods_grpc.errors import DataError
from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.reader import LogReader, read_path
from tests.support.live_logs.eve_file import EveFile, ids

START = 1_713_484_800


def header(opened, protocol="conn"):
    return (
        f"#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\t{protocol}\n#open\t{opened}\n"
        "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\n#types\ttime\tstring\taddr\tport\taddr\tport\n"
    )


def line(number):
    return f"{START + number}.000000\tC{number}\t203.0.113.1\t1024\t10.0.0.1\t22\n"


def numbers(records):
    return [int(record.uid[1:]) for record in records]


class Zeek:
    """Writes conn.log as Zeek does: header first, a new file at each rotation, the old one moved away and compressed."""

    def __init__(self, root):
        self.live = root / "current"
        self.archive = root / "2024-04-19"
        self.live.mkdir()
        self.archive.mkdir()
        self.log = self.live / "conn.log"
        self.written = self.rotations = 0

    def write(self, count):
        if not self.log.exists():
            self.log.write_text(header(f"2024-04-19-{self.rotations:02d}-00-00"))
        with self.log.open("a") as file:
            for _ in range(count):
                file.write(line(self.written))
                self.written += 1

    def rotate(self):
        rotated = self.live / f"conn-24-04-19_{self.rotations:02d}.00.00.log"
        self.log.rename(rotated)
        self.rotations += 1
        return rotated

    def compress(self, rotated):
        stamp = f"{self.rotations - 1:02d}:00:00-{self.rotations:02d}:00:00"
        (self.archive / f"conn.{stamp}.log.gz").write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()


@pytest.fixture
def zeek(tmp_path):
    return Zeek(tmp_path)


def test_appended_lines_are_read_once(zeek):
    zeek.write(3)
    reader = LogReader(zeek.live, follow=True)
    assert numbers(reader.poll()) == [0, 1, 2]
    assert numbers(reader.poll()) == []
    zeek.write(2)
    assert numbers(reader.poll()) == [3, 4]
    reader.close()


def test_an_incomplete_line_is_read_when_it_is_complete(zeek):
    zeek.write(1)
    reader = LogReader(zeek.live, follow=True)
    with zeek.log.open("a") as file:
        file.write(line(1)[:20])
        file.flush()
        assert numbers(reader.poll()) == [0]
        assert numbers(reader.poll()) == []
        file.write(line(1)[20:])
    assert numbers(reader.poll()) == [1]
    assert reader.counters.rejected == 0
    reader.close()


def test_a_live_folder_may_be_empty_at_first_and_get_logs_later(zeek):
    reader = LogReader(zeek.live, follow=True)
    assert numbers(reader.poll()) == []
    zeek.write(2)
    (zeek.live / "ssh.log").write_text(header("x", "ssh") + line(7))
    (zeek.live / "ftp.log").write_text(header("x", "ftp") + line(8))
    (zeek.live / "weird.log").write_text(header("x", "weird") + line(9))
    assert numbers(reader.poll()) == [0, 1, 7, 9]
    reader.close()


def test_rotation_loses_and_repeats_nothing(zeek):
    zeek.write(3)
    reader = LogReader(zeek.live, follow=True)
    assert numbers(reader.poll()) == [0, 1, 2]
    zeek.write(1)
    rotated = zeek.rotate()
    assert numbers(reader.poll()) == [3]
    zeek.compress(rotated)
    zeek.write(2)
    assert numbers(reader.poll()) == [4, 5]
    for _ in range(3):  # three rotations between two looks
        zeek.write(2)
        zeek.compress(zeek.rotate())
    zeek.write(1)
    assert numbers(reader.poll()) == [6, 7, 8, 9, 10, 11, 12]
    assert numbers(reader.poll()) == []
    reader.close()


def test_a_truncated_file_is_read_from_its_beginning(zeek):
    zeek.write(3)
    reader = LogReader(zeek.log, follow=True)
    assert numbers(reader.poll()) == [0, 1, 2]
    zeek.log.write_text(header("2024-04-19-09-00-00") + line(50))
    assert numbers(reader.poll()) == [50]
    zeek.log.write_text(header("2024-04-19-10-00-00") + "".join(line(60 + i) for i in range(20)))  # longer than before
    assert numbers(reader.poll()) == list(range(60, 80))
    reader.close()


def test_reading_resumes_at_a_saved_position_after_rotation_compression_and_move(zeek):
    zeek.write(5)
    reader = LogReader(zeek.live, follow=True)
    records = reader.poll()
    assert numbers(next(records) for _ in range(3)) == [0, 1, 2]
    saved = reader.position().to_json()
    reader.close()
    zeek.compress(zeek.rotate())
    zeek.write(2)
    zeek.compress(zeek.rotate())
    zeek.write(2)
    zeek.rotate()
    zeek.write(2)
    again = LogReader(zeek.live, follow=True, position=LogPosition.from_json(saved))
    assert numbers(again.poll()) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert again.lost == []
    again.close()


def test_a_rotated_file_next_to_its_compressed_copy_is_read_once(zeek):
    zeek.write(2)
    reader = LogReader(zeek.live, follow=True)
    list(reader.poll())
    saved = LogPosition.from_json(reader.position().to_json())
    reader.close()
    zeek.compress(zeek.rotate())
    zeek.write(2)
    rotated = zeek.rotate()
    copy = zeek.live / "kept"
    shutil.copy(rotated, copy)
    zeek.compress(rotated)
    copy.rename(rotated)
    zeek.write(1)
    again = LogReader(zeek.live, follow=True, position=saved)
    assert numbers(again.poll()) == [2, 3, 4]
    again.close()


def test_a_position_whose_file_is_gone_is_reported_as_lost(zeek):
    zeek.write(2)
    reader = LogReader(zeek.live, follow=True)
    list(reader.poll())
    saved = reader.position()
    reader.close()
    zeek.rotate().unlink()
    zeek.write(2)
    again = LogReader(zeek.live, follow=True, position=saved)
    assert again.lost == ["conn"]
    assert numbers(again.poll()) == [2, 3]
    again.close()


@pytest.mark.parametrize("seed", range(5))
def test_random_writes_rotations_and_kills_lose_and_repeat_no_line(zeek, seed):
    draw = random.Random(seed)
    reader = LogReader(zeek.live, follow=True)
    read, waiting = [], []
    for _ in range(60):
        for _ in range(draw.randrange(4)):
            action = draw.choice(("write", "write", "rotate", "compress"))
            if action == "write":
                zeek.write(draw.randrange(1, 5))
            elif action == "rotate" and zeek.log.exists():
                for rotated in waiting:
                    zeek.compress(rotated)
                waiting = [zeek.rotate()]
            elif action == "compress" and waiting:
                zeek.compress(waiting.pop())
        records = reader.poll()
        if draw.random() < 0.3:  # killed after some records, started again
            read += numbers(islice(records, draw.randrange(1, 4)))
            saved = reader.position().to_json()
            records.close()
            reader.close()
            reader = LogReader(zeek.live, follow=True, position=LogPosition.from_json(saved))
        else:
            read += numbers(records)
    zeek.write(1)
    read += numbers(reader.poll())
    reader.close()
    assert read == list(range(zeek.written))


def test_a_folder_of_rotations_is_read_in_order_and_logs_are_merged_by_time(tmp_path):
    for part in range(3):
        (tmp_path / f"conn.{part:02d}:00:00-{part + 1:02d}:00:00.log.gz").write_bytes(
            gzip.compress((header(str(part)) + line(100 * part) + line(100 * part + 2)).encode())
        )
    (tmp_path / "ssh.log").write_text(header("x", "ssh") + line(1) + line(101) + line(300))
    assert numbers(read_path(tmp_path)) == [0, 1, 2, 100, 101, 102, 200, 202, 300]
    with LogReader(tmp_path) as reader:
        assert numbers(islice(reader.poll(), 4)) == [0, 1, 2, 100]
        assert numbers(reader.poll()) == [101, 102, 200, 202, 300]


def test_damaged_and_unreadable_files_are_counted_and_the_others_read(tmp_path):
    whole = gzip.compress((header("a") + "".join(map(line, range(2_000)))).encode())
    (tmp_path / "conn.00:00:00-01:00:00.log.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "conn.01:00:00-02:00:00.log.gz").write_bytes(b"\x1f\x8b" + bytes(range(200)))
    (tmp_path / "conn.02:00:00-03:00:00.log.gz").write_bytes(b"")
    (tmp_path / "conn.03:00:00-04:00:00.log").write_text(header("b") + line(5_000))
    reader = LogReader(tmp_path)
    read = numbers(reader.poll())
    assert read[:-1] == list(range(len(read) - 1))
    assert 500 < len(read) < 2_000
    assert read[-1] == 5_000
    assert reader.counters.damaged_files == {"damaged file": 2}
    assert reader.counters.first_damaged == {"damaged file": "conn.01:00:00-02:00:00.log.gz"}
    assert reader.counters.lines == reader.counters.records + reader.counters.ignored + reader.counters.rejected


def test_lines_that_are_too_long_are_rejected_in_bounded_memory(tmp_path):
    log = tmp_path / "conn.log"
    with log.open("w") as file:
        file.write(header("a") + line(0))
        file.write("x" * (10 << 20) + "\n")
        file.write(line(1))
        file.write("y" * (10 << 20))
    refused = []
    reader = LogReader(log, on_rejected=lambda path, reason, text: refused.append((Path(path).name, reason, len(text))))
    assert numbers(reader.poll()) == [0, 1]
    assert refused == [("conn.log", "long", 4_096)] * 2
    assert reader.counters.lines == 12


def test_a_source_without_logs_and_a_damaged_position_are_rejected(tmp_path):
    with pytest.raises(DataError, match="no such"):
        LogReader(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no logs of"):
        LogReader(tmp_path)
    for damaged in ("", "[]", "{}", json.dumps({"version": 2, "logs": {"conn": {}}}), json.dumps({"version": 1, "logs": {}})):
        with pytest.raises(DataError, match="position"):
            LogPosition.from_json(damaged)


def resumed(reader, path, **options):
    saved = reader.position().to_json()
    reader.close()
    return LogReader(path, follow=True, position=LogPosition.from_json(saved), **options)


def test_files_deleted_before_they_were_read_are_said_to_be_lost_and_the_others_read(tmp_path, caplog):
    eve = EveFile(tmp_path)
    eve.write(0, 1)
    reader = LogReader(eve.path, follow=True)
    assert ids(reader.poll()) == [0, 1]
    for number in range(2, 8):  # six rotations, of which two files stay
        eve.rotate(keep=2)
        eve.write(number)
    reader = resumed(reader, eve.path)
    assert ids(reader.poll()) == [5, 6, 7]
    assert reader.lost == ["eve"]
    assert [record.message for record in caplog.records] == ["records_lost"]
    reader.close()


def test_a_file_that_is_deleted_between_two_looks_is_lost_only_if_others_may_be(tmp_path):
    eve = EveFile(tmp_path)
    eve.write(0)
    reader = LogReader(eve.path, follow=True)
    assert ids(reader.poll()) == [0]
    eve.path.unlink()
    eve.write(1)
    assert ids(reader.poll()) == [1]
    assert reader.lost == []
    for number in (2, 3, 4):
        eve.rotate(keep=1)
        eve.write(number)
    assert ids(reader.poll()) == [3, 4]
    assert reader.lost == ["eve"]
    reader.close()


def test_an_emptied_file_without_a_copy_is_said_to_be_lost(tmp_path):
    eve = EveFile(tmp_path)
    eve.write(0, 1, 2)
    reader = LogReader(eve.path, follow=True)
    assert ids(reader.poll()) == [0, 1, 2]
    eve.path.write_text("")
    assert ids(reader.poll()) == []
    eve.write(3)
    assert ids(reader.poll()) == [3]
    assert reader.lost == ["eve"]
    reader.close()


def test_a_file_that_a_crash_of_the_machine_has_cut_is_not_read_again(tmp_path):
    eve = EveFile(tmp_path)
    eve.write(*range(40))
    reader = LogReader(eve.path, follow=True)
    assert ids(reader.poll()) == list(range(40))
    os.truncate(eve.path, sum(len(eve.line(number)) for number in range(30)))
    eve.write(50, 51)
    reader = resumed(reader, eve.path)
    assert ids(reader.poll()) == [50, 51]
    assert reader.lost == ["eve"]
    reader.close()


def test_a_size_that_is_out_of_date_repeats_nothing(tmp_path, monkeypatch):
    eve = EveFile(tmp_path)
    eve.write(*range(40))
    reader = LogReader(eve.path, follow=True)
    assert ids(reader.poll()) == list(range(40))
    size = len(eve.line(0)) * 30
    present, read = os.fstat, os.pread

    def stale_fstat(file):
        status = list(present(file))
        status[6] = min(status[6], size)
        return os.stat_result(status)

    with monkeypatch.context() as network:
        network.setattr(os, "fstat", stale_fstat)
        network.setattr(os, "pread", lambda file, count, offset: read(file, max(0, min(count, size - offset)), offset))
        for _ in range(5):
            assert ids(reader.poll()) == []
    eve.write(40)
    assert ids(reader.poll()) == [40]
    assert reader.lost == []
    reader.close()


def test_a_last_line_in_the_file_before_is_read_also_after_a_restart(tmp_path):
    first, second = (EveFile(tmp_path, f"eve-2024-04-19-0{hour}:00.json") for hour in (0, 1))
    first.write(0)
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [0]
    second.write(1)
    assert ids(reader.poll()) == [1]
    first.write(2)
    assert ids(reader.poll()) == [2]
    reader = resumed(reader, tmp_path)
    first.write(3)
    assert ids(reader.poll()) == [3]
    reader.close()


def test_a_clock_that_is_set_back_loses_no_file(tmp_path):
    late, early = EveFile(tmp_path, "eve-2024-04-19-05:00.json"), EveFile(tmp_path, "eve-2024-04-19-02:00.json")
    late.write(18_000)
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [18_000]
    early.write(7_200)
    assert ids(reader.poll()) == [7_200]
    early.write(7_201)
    assert ids(reader.poll()) == [7_201]
    reader.close()


def test_the_older_of_dated_files_are_history_at_the_start(tmp_path):
    for hour in range(3):
        EveFile(tmp_path, f"eve-2024-04-19-0{hour}:00.json").write(hour)
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [2]
    EveFile(tmp_path, "eve-2024-04-19-03:00.json").write(3)
    assert ids(reader.poll()) == [3]
    reader.close()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_log_that_can_not_be_read_when_the_reader_starts_again_is_read_on_once_it_can(zeek, what):
    zeek.write(3)
    reader = LogReader(zeek.live, follow=True)
    assert numbers(reader.poll()) == [0, 1, 2]
    position = reader.position()
    reader.close()
    zeek.write(2)
    denied = zeek.log if what == "file" else zeek.live
    hidden = denied.rename(zeek.live.parent / "hidden")
    denied.symlink_to(denied.name)  # not even root can open it
    for _ in range(2):  # restarts
        reader = LogReader(zeek.live, follow=True, position=LogPosition.from_json(position.to_json()))
        for _ in range(20):
            with suppress(OSError):
                assert numbers(reader.poll()) == []
        position = reader.position()
        assert reader.lost == []
        reader.close()
    reader = LogReader(zeek.live, follow=True, position=position)
    denied.unlink()
    hidden.rename(denied)
    assert numbers(reader.poll()) == [3, 4]
    zeek.write(1)
    assert numbers(reader.poll()) == [5]
    reader.close()


def test_an_unreadable_log_is_counted_and_said_once(tmp_path, monkeypatch, caplog):
    eve = EveFile(tmp_path)
    eve.write(0)
    reader = LogReader(eve.path, follow=True)

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied", str(eve.path))

    with monkeypatch.context() as denied:
        denied.setattr("mods_grpc.ids.sources.followed_log.FollowedFile", refuse)
        for _ in range(20):
            assert ids(reader.poll()) == []
    assert reader.counters.damaged_files == {"unreadable file": 1}
    assert [record.message for record in caplog.records] == ["file_unreadable"]
    assert ids(reader.poll()) == [0]
    reader.close()


def test_a_line_cut_by_a_crash_of_its_writer_costs_one_line_and_the_header_after_it_counts(tmp_path):
    log = tmp_path / "conn.log"
    log.write_text(header("a") + line(0) + line(1)[:30])
    reader = LogReader(log, follow=True)
    assert numbers(reader.poll()) == [0]
    with log.open("a") as file:
        file.write(header("b") + line(2))
    assert numbers(reader.poll()) == [2]
    assert reader.counters.rejected == 1
    reader.close()


def test_a_file_read_long_ago_is_not_read_again_while_it_is_compressed(zeek):
    zeek.write(2)
    reader = LogReader(zeek.live, follow=True)
    assert numbers(reader.poll()) == [0, 1]
    waiting = []
    for _ in range(3):
        waiting.append(zeek.rotate())
        zeek.write(1)
        assert numbers(reader.poll()) == [zeek.written - 1]
    data = gzip.compress(waiting[0].read_bytes())
    target = zeek.archive / "conn.00:00:00-01:00:00.log.gz"
    for size in range(20, len(data) + 1, 15):
        target.write_bytes(data[:size])
        waiting.append(zeek.rotate())
        zeek.write(1)
        assert numbers(reader.poll()) == [zeek.written - 1]
    reader.close()
