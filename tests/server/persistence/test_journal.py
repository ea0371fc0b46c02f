"""The journal knows every sensor that changed since a state was copied, or knows that it doesn't."""

import logging
import os

import pytest

from mods_grpc.server.persistence import journal as module
from mods_grpc.server.persistence.journal import NOT_RECORDED, StateJournal

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


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"{\n", lambda _: b"", lambda data: data + b"[1"])
def test_a_damaged_journal_knows_nothing(journal, path, damage):
    state = journal.begin()
    journal.record(*CHANGE)
    path.write_bytes(damage(path.read_bytes()))
    assert read(path, state) is None


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
