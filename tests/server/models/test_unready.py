"""Why a server has no model to serve, and what to do."""

import shutil

import pytest

from mods_grpc.server.models.unready import explain_unready
from tests.support.loaded_repository import load_repository
from tests.support.models.tiny import publish_tiny


def explain(folder):
    return explain_unready(folder, load_repository(folder).entries())


def test_an_empty_repository_needs_a_model(tmp_path):
    reason, hint = explain(tmp_path)
    assert reason == f"{tmp_path} has no folder NAME/VERSION of a model; it is empty"
    assert "python -m training export" in hint


def test_a_folder_of_something_else_is_listed(tmp_path):
    for name in ("b.tsv", "a.tsv", "c", "d"):
        (tmp_path / name).write_text("")
    assert explain(tmp_path)[0].endswith("it holds a.tsv, b.tsv, c")


@pytest.mark.parametrize("part", ["tiny", "tiny/1"])
def test_a_part_of_a_repository_is_told_from_the_repository(tmp_path, part):
    publish_tiny(tmp_path)
    assert explain(tmp_path / part) == (
        f"{tmp_path / part} is a part of a repository, not the repository",
        f"start it with: mods-grpc serve {tmp_path}",
    )


def test_a_folder_above_a_repository_is_told_from_it(tmp_path):
    publish_tiny(tmp_path / "exported")
    assert explain(tmp_path)[1] == f"start it with: mods-grpc serve {tmp_path / 'exported'}"


def test_every_version_that_was_refused_is_named_with_its_reason(tmp_path):
    for version in (1, 2):
        publish_tiny(tmp_path, version=version)
        (tmp_path / "tiny" / str(version) / "model.onnx").write_bytes(b"")
    shutil.rmtree(tmp_path / "tiny" / "2")
    reason, hint = explain(tmp_path)
    assert reason == "every version was refused: tiny/1: model.onnx: size or digest differs from the manifest"
    assert hint.startswith("export the model again")
