"""The checkpoint of a watch: one holder at a time, replaced whole, of one version, and refused with advice if it is damaged."""

import json
import logging
from pathlib import Path

import pytest

from mods_grpc.cli.main import main
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_FAILED
from mods_grpc.ids.watch.checkpoint import CHECKPOINT_FILE, CHECKPOINT_VERSION, LOCK_FILE, Checkpoint

IDENTITY = {
    "sensor": "tap",
    "model": "tiny",
    "features": ["conn_in", "ssh_in"],
    "window_seconds": 1_200,
    "slide_seconds": 60,
    "lineage": "0",
}
WHOLE = {"version": CHECKPOINT_VERSION, "identity": IDENTITY, "position": "{}", "feed": {}, "watch": {}}


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


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "not a checkpoint; move it away"),
        ("[]", f"expected a checkpoint of version {CHECKPOINT_VERSION}; move it away"),
        ({"version": CHECKPOINT_VERSION}, "it is damaged; move it away"),
        (WHOLE | {"identity": None}, "it is damaged; move it away"),
        (WHOLE | {"watch": 3}, "move it away"),
        (WHOLE | {"position": 3}, "move it away"),
        (WHOLE | {"feed": []}, "move it away"),
        (WHOLE, "move it away"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, server: str, capsys, content: object, complaint: str) -> None:
    (tmp_path / "conn.log").write_text("")
    state = tmp_path / "state"
    state.mkdir()
    (state / CHECKPOINT_FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    words = ["watch", "--zeek", str(tmp_path), "--address", server, "--sensor", "tap", "--state", str(state)]
    assert main(words) == EXIT_FAILED
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert str(state / CHECKPOINT_FILE) in error[0]
    assert complaint in error[0]
