"""Signatures of manifests: made and verified as openssl does; invalid ones are rejected."""

import json

import pytest

from mods_grpc.artifact import SIGNATURE_FILE, TrustedKeys, read_artifact, read_signing_key, sign_version
from mods_grpc.cli.main import main
from mods_grpc.errors import ArtifactError
from tests.support.certificates import needs_openssl, run_openssl
from tests.support.models.tiny import publish_tiny
from tests.support.signing_keys import make_key_pair

pytestmark = needs_openssl


@pytest.fixture
def keys(tmp_path):
    return make_key_pair(tmp_path, "ours")


@pytest.fixture
def version(tmp_path):
    return publish_tiny(tmp_path / "models")


def sign(version, key):
    return sign_version(version.parent.parent, version.parent.name, int(version.name), read_signing_key(key))


def read(version, *public):
    together = version.parent.parent / "trusted"
    together.write_bytes(b"".join(file.read_bytes() for file in public))
    return read_artifact(version.parent.parent, version.parent.name, int(version.name), TrustedKeys.read(together))


def refusal(version, *public):
    with pytest.raises(ArtifactError) as caught:
        read(version, *public)
    return caught.value.message


def test_a_signed_version_is_read_with_any_of_the_trusted_keys(tmp_path, version, keys):
    private, public = keys
    _, another = make_key_pair(tmp_path, "another")
    assert sign(version, private) == version / SIGNATURE_FILE
    for trusted in ((public,), (another, public), (public, another)):
        assert read(version, *trusted).manifest.version == 1


def test_what_openssl_signs_is_accepted_and_what_we_sign_openssl_accepts(version, keys):
    private, public = keys
    arguments = ("-rawin", "-in", version / "manifest.json")
    run_openssl("pkeyutl", "-sign", "-inkey", private, *arguments, "-out", version / SIGNATURE_FILE)
    theirs = (version / SIGNATURE_FILE).read_bytes()
    assert read(version, public)
    sign(version, private)
    assert (version / SIGNATURE_FILE).read_bytes() == theirs
    run_openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, *arguments, "-sigfile", version / SIGNATURE_FILE)


def test_an_unsigned_version_is_refused(version, keys):
    assert refusal(version, keys[1]) == "manifest.sig: is absent, and only signed versions are accepted"
    assert read_artifact(version.parent.parent, "tiny", 1)


def test_a_version_signed_by_another_key_is_refused(tmp_path, version, keys):
    sign(version, make_key_pair(tmp_path, "another")[0])
    assert refusal(version, keys[1]).startswith("manifest.sig: none of the 1 trusted keys made it")


def test_a_manifest_that_was_changed_by_one_byte_is_refused_before_it_is_understood(version, keys):
    sign(version, keys[0])
    manifest = version / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-2] + b" }")
    assert refusal(version, keys[1]).startswith("manifest.sig:")
    manifest.write_bytes(b"no JSON")
    assert refusal(version, keys[1]).startswith("manifest.sig:")


def test_a_model_that_was_changed_under_a_signed_manifest_is_refused(version, keys):
    sign(version, keys[0])
    model = version / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert refusal(version, keys[1]) == "model.onnx: size or digest differs from the manifest"


def test_a_signature_of_one_version_is_none_of_another(tmp_path, version, keys):
    sign(version, keys[0])
    other = publish_tiny(tmp_path / "models", version=2)
    (other / SIGNATURE_FILE).write_bytes((version / SIGNATURE_FILE).read_bytes())
    assert refusal(other, keys[1]).startswith("manifest.sig:")
    version.rename(version.with_name("3"))  # nor does it let one pass for a newer one
    assert refusal(version.with_name("3"), keys[1]) == "manifest: is of tiny/1, found in tiny/3"


@pytest.mark.parametrize("size", [0, 63, 65, 10_000])
def test_a_signature_of_the_wrong_size_is_refused(version, keys, size):
    (version / SIGNATURE_FILE).write_bytes(b"x" * size)
    assert refusal(version, keys[1]).startswith("manifest.sig:")


def test_a_signature_that_is_a_link_is_refused(tmp_path, version, keys):
    signature = sign(version, keys[0])
    signature.rename(tmp_path / "elsewhere")
    signature.symlink_to(tmp_path / "elsewhere")
    assert "without following links" in refusal(version, keys[1])


def test_files_of_keys_that_are_none_are_refused(tmp_path, keys):
    run_openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", tmp_path / "rsa.pem")
    run_openssl("pkey", "-in", tmp_path / "rsa.pem", "-pubout", "-out", tmp_path / "rsa.pub")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "broken").write_bytes(keys[1].read_bytes().replace(b"MC", b"\0\0"))
    for name, words in (
        ("rsa.pub", "key 1 .* not an Ed25519"),
        ("empty", "no public key"),
        ("broken", "Unable to load PEM|deserialize"),
    ):
        with pytest.raises(ValueError, match=words):
            TrustedKeys.read(tmp_path / name)
    run_openssl("pkey", "-in", keys[0], "-aes256", "-passout", "pass:x", "-out", tmp_path / "locked.pem")
    for name in ("rsa.pem", "empty", "locked.pem", "ours.pub"):
        with pytest.raises(ArtifactError, match="expected an Ed25519 private key"):
            read_signing_key(tmp_path / name)


def test_the_command_signs_and_says_what_it_can_not_sign(version, keys, capsys):
    assert main(["sign", str(version), "--key", str(keys[0])]) == 0
    assert capsys.readouterr().out.startswith("signed tiny/1: ")
    assert read(version, keys[1])
    assert main(["sign", str(version.parent), "--key", str(keys[0])]) == 1
    assert "expected the folder of a model version" in capsys.readouterr().err
    tree = json.loads((version / "manifest.json").read_bytes())
    (version / "manifest.json").write_text(json.dumps({**tree, "version": 2}))
    assert main(["sign", str(version), "--key", str(keys[0])]) == 1
    assert "manifest: is of tiny/2, found in tiny/1" in capsys.readouterr().err
