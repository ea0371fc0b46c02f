"""The checkpoint of a watch: one holder at a time, replaced whole, of one version."""

import logging

import pytest

from mods_grpc.errors import DataError
from mods_grpc.ids.watch.checkpoint import CHECKPOINT_FILE, CHECKPOINT_VERSION, LOCK_FILE, Checkpoint


def test_two_watches_cannot_share_a_state_folder(tmp_path):
    with Checkpoint(tmp_path), pytest.raises(DataError, match="another watch"):
        Checkpoint(tmp_path)


def test_a_crash_while_saving_leaves_the_previous_checkpoint(tmp_path):
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save({"identity": {"n": 1}})
        (tmp_path / f".{CHECKPOINT_FILE}.1").write_text('{"version":1,"ident')
        assert checkpoint.load() == {"version": CHECKPOINT_VERSION, "identity": {"n": 1}}
        (tmp_path / CHECKPOINT_FILE).write_text("{")
        with pytest.raises(DataError, match="not a checkpoint"):
            checkpoint.load()


def test_a_checkpoint_of_another_version_is_rejected(tmp_path):
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save({"identity": {"n": 1}})
        (tmp_path / CHECKPOINT_FILE).write_text(
            (tmp_path / CHECKPOINT_FILE)
            .read_text()
            .replace(f'"version":{CHECKPOINT_VERSION}', f'"version":{CHECKPOINT_VERSION - 1}')
        )
        with pytest.raises(DataError, match=f"expected a checkpoint of version {CHECKPOINT_VERSION}"):
            checkpoint.load()


def test_the_leftover_of_a_watch_killed_while_saving_is_removed_at_the_next_start(tmp_path):
    (tmp_path / f".{CHECKPOINT_FILE}.1").write_text('{"version":1,"ident')
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save({})
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT_FILE, LOCK_FILE]


def test_a_state_that_can_not_be_saved_is_said_once_and_saved_when_it_can_be(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with Checkpoint(tmp_path) as checkpoint:
        (tmp_path / CHECKPOINT_FILE).mkdir()
        assert [checkpoint.try_save({}), checkpoint.try_save({})] == [False, False]
        assert "Is a directory" in checkpoint.list_errors()[str(tmp_path)]
        (tmp_path / CHECKPOINT_FILE).rmdir()
        assert checkpoint.try_save({"n": 1})
        assert checkpoint.list_errors() == {}
        assert checkpoint.load() == {"version": CHECKPOINT_VERSION, "n": 1}
    assert [record.message for record in caplog.records] == ["checkpoint_unwritable", "checkpoint_written"]
