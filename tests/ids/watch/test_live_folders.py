"""A folder with live logs that is gone is named, and one that only comes and goes is not."""

from pathlib import Path

import pytest

from mods_grpc.ids.watch.live_folders import GONE_SECONDS, MIN_SEEN_SECONDS, LiveFolders


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def look_after(folders, clock, seconds):
    clock.now += seconds
    return folders.find_gone()


@pytest.fixture
def spool(tmp_path):
    for name in ("logger-1", "logger-2", "2026-03-01"):
        (tmp_path / "spool" / name).mkdir(parents=True)
        (tmp_path / "spool" / name / "conn.log").touch()
    return tmp_path / "spool"


def remove(folder):
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_a_followed_folder_that_is_gone_is_named_after_minutes_and_alone(spool, clock):
    folders = LiveFolders(spool, clock)
    assert look_after(folders, clock, MIN_SEEN_SECONDS) == {}
    spool.rename(spool.with_name("elsewhere"))
    assert look_after(folders, clock, 1) == {}
    assert look_after(folders, clock, GONE_SECONDS) == {spool: "it is gone"}
    spool.with_name("elsewhere").rename(spool)
    assert look_after(folders, clock, 1) == {}


def test_one_of_several_folders_is_named_if_it_had_logs_for_long(spool, clock):
    folders = LiveFolders(spool, clock)
    assert look_after(folders, clock, 1) == {}
    (spool / "logger-2-crash").mkdir()
    (spool / "logger-2-crash" / "conn.log").touch()
    assert look_after(folders, clock, MIN_SEEN_SECONDS) == {}
    for name in ("logger-1", "2026-03-01", "logger-2-crash"):
        remove(spool / name)
    assert look_after(folders, clock, 1) == {}
    assert look_after(folders, clock, GONE_SECONDS) == {spool / "logger-1": "it is gone"}


def test_a_mount_point_without_its_disk_is_gone_and_a_folder_without_logs_on_its_own_disk_is_not(spool, clock, monkeypatch):
    folders = LiveFolders(spool, clock)
    for wait in (1, MIN_SEEN_SECONDS):
        assert look_after(folders, clock, wait) == {}
    (spool / "logger-1" / "conn.log").unlink()
    for wait in (1, GONE_SECONDS):
        assert look_after(folders, clock, wait) == {}
    remove(spool / "logger-2")
    (spool / "logger-2").symlink_to(other_device(spool))
    assert look_after(folders, clock, 1) == {}
    assert "not mounted" in look_after(folders, clock, GONE_SECONDS)[spool / "logger-2"]


def other_device(folder):
    """Return a folder without logs on another file system."""
    return next(path for path in map(Path, ("/proc/self/fd", "/dev")) if path.stat().st_dev != folder.stat().st_dev)


def test_a_file_that_is_gone_is_named_unless_it_stands_for_those_that_follow_it(tmp_path, clock):
    for name, expected in (("eve.json", {tmp_path / "eve.json": "it is gone"}), ("eve-2026-03-01.json", {})):
        (tmp_path / name).touch()
        folders = LiveFolders(tmp_path / name, clock)
        assert look_after(folders, clock, 1) == {}
        (tmp_path / name).unlink()
        assert look_after(folders, clock, 1) == {}
        assert look_after(folders, clock, GONE_SECONDS) == expected
