"""Lookup of versions by name and number, and the errors when none serves."""

import grpc
import pytest

from mods_grpc.errors import ModelNotFoundError, ModelUnavailableError, ModelUnusableError
from mods_grpc.server.models.versions import VersionState
from mods_grpc.server.rpc.status import to_status
from tests.support.loaded_repository import load_repository, open_repository, read_states
from tests.support.models.tiny import publish_tiny


def test_a_model_is_loading_until_it_has_been_loaded(tmp_path):
    publish_tiny(tmp_path)
    repository = open_repository(tmp_path)
    assert not repository.ready
    assert read_states(repository) == {("tiny", 1): VersionState.LOADING}
    with pytest.raises(ModelUnavailableError) as caught:
        repository.serving("tiny", None)
    status = to_status(caught.value)
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert [detail.type_url.rpartition(".")[2] for detail in status.details] == ["ErrorInfo", "RetryInfo"]
    repository.load_all()
    assert repository.ready
    assert repository.serving("tiny", None).manifest.version == 1


def test_the_newest_ready_version_serves_requests_that_name_none(tmp_path):
    for version in (1, 2, 10):
        publish_tiny(tmp_path, version=version)
    (tmp_path / "tiny" / "10" / "model.onnx").write_bytes(b"")
    repository = load_repository(tmp_path)
    assert [(entry.version, entry.state) for entry in repository.entries() if entry.name == "tiny"] == [
        (10, VersionState.FAILED),
        (2, VersionState.READY),
        (1, VersionState.RETIRED),
    ]
    assert repository.ready
    assert repository.serving("tiny", None).manifest.version == 2
    assert repository.serving("", None).manifest.version == 2
    assert repository.serving("tiny", 1).manifest.version == 1
    with pytest.raises(ModelUnusableError):
        repository.serving("tiny", 10)
    with pytest.raises(ModelNotFoundError):
        repository.serving("tiny", 3)


def test_a_model_without_a_ready_version_is_described_by_its_newest(tmp_path):
    for version in (1, 2):
        (publish_tiny(tmp_path, version=version) / "model.onnx").write_bytes(b"")
    repository = load_repository(tmp_path)
    assert not repository.ready
    assert repository.find("tiny", None).version == 2


def test_an_empty_repository_is_not_ready(tmp_path):
    repository = load_repository(tmp_path)
    assert not repository.ready
    with pytest.raises(ModelNotFoundError):
        repository.serving("tiny", None)
