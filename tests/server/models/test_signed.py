"""A server that trusts certain keys: what they did not sign is refused with a reason, and what serves goes on."""

import shutil

import pytest

from mods_grpc.artifact import SIGNATURE_FILE, read_signing_key, sign_version
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc
from tests.support.certificates import needs_openssl
from tests.support.models.tiny import make_mean_graph, publish_tiny
from tests.support.rpc.client import forecast_request
from tests.support.running_server import channel_to, run_failing_servers, running_server
from tests.support.signing_keys import make_key_pair

pytestmark = needs_openssl


@pytest.fixture
def keys(tmp_path):
    return make_key_pair(tmp_path, "ours")


@pytest.fixture
def models(tmp_path, keys):
    publish_tiny(tmp_path / "models")
    sign(tmp_path / "models", 1, keys[0])
    return tmp_path / "models"


@pytest.fixture
def server(models, keys):
    with running_server(repository=models, trusted_key_file=str(keys[1]), canary=True) as running:
        yield running


def sign(models, version, key):
    return sign_version(models, "tiny", version, read_signing_key(key))


def listed(server):
    """Return the states of all versions, and why they failed."""
    with channel_to(server) as channel:
        models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest()).models
    return {
        model.version: (model_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_"), model.failure) for model in models
    }


def serving(server):
    with channel_to(server) as channel:
        return inference_pb2_grpc.InferenceServiceStub(channel).Forecast(forecast_request()).model.version


def test_unsigned_foreign_and_changed_versions_are_rejected_while_the_signed_one_serves(tmp_path, server, models, keys):
    publish_tiny(models, version=2)
    publish_tiny(models, version=3)
    sign(models, 3, make_key_pair(tmp_path, "foreign")[0])
    changed = publish_tiny(models, version=4)
    sign(models, 4, keys[0])
    (changed / "manifest.json").write_bytes((changed / "manifest.json").read_bytes() + b"\n")
    swapped = publish_tiny(models, version=5)
    sign(models, 5, keys[0])
    (swapped / "model.onnx").write_bytes(make_mean_graph(factor=2.0).SerializeToString())
    server.rescan()
    states = listed(server)
    assert states[1] == ("READY", "")
    assert states[2] == ("FAILED", "manifest.sig: is absent, and only signed versions are accepted")
    for version in (3, 4):
        assert states[version][0] == "FAILED"
        assert states[version][1].startswith("manifest.sig: none of the 1 trusted keys made it for this manifest")
    assert states[5] == ("FAILED", "model.onnx: size or digest differs from the manifest")
    assert serving(server) == 1
    assert server.app.repository.load_counts["failed", "manifest.sig"] == 3


def test_a_version_serves_as_soon_as_it_is_signed(server, models, keys):
    publish_tiny(models, version=2)
    server.rescan()
    assert serving(server) == 1
    sign(models, 2, keys[0])
    server.rescan()
    assert serving(server) == 2


def test_a_newly_trusted_key_admits_its_versions_and_an_unreadable_key_file_changes_nothing(tmp_path, server, models, keys):
    private, public = make_key_pair(tmp_path, "next")
    publish_tiny(models, version=2)
    sign(models, 2, private)
    server.rescan()
    assert listed(server)[2][0] == "FAILED"
    keys[1].write_bytes(keys[1].read_bytes() + public.read_bytes())
    server.rescan()
    assert serving(server) == 2
    keys[1].write_bytes(b"")
    publish_tiny(models, version=3)
    sign(models, 3, keys[0])
    server.rescan()
    assert serving(server) == 3


def test_a_version_without_its_signature_is_rejected_at_the_next_start(models, keys):
    (models / "tiny/1" / SIGNATURE_FILE).unlink()
    with running_server(repository=models, trusted_key_file=str(keys[1])) as server:
        assert listed(server)[1][0] == "FAILED"
        shutil.rmtree(models / "tiny")


def test_a_server_without_usable_keys_does_not_start(tmp_path, models):
    (tmp_path / "none.pub").write_text("no key\n")
    reasons = {"none.pub": "holds no public key", "absent.pub": "No such file"}
    commands = [(models, "--address=127.0.0.1:0", f"--trusted-key-file={tmp_path / name}") for name in reasons]
    for (status, lines), reason in zip(run_failing_servers(*commands), reasons.values(), strict=True):
        assert status == 2
        assert reason in "".join(lines)
