"""Files are replaced whole, and what is written is synced before its name points to it."""

import os
import stat
from pathlib import Path

import pytest

from mods_grpc.atomic_file import create_folder, replacing, sync_folder, write_atomically, write_new


@pytest.fixture
def steps(monkeypatch):
    """The syncs and renames in order: "file", "rename", "folder"."""
    recorded = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor):
        recorded.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(self, target):
        recorded.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    return recorded


def test_content_is_synced_before_the_rename_and_the_name_after_it(tmp_path, steps):
    write_atomically(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"
    assert steps == ["file", "rename", "folder"]


def test_a_new_file_is_synced_and_never_replaces_another(tmp_path, steps):
    write_new(tmp_path / "part", b"1")
    assert steps == ["file"]
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "part", b"2")
    sync_folder(tmp_path)
    assert steps == ["file", "folder"]
    assert (tmp_path / "part").read_bytes() == b"1"


def test_the_entry_of_each_new_folder_is_synced_and_an_old_folder_costs_nothing(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("mods_grpc.atomic_file.sync_folder", synced.append)
    create_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    create_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


def test_an_error_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("state", b"old")]


def test_the_leftover_of_a_killed_process_with_the_same_id_is_replaced(tmp_path):
    (tmp_path / f".state.{os.getpid()}").write_bytes(b"left over, and longer than what comes")
    write_atomically(tmp_path / "state", b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("state", b"new")]


def test_the_mode_is_that_asked_for_whatever_the_old_file_had(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomically(path, b"new", mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "state", b"new")


def test_the_file_that_a_symbolic_link_leads_to_is_replaced_and_the_link_stays(tmp_path):
    link, target = tmp_path / "state", tmp_path / "elsewhere" / "series"
    target.parent.mkdir()
    link.symlink_to("elsewhere/series")
    for content in (b"first", b"second"):
        write_atomically(link, content)
        assert (link.is_symlink(), target.read_bytes()) == (True, content)
    assert [entry.name for entry in target.parent.iterdir()] == ["series"]
