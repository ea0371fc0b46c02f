"""Numbers in names that keep the extension, of rotations and of threads, at the moments at which they are hard to tell apart."""

import os

import pytest

from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.reader import LogReader
from tests.support.live_logs.eve_file import EveFile, ids


def write(folder, **numbers):
    """Write events; `eve` is eve.json, and `eve_1` eve.1.json."""
    for name, values in numbers.items():
        EveFile(folder, f"{name.replace('_', '.')}.json").write(*values)


def rotate(folder, *, again=True):
    """Give each file the next number, the highest first."""
    for path in sorted(folder.glob("eve.*.json"), reverse=True):
        path.rename(folder / f"eve.{int(path.name.split('.')[1]) + 1}.json")
    (folder / "eve.json").rename(folder / "eve.1.json")
    if again:
        (folder / "eve.json").touch()


def restart(reader, folder):
    saved = reader.position().to_json()
    reader.close()
    return LogReader(folder, follow=True, position=LogPosition.from_json(saved))


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", ["", "eve.json"])
def test_a_rotation_is_read_once_also_before_the_live_file_is_there_again(tmp_path, name, again, is_restarted):
    write(tmp_path, eve_2=[0], eve_1=[1], eve=[2])
    reader = LogReader(tmp_path / name, follow=True)
    assert ids(reader.poll()) == [2]
    write(tmp_path, eve=[3])
    rotate(tmp_path, again=again)
    write(tmp_path, eve_1=[4])  # by a writer that has it still open
    if is_restarted:
        reader = restart(reader, tmp_path / name)
    assert ids(reader.poll()) == [3, 4]
    write(tmp_path, eve=[5])
    rotate(tmp_path, again=again)
    write(tmp_path, eve=[6])
    assert ids(reader.poll()) == [5, 6]
    assert reader.lost == []
    reader.close()


def test_a_rotation_that_can_not_be_read_for_a_while_is_waited_for(tmp_path, monkeypatch):
    write(tmp_path, eve=[0])
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [0]
    write(tmp_path, eve=[1])
    rotate(tmp_path)
    write(tmp_path, eve=[2])
    denied = str(tmp_path / "eve.1.json")
    with monkeypatch.context() as patch:
        opened = os.open

        def open_allowed(path, *args, **options):
            if str(path) == denied:
                raise PermissionError(13, "Permission denied", denied)
            return opened(path, *args, **options)

        patch.setattr(os, "open", open_allowed)
        reader = restart(reader, tmp_path)
        assert ids(reader.poll()) == []
    assert (ids(reader.poll()), reader.lost) == ([1, 2], [])
    reader.close()


def test_threads_beside_an_older_file_without_a_number_are_logs_of_their_own(tmp_path):
    write(tmp_path, eve=[0])
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [0]
    write(tmp_path, eve_1=[])
    assert ids(reader.poll()) == []
    write(tmp_path, eve_1=[1, 3], eve_2=[2, 4])
    assert ids(reader.poll()) == [1, 2, 3, 4]
    reader = restart(reader, tmp_path)
    (tmp_path / "eve.json").unlink()
    write(tmp_path, eve_1=[5, 7], eve_2=[6, 8])
    assert ids(reader.poll()) == [5, 6, 7, 8]
    reader.close()


def test_files_that_overlap_are_threads_although_a_file_without_a_number_is_newer(tmp_path):
    write(tmp_path, eve_1=[0, 1000], eve_2=[10, 1010], eve=[100])
    reader = LogReader(tmp_path, follow=True)
    assert sorted(ids(reader.poll())) == [0, 10, 100, 1000, 1010]
    reader.close()


def test_threads_that_take_the_place_of_a_deleted_file_are_noticed_by_their_overlap(tmp_path):
    write(tmp_path, eve=[0])
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [0]
    reader = restart(reader, tmp_path)
    (tmp_path / "eve.json").unlink()
    write(tmp_path, eve_1=[1, 200], eve_2=[2, 201])
    assert ids(reader.poll()) == [1, 2, 200, 201]
    reader.close()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_rotation_taken_for_a_thread_is_noticed_when_its_number_changes(tmp_path, is_restarted):
    write(tmp_path, eve_1=[0, 1])
    reader = LogReader(tmp_path, follow=True)  # between renaming the log and making it anew
    assert ids(reader.poll()) == [0, 1]
    for value in (2, 4, 6):
        write(tmp_path, eve=[value])
        assert ids(reader.poll()) == [value]
        write(tmp_path, eve=[value + 1])
        rotate(tmp_path)
        if is_restarted:
            reader = restart(reader, tmp_path)
        assert ids(reader.poll()) == [value + 1]
    assert (reader.lost, reader.position().files.keys()) == ([], {"eve"})
    reader.close()


def test_rotations_may_be_numbered_upwards(tmp_path):
    write(tmp_path, eve_1=[0, 4000], eve_2=[5000, 9000], eve=[14000])
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [14000]
    write(tmp_path, eve=[15000])
    (tmp_path / "eve.json").rename(tmp_path / "eve.3.json")
    write(tmp_path, eve=[16000])
    assert ids(reader.poll()) == [15000, 16000]
    reader.close()


def test_numbers_in_the_names_of_other_logs_are_of_rotations(tmp_path):
    for number in (2, 1):
        EveFile(tmp_path, f"ssh.{number}.json").write(2 - number)
    EveFile(tmp_path, "ssh.json").write(2)
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [2]
    assert reader.position().files.keys() == {"ssh"}
    reader.close()


def test_threads_that_were_not_read_when_they_were_rotated_with_another_log_are_lost_and_it_is_said(tmp_path):
    write(tmp_path, eve_1=[0], eve_2=[1])
    reader = LogReader(tmp_path, follow=True)
    assert ids(reader.poll()) == [0, 1]
    write(tmp_path, eve_2=[2], eve_1=[3], eve=[4])
    rotate(tmp_path)
    reader = restart(reader, tmp_path)
    assert (ids(reader.poll()), reader.lost) == ([2, 4], ["eve"])
    reader.close()
