"""Following folders: what is a log of its own, what is a copy, and many logs at once."""

from pathlib import Path

import pytest

from mods_grpc.ids.sources import follower, text_file
from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.reader import LogReader
from tests.support.live_logs.eve_file import EveFile, ids
from tests.support.small_logs import eve, tsv, write, zeek_json


def open_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_with_a_date_or_a_thread_in_its_name_stands_for_its_log(tmp_path):
    EveFile(tmp_path, "eve-2024-04-19.json").write(0)
    EveFile(tmp_path, "eve.2.json").write(1)
    dated = LogReader(tmp_path / "eve-2024-04-19.json", follow=True)
    thread = LogReader(tmp_path / "eve.2.json", follow=True)
    assert (ids(dated.poll()), ids(thread.poll())) == ([0], [1])
    EveFile(tmp_path, "eve-2024-04-20.json").write(2)
    EveFile(tmp_path, "eve.2.json").write(3)
    EveFile(tmp_path, "eve.3.json").write(4)
    assert (ids(dated.poll()), ids(thread.poll())) == ([2], [3])
    dated.close()
    thread.close()


def test_each_logger_of_a_spool_is_a_log_also_one_that_comes_later_and_no_copy_is_read(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    reader = LogReader(spool, follow=True)
    assert ids(reader.poll()) == []
    for number in (1, 2):
        EveFile(spool / f"logger-{number}").write(number)
    assert sorted(ids(reader.poll())) == [1, 2]
    (tmp_path / "crash").mkdir()
    (spool / "logger-1").rename(spool / "post-terminate-logger-1-crash")  # as zeekctl does after a crash
    (spool / "current").symlink_to(spool / "logger-2")
    EveFile(spool / "logger-1").write(3)
    EveFile(spool / "logger-2").write(4)
    assert sorted(ids(reader.poll())) == [3, 4]
    assert ids(reader.poll()) == []
    reader.close()


def test_many_logs_use_a_bounded_number_of_descriptors_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "MAX_KEPT_OPEN", 4)
    monkeypatch.setattr(text_file._descriptors, "_max_open", 8)
    threads = [EveFile(tmp_path, f"eve.{number}.json") for number in range(60)]
    for number, thread in enumerate(threads):
        thread.write(number)
    before = open_descriptors()
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == list(range(60))
    for number, thread in enumerate(threads):
        thread.write(100 + number)
        thread.path.rename(thread.path.with_name(f"{thread.path.name}.1"))
        thread.write(200 + number)
    assert ids(reader.poll()) == [*range(100, 160), *range(200, 260)]
    assert open_descriptors() - before <= 20
    assert reader.lost == []
    reader.close()


def make_threads(folder, first=0, rounds=1):
    """Write three threads' files, with a record of each in turn every 3 s, for 30 s a round; all are rotated after each round."""
    threads = [EveFile(folder, f"eve.{number}.json") for number in (1, 2, 3)]
    for begin in range(first, first + 30 * rounds, 30):
        for number, thread in enumerate(threads):
            rotate_thread(thread)
            thread.write(*range(begin + number, begin + 30, 3))
    return threads


def rotate_thread(thread):
    for number in (3, 2, 1):
        path = thread.path.with_name(f"{thread.path.name}.{number}")
        if path.exists():
            path.rename(path.with_name(f"{thread.path.name}.{number + 1}"))
    if thread.path.exists():
        thread.path.rename(thread.path.with_name(f"{thread.path.name}.1"))


@pytest.mark.parametrize("step", ["renamed", "created", "written"])
@pytest.mark.parametrize("number", [1, 2])
def test_threads_of_which_some_are_rotated_at_the_first_look_are_read_from_the_same_time(tmp_path, number, step):
    threads = make_threads(tmp_path, rounds=3)
    for thread in threads[:number]:
        rotate_thread(thread)
        if step != "renamed":
            thread.path.touch()
    expected = list(range(60, 90))
    if step == "written":
        threads[0].write(90)
        threads[2].write(92)
        expected += [90, 92]
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == expected
    for index, thread in enumerate(threads[:number], 93):  # which the writer did not reopen yet
        EveFile(tmp_path, f"{thread.path.name}.1").write(index)
    for index, thread in enumerate(threads, 96):
        thread.write(index)
    assert ids(reader.poll()) == [*range(93, 93 + number), 96, 97, 98]
    assert reader.lost == []
    reader.close()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_rotated_files_of_threads_are_history_once_all_of_them_are_rotated(tmp_path, number):
    threads = make_threads(tmp_path, rounds=2)
    for index, thread in enumerate(threads):
        rotate_thread(thread)
        thread.path.touch()
        if index < number:
            thread.write(60 + index)
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == list(range(60, 60 + number))
    reader.close()


def test_a_thread_that_has_no_new_dated_file_yet_is_read_from_the_same_time_as_the_others(tmp_path):
    for hour in (7, 8, 9):
        for number in (0, 1, 2):
            if (hour, number) != (9, 2):  # which has written nothing since
                thread = EveFile(tmp_path, f"eve-20240419-0{hour}00.{number + 1}.json")
                thread.write(*range(30 * hour + number, 30 * hour + 30, 3))
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [number for number in range(240, 300) if number < 270 or number % 3 < 2]
    EveFile(tmp_path, "eve-20240419-0900.3.json").write(300)
    assert ids(reader.poll()) == [300]
    reader.close()


def test_a_thread_that_ended_before_does_not_make_the_rotated_files_of_others_count(tmp_path):
    EveFile(tmp_path, "eve.4.json").write(0, 40)
    make_threads(tmp_path, rounds=3)
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [0, 40, *range(60, 90)]
    reader.close()


def test_a_log_that_is_gone_is_said_to_be_lost_once_over_restarts_until_another_one_is(tmp_path):
    log = EveFile(tmp_path / "logs")

    def restart(saved):
        with LogReader(tmp_path / "logs", follow=True, position=saved) as reader:
            read = ids(reader.poll())
            return read, reader.lost, LogPosition.from_json(reader.position().to_json())

    log.write(1)
    with LogReader(tmp_path / "logs", follow=True) as reader:
        assert ids(reader.poll()) == [1]
        saved = reader.position()
    log.path.unlink()
    read, lost, saved = restart(saved)
    assert (read, lost) == ([], ["eve"])
    for _ in range(2):
        read, lost, saved = restart(saved)
        assert (read, lost) == ([], [])
    log.write(2)
    read, lost, saved = restart(saved)
    assert (read, lost) == ([2], [])
    log.path.unlink()
    assert restart(saved)[:2] == ([], ["eve"])


def poll(reader, times=1):
    return [record.uid for _ in range(times) for record in reader.poll()]


REPEATING = {
    "conn_inbound.log": ("conn.log", tsv, {"path": "conn_inbound"}),
    "http_headers.log": ("http.log", tsv, {"path": "http"}),
    "eve-flow.json": ("eve.json", eve, {}),
}


@pytest.mark.parametrize("name", REPEATING)
def test_a_log_that_repeats_another_one_beside_it_is_not_followed(tmp_path, name):
    original, make, fields = REPEATING[name]
    kind = {} if make is eve else {"path": original.removesuffix(".log")}
    write(tmp_path, {original: make(**kind), name: make(count=2, **fields)})
    reader = LogReader(tmp_path, follow=True)
    assert len(poll(reader)) == 3
    for file, text in {original: make(1, **kind), name: make(1, **fields)}.items():
        (tmp_path / file).rename(tmp_path / f"{file}.1")
        write(tmp_path, {file: text})
    assert len(poll(reader, 3)) == 3
    reader.close()


def test_a_log_in_both_formats_in_folders_of_their_own_is_followed_once(tmp_path):
    write(tmp_path, {"conn.log": tsv(), "json/conn.log": zeek_json()})
    reader = LogReader(tmp_path, follow=True)
    assert len(poll(reader, 2)) == 3
    reader.close()


@pytest.mark.parametrize("folders", ["ab", "ba"])
@pytest.mark.parametrize("is_json_longer", [False, True])
def test_a_log_in_both_formats_that_two_folders_cut_at_other_times_is_followed_once(tmp_path, folders, is_json_longer):
    day, hour = (zeek_json, tsv) if is_json_longer else (tsv, zeek_json)
    whole, part = (tmp_path / folder / "conn.log" for folder in folders)
    for path, numbers, make in ((whole, range(6), day), (part, (4, 5), hour)):
        header = make(count=0)
        write(path.parent, {path.name: header + b"".join(make(number).removeprefix(header) for number in numbers)})
    with LogReader(tmp_path, follow=True) as reader:
        assert len(poll(reader, 2)) == 6 * 3
        part.rename(part.with_name("conn.2024-04-19-00.log"))
        write(part.parent, {part.name: hour(6)})
        with whole.open("ab") as file:
            file.write(day(6).removeprefix(day(count=0)))
        assert len(poll(reader, 2)) == 3
        saved = reader.position()
    with LogReader(tmp_path, follow=True, position=LogPosition.from_json(saved.to_json())) as reader:
        assert poll(reader, 8) == []


@pytest.mark.parametrize("restarts", [1, 2])
def test_a_log_in_both_formats_is_found_also_if_the_watch_was_restarted_before_it_could_tell(tmp_path, restarts):
    write(tmp_path, {"a/conn.log": tsv(), "b/conn.log": zeek_json()})
    saved = None
    for _ in range(restarts):
        with LogReader(tmp_path, follow=True, position=saved) as reader:
            poll(reader)
            saved = LogPosition.from_json(reader.position().to_json())
    assert saved.repeating == {}
    with LogReader(tmp_path, follow=True, position=saved) as reader:
        for number in range(1, 9):
            for folder, make in (("a", tsv), ("b", zeek_json)):
                with (tmp_path / folder / "conn.log").open("ab") as file:
                    file.write(make(number).removeprefix(make(count=0)))
            read = poll(reader)
        assert len(read) == 3
        assert len(reader.position().repeating) == 1


def test_logs_in_both_formats_of_two_sensors_are_both_followed(tmp_path):
    write(tmp_path, {"a/conn.log": tsv(count=9), "b/conn.log": zeek_json(count=9).replace(b'"C', b'"D')})
    with LogReader(tmp_path, follow=True) as reader:
        assert len(poll(reader, 2)) == 18


def test_a_log_that_may_repeat_another_one_is_read_once_it_is_sure_that_it_does_not(tmp_path):
    write(tmp_path, {"conn.log": tsv(1), "conn_internal.log": tsv(2, path="conn_internal")})
    reader = LogReader(tmp_path, follow=True)
    assert len(poll(reader)) == 3  # its records may come in conn.log yet
    write(tmp_path, {"conn.log": tsv(1) + tsv(4)})
    assert len(poll(reader, 2)) == 6
    reader.close()
    write(tmp_path, {"conn.log": tsv(1)})  # which is never written to
    reader = LogReader(tmp_path, follow=True)
    assert len(poll(reader, follower.MAX_LOOKS_FOR_ORIGINAL)) == 6
    reader.close()


def test_a_log_that_turns_out_to_repeat_one_that_came_later_is_followed_no_more(tmp_path):
    write(tmp_path, {"dns.log": tsv(path="dns")})
    reader = LogReader(tmp_path, follow=True)
    assert len(poll(reader)) == 3
    write(tmp_path, {"conn_internal.log": tsv(1, path="conn_internal")})
    assert len(poll(reader)) == 3
    write(tmp_path, {"conn.log": tsv(1)})
    assert len(poll(reader, 3)) == 3
    with (tmp_path / "conn_internal.log").open("ab") as file:
        file.write(tsv(2, path="conn_internal"))
    assert poll(reader, 3) == []
    assert list(reader.position().files) == ["dns", "conn"]
    reader.close()


@pytest.mark.parametrize("name", ["eve-{1:02}.json", "eve.json", "eve-2024-04-{0}-{1:02}.json"])
def test_a_log_whose_folders_have_dates_is_followed_into_the_next_one_also_after_a_restart(tmp_path, name):
    def write_hour(day, hour, number):
        path = tmp_path / f"2024/04/{day}" / name.format(day, hour)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(eve(number, count=1))

    write_hour(18, 22, 0)
    reader = LogReader(tmp_path, follow=True)
    assert poll(reader) == ["0"]
    write_hour(18, 23, 1)
    write_hour(19, 0, 2)
    assert poll(reader, 3) == ["100", "200"]
    saved = reader.position()
    reader.close()
    write_hour(19, 1, 3)
    write_hour(20, 0, 4)
    reader = LogReader(tmp_path, follow=True, position=saved)
    assert poll(reader, 3) == ["300", "400"]
    assert reader.lost == []
    reader.close()


def test_folders_of_dates_beside_a_live_folder_are_archives(tmp_path):
    write(tmp_path, {"2024-04-18/conn.23:00:00-00:00:00.log": tsv(), "current/conn.log": tsv(1), "2024-04-18/conn.log": tsv(2)})
    reader = LogReader(tmp_path, follow=True)
    assert poll(reader, 2) == ["C1x0", "C1x1", "C1x2"]
    reader.close()
    write(tmp_path / "stopped", {"2024-04-18/conn.23:00:00-00:00:00.log": tsv()})
    reader = LogReader(tmp_path / "stopped", follow=True)
    assert poll(reader) == []
    reader.close()


def test_text_called_like_a_log_is_not_followed_but_a_log_that_begins_with_text_is(tmp_path):
    write(
        tmp_path,
        {"conn.log": tsv(), "http.log": b"04/19/2024-00:00:00.000000 example.com[**]/[**]-\n", "dns.log": b"no record\n"},
    )
    reader = LogReader(tmp_path, follow=True)
    assert (len(poll(reader, 2)), reader.counters.malformed) == (3, {})
    with (tmp_path / "dns.log").open("ab") as file:
        file.write(tsv(1, path="dns"))
    assert (len(poll(reader, 2)), reader.counters.malformed) == (3, {"header": 1})
    reader.close()
