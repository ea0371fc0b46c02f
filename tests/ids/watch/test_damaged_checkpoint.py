"""A checkpoint that is damaged is refused in one line that names it and says what to do."""

import json
from pathlib import Path

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_FAILED
from mods_grpc.ids.watch.checkpoint import CHECKPOINT_FILE, CHECKPOINT_VERSION
from tests.support.models.time_of_day import publish_day_model
from tests.support.running_server import running_server

IDENTITY = {
    "sensor": "tap",
    "model": "tiny",
    "features": ["conn_in", "ssh_in"],
    "window_seconds": 1_200,
    "slide_seconds": 60,
    "lineage": "0",
}
WHOLE = {"version": CHECKPOINT_VERSION, "identity": IDENTITY, "position": "{}", "feed": {}, "watch": {}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("models")
    publish_day_model(folder)
    with running_server(repository=folder) as running:
        yield running.address


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
