"""The journal knows every sensor that changed since a state was copied, or knows that it doesn't."""

import logging
import os

import pytest

from mods_grpc.server.persistence import journal as module
from mods_grpc.server.persistence.journal import NOT_RECORDED, StateJournal
from mods_grpc.server.persistence.regular_file import NotRegularFileError

CHANGE, OTHER = ("tiny", "zeek"), ("tiny", "käse\n\x1f")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.journal"


@pytest.fixture
def journal(path):
    opened = StateJournal(path)
    opened.open("", None)
    yield opened
    opened.close(remove=False)


def read(path, state):
    return StateJournal(path).read(state)


def test_it_holds_the_sensors_that_changed_since_each_state(journal, path):
    first = journal.begin()
    assert read(path, first) == set()
    journal.record(*CHANGE)
    second = journal.begin()
    journal.record(*OTHER)
    assert read(path, first) == {CHANGE, OTHER}
    assert read(path, second) == {OTHER}
    journal.compact(second)
    journal.record(*CHANGE)
    assert read(path, first) is None
    assert read(path, second) == {CHANGE, OTHER}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_sensor_is_written_once_for_each_state_and_the_number_says_which(journal, path):
    journal.begin()
    assert journal.number != NOT_RECORDED
    assert journal.record(*CHANGE) == journal.number
    size = path.stat().st_size
    assert journal.record(*CHANGE) == journal.number
    assert path.stat().st_size == size
    journal.begin()
    assert journal.record(*CHANGE) == journal.number


def test_it_is_continued_by_the_next_process(journal, path):
    state = journal.begin()
    journal.record(*CHANGE)
    following = StateJournal(path)
    following.open(state, following.read(state))
    following.record(*OTHER)
    following.close(remove=False)
    assert read(path, state) == {CHANGE, OTHER}


def test_without_a_journal_a_drained_state_begins_one(path):
    with pytest.raises(FileNotFoundError):
        read(path, "drained")
    journal = StateJournal(path)
    journal.open("drained", set())
    journal.record(*CHANGE)
    assert read(path, "drained") == {CHANGE}
    journal.close(remove=True)
    with pytest.raises(FileNotFoundError):
        read(path, "drained")


def test_after_a_reboot_nothing_is_certain(journal, path, tmp_path, monkeypatch):
    state = journal.begin()
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(module, "BOOT_FILE", tmp_path / "boot")
    assert read(path, state) is None
    monkeypatch.setattr(module, "BOOT_FILE", tmp_path / "absent")
    assert read(path, state) is None


def append(line):
    return lambda data: data + line


STRANGE_LINES = (b"5", b"null", b'"ab"', b"{}", b'{"a": 1, "b": 2}', b"[]", b'["tiny"]', b'["tiny", 5]', b'[["tiny"], "zeek"]')
STRANGE_LINES += (b'["tiny", "zeek", "web"]', b'["STATE", "a", "b", "c"]', b"[" * 100_000, b"\0" * 100, b"\xff\xfe", b"")
DAMAGES = [lambda data: data[:-1], lambda _: b"", append(b"[1"), *(append(line + b"\n") for line in (b"{", *STRANGE_LINES))]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_knows_nothing(journal, path, damage):
    state = journal.begin()
    journal.record(*CHANGE)
    path.write_bytes(damage(path.read_bytes()))
    assert read(path, state) is None


def test_something_else_in_place_of_the_journal_knows_nothing_and_is_not_waited_for(path):
    for make in (os.mkfifo, os.mkdir):
        make(path)
        assert read(path, "state") is None
        with pytest.raises(NotRegularFileError, match="expected a file"):
            StateJournal(path).open("state", None)
        path.rename(path.with_name(make.__name__))


def test_a_journal_that_cannot_be_written_knows_nothing_until_the_next_state(journal, path, caplog, monkeypatch):
    state = journal.begin()
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda file, data: write(file, data[:5]))
    with caplog.at_level(logging.WARNING):
        journal.record(*CHANGE)
        journal.record(*OTHER)
        journal.compact(state)
    assert [record.message for record in caplog.records] == ["state_journal_failed"]
    assert read(path, state) is None
    monkeypatch.undo()
    state = journal.begin()
    journal.record(*CHANGE)
    assert read(path, state) == {CHANGE}


def test_too_many_sensors_are_as_good_as_all(journal, path, monkeypatch):
    monkeypatch.setattr(module, "MAX_CHANGED", 2)
    state = journal.begin()
    for number in range(3):
        journal.record("tiny", str(number))
    assert read(path, state) is None


def test_a_journal_that_grows_because_no_state_can_be_written_begins_anew(journal, path, monkeypatch):
    first = journal.begin()
    journal.record(*CHANGE)
    monkeypatch.setattr(module, "MAX_BYTES", path.stat().st_size - 1)
    second = journal.begin()
    assert read(path, first) is None
    assert read(path, second) == set()


def test_a_server_without_a_state_file_records_nothing():
    journal = StateJournal()
    journal.open("", None)
    journal.begin()
    assert journal.record(*CHANGE) == journal.number
    journal.close(remove=True)
