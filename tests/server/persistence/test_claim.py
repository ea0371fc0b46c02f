"""A state file that can't be used stops the start with what to do; what killed servers left beside it is removed."""

import errno
import fcntl
import logging
import os
import shutil

import pytest

from mods_grpc.server.persistence import claim
from mods_grpc.server.persistence.claim import advise, claim_state_file
from tests.support.running_server import run_failing_servers, running_server


def make_fifo(path):
    os.mkfifo(path / "fifo")
    return path / "fifo"


def make_folder(path):
    (path / "folder").mkdir()
    return path / "folder"


def make_used(path):
    lock = (path / "used.lock").open("ab")
    fcntl.flock(lock, fcntl.LOCK_EX)
    LOCKS.append(lock)
    return path / "used"


def make_beside(name, make):
    """Return a function that makes something in place of a file beside the state file."""

    def make_folder_with_state(path):
        folder = path / f"{name}-{make.__name__}"
        folder.mkdir()
        make(folder / f"state.{name}")
        return folder / "state"

    return make_folder_with_state


def link_elsewhere(path):
    path.symlink_to("absent/journal")


def make_loop(path):
    (path / "loop").symlink_to("loop")
    return path / "loop"


LOCKS = []
MOUNT = "36 35 98:0 /mnt1 %s rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
UNUSABLE = {
    "a folder that is missing": (lambda path: path / "absent" / "state", "is missing; create it, with write permission"),
    "a folder": (make_folder, "it is a folder; give the path of a file"),
    "a FIFO": (make_fifo, "it is not a regular file; give the path of a file"),
    "a device": (lambda _: "/dev/null", "it is not a regular file"),
    "a file that another server uses": (make_used, "another server uses it; stop that one, or give each server"),
    "a loop of symbolic links": (make_loop, "it can't be read (Too many levels of symbolic links)"),
    "a FIFO in place of its journal": (make_beside("journal", os.mkfifo), "state.journal is not a regular file; move it away"),
    "a folder in place of its journal": (make_beside("journal", os.mkdir), "state.journal is a folder; move it away"),
    "a journal in a folder that is missing": (make_beside("journal", link_elsewhere), "absent, which is missing; create it"),
    "a FIFO in place of its lock": (make_beside("lock", os.mkfifo), "state.lock is not a regular file; move it away"),
    "a folder in place of its lock": (make_beside("lock", os.mkdir), "state.lock is a folder; move it away"),
    "a folder where nobody may create files": (lambda _: "/proc/state", "its folder can't be written to"),
}


@pytest.fixture(scope="module")
def failed_starts(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    local = (repository, "--address", "127.0.0.1:0", "--health-address", "127.0.0.1:0")
    commands = [(*local, "--state-file", make(folder)) for make, _ in UNUSABLE.values()]
    yield dict(zip(UNUSABLE, run_failing_servers(*commands), strict=True))
    for lock in LOCKS:
        lock.close()


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_server_whose_state_file_cannot_be_used_exits_with_2_and_says_what_to_do(failed_starts, case):
    status, lines = failed_starts[case]
    assert status == 2
    assert "cannot_start" in lines[-1]
    assert UNUSABLE[case][1] in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_a_second_server_is_refused_the_file_of_a_running_one_until_that_stops(repository, tmp_path):
    path = tmp_path / "state"
    link = tmp_path / "link"
    link.symlink_to(path)
    with running_server(repository=repository, state_file=str(path)):
        for name in (path, link):
            with pytest.raises(OSError, match="another server uses it"):
                running_server(repository=repository, state_file=str(name)).__enter__()
    with running_server(repository=repository, state_file=str(link)):
        pass


def test_what_killed_servers_left_is_removed_and_nothing_else(tmp_path):
    left = [".state.17", ".state.4711", ".state.journal.17"]
    other = [".state", ".state.notes", ".state2.17", ".other.17", "state.17", "state", "state.journal"]
    for name in (*left, *other):
        (tmp_path / name).touch()
    claim_state_file(tmp_path / "state").close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*other, "state.lock"])


def test_what_a_killed_server_left_of_a_journal_that_is_a_link_is_removed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state.journal").symlink_to("elsewhere/journal")
    (tmp_path / "elsewhere" / ".journal.17").touch()
    claim_state_file(tmp_path / "state").close()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_a_folder_with_the_sticky_bit_that_belongs_to_another_user_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    path.touch()
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(claim.os, "geteuid", lambda: os.getuid() + 4711)
    with pytest.raises(OSError, match="it belongs to another user"):
        claim_state_file(path)
    tmp_path.chmod(0o777)
    claim_state_file(path).close()


def test_a_file_that_may_not_be_read_is_refused_rather_than_replaced(tmp_path, monkeypatch):
    path = tmp_path / "state"
    path.touch()
    monkeypatch.setattr(claim.os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(OSError, match="this user may not read it; give it to the server's user"):
        claim_state_file(path)


def test_a_file_that_is_mounted_by_itself_is_refused_because_it_cannot_be_replaced(tmp_path, monkeypatch):
    path = tmp_path / "the state"
    path.touch()
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNT % str(path).replace(" ", r"\040"))
    monkeypatch.setattr(claim, "MOUNTS", mounts)
    with pytest.raises(OSError, match="it is a mount point, which can't be replaced; mount its folder instead"):
        claim_state_file(path)


def test_a_disk_without_room_for_the_file_is_logged_and_the_server_starts(tmp_path, caplog):
    path = tmp_path / "state"
    path.touch()
    os.truncate(path, shutil.disk_usage(tmp_path).free + (1 << 32))
    with caplog.at_level(logging.ERROR):
        claim_state_file(path).close()
    (record,) = caplog.records
    assert (record.message, record.reason) == ("state_not_writable", "No space left on device")
    assert record.hint.startswith(f"free space in {tmp_path}: ")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "writable"),
        (errno.ENOENT, "create"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.EMFILE, "limit on open files (ulimit -n)"),
        (errno.ENFILE, "fs.file-max"),
        (errno.EIO, "failing"),
        (errno.ESTALE, "check the disk"),
    ],
)
def test_each_reason_has_its_advice(tmp_path, number, text):
    advice = advise(tmp_path / "state", OSError(number, os.strerror(number)))
    assert text in advice
    assert ("permission" in advice) == (text in ("permission", "create"))
