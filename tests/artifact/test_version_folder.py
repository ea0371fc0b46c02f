"""A version's folder: written whole or not at all, and read only when every byte is what the manifest says."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.artifact import (
    BATCH_MODEL_FILE,
    CARD_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PARITY_FILE,
    list_versions,
    publish,
    read_artifact,
)
from mods_grpc.artifact import version_folder as layout
from mods_grpc.errors import ArtifactError
from tests.support.models.tiny import make_manifest, make_mean_graph, make_parity, publish_tiny

CONTENTS = {MODEL_FILE: make_mean_graph().SerializeToString(), PARITY_FILE: make_parity(), CARD_FILE: b"# Card\n"}


@pytest.fixture
def version(tmp_path):
    return publish_tiny(tmp_path)


def refusal(repository, name="tiny", number=1):
    with pytest.raises(ArtifactError) as caught:
        read_artifact(repository, name, number)
    assert str(repository) not in caught.value.message
    return caught.value.message


def rewrite(version, change):
    """Change the manifest's JSON, as somebody would who can write to the repository."""
    file = version / MANIFEST_FILE
    tree = json.loads(file.read_bytes())
    change(tree)
    file.write_text(json.dumps(tree))


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def files_in(folder):
    return sorted(f"{folder}/{name}" for name in (*CONTENTS, MANIFEST_FILE))


def test_what_was_published_is_read(tmp_path):
    folder = publish(tmp_path, make_manifest(), CONTENTS)
    assert folder == tmp_path / "tiny" / "1"
    artifact = read_artifact(tmp_path, "tiny", 1)
    assert (artifact.model, artifact.parity) == (CONTENTS[MODEL_FILE], CONTENTS[PARITY_FILE])
    assert artifact.digest == hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    assert artifact.manifest.file(CARD_FILE).size == len(CONTENTS[CARD_FILE])
    assert everything_in(tmp_path) == ["tiny", "tiny/1", *files_in("tiny/1")]


def test_publishing_a_version_twice_is_refused_and_the_first_stays(tmp_path, version):
    before = {path.name: path.read_bytes() for path in version.iterdir()}
    with pytest.raises(ArtifactError, match="tiny/1 is published already and can't be changed"):
        publish(tmp_path, make_manifest(), {**CONTENTS, CARD_FILE: b"another"})
    assert {path.name: path.read_bytes() for path in version.iterdir()} == before
    assert everything_in(tmp_path) == ["tiny", "tiny/1", *files_in("tiny/1")]


def test_the_same_manifest_and_files_give_the_same_bytes_wherever_they_are_published(tmp_path):
    one, other = publish(tmp_path / "one", make_manifest(), CONTENTS), publish(tmp_path / "other", make_manifest(), CONTENTS)
    assert (one / MANIFEST_FILE).read_bytes() == (other / MANIFEST_FILE).read_bytes()


UNPUBLISHABLE = {
    "a file too many": ({**CONTENTS, "run.py": b""}, "expected the files"),
    "a manifest among the files": ({**CONTENTS, MANIFEST_FILE: b"{}"}, "expected the files"),
    "a path": ({**CONTENTS, "../model.onnx": b""}, "expected the files"),
    "no model": ({PARITY_FILE: b"", CARD_FILE: b""}, "expected the files"),
    "a card above its limit": (
        {**CONTENTS, CARD_FILE: bytes(1024 * 1024 + 1)},
        "MODEL_CARD.md: has 1048577 bytes, at most 1048576",
    ),
}


@pytest.mark.parametrize("case", UNPUBLISHABLE)
def test_what_is_no_artifact_is_not_published_and_leaves_nothing_behind(tmp_path, case):
    contents, message = UNPUBLISHABLE[case]
    with pytest.raises(ArtifactError, match=message):
        publish(tmp_path, make_manifest(), contents)
    assert everything_in(tmp_path) == []


def test_publishing_that_fails_on_the_way_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        publish(tmp_path, make_manifest(), {**CONTENTS, CARD_FILE: [1, 2, 3]})
    with pytest.raises(ArtifactError, match="not finite"):
        publish(tmp_path, make_manifest(scaler={"mean": (float("inf"),)}), CONTENTS)
    assert everything_in(tmp_path) in ([], ["tiny"])


def test_publishing_where_a_file_is_in_the_way_says_so(tmp_path):
    (tmp_path / "tiny").write_text("not a folder")
    with pytest.raises(ArtifactError, match="cannot write tiny/1"):
        publish(tmp_path, make_manifest(), CONTENTS)
    assert everything_in(tmp_path) == ["tiny"]


def test_the_remains_of_a_broken_off_publication_do_not_hinder(tmp_path):
    remains = tmp_path / "tiny" / f".1.{os.getpid()}"
    remains.mkdir(parents=True)
    (remains / MODEL_FILE).write_bytes(b"half")
    publish_tiny(tmp_path)
    assert everything_in(tmp_path) == ["tiny", "tiny/1", *files_in("tiny/1")]


def test_versions_are_listed_by_name_and_number_and_nothing_else_is(tmp_path):
    for name, number in (("tiny", 10), ("tiny", 9), ("a-b_c", 1)):
        publish_tiny(tmp_path, name, number)
    for odd in ("tiny/.11.123", "tiny/012", "tiny/0", "tiny/v3", "tiny/1234567890", ".hidden/1", "Upper/1", "two words/1"):
        (tmp_path / odd).mkdir(parents=True)
    (tmp_path / "file").write_text("not a model")
    (tmp_path / "tiny" / "3").write_text("not a version")
    (tmp_path / "linked").symlink_to(tmp_path / "tiny")
    (tmp_path / "tiny" / "12").symlink_to(tmp_path / "tiny" / "10")
    assert list_versions(tmp_path) == [("a-b_c", 1), ("tiny", 9), ("tiny", 10)]


def test_a_repository_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read the model repository .*absent: No such file"):
        list_versions(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="Not a directory"):
        list_versions(tmp_path / "file")


def linked(file, target):
    target.write_bytes(file.read_bytes())
    file.unlink()
    return target


def as_symbolic_link(file, aside):
    file.symlink_to(linked(file, aside))


def as_hard_link(file, aside):
    os.link(linked(file, aside), file)


def as_fifo(file, aside):
    file.unlink()
    os.mkfifo(file)


def as_folder(file, aside):
    file.unlink()
    file.mkdir()


def as_nothing(file, aside):
    file.unlink()


def truncated(file, aside):
    file.write_bytes(file.read_bytes()[:-2])


def longer(file, aside):
    file.write_bytes(file.read_bytes() + b"\0")


def with_a_bit_flipped(file, aside):
    data = bytearray(file.read_bytes())
    data[0] ^= 1  # in the manifest a digit may change unseen: a signature is for that
    file.write_bytes(data)


def emptied(file, aside):
    file.write_bytes(b"")


DAMAGES = {
    as_symbolic_link: "cannot be opened without following links",
    as_hard_link: "has 2 hard links, expected 1",
    as_fifo: "not a regular file",
    as_folder: "not a regular file",
    as_nothing: "No such file or directory",
    truncated: "size or digest differs from the manifest",
    longer: "size or digest differs from the manifest",
    with_a_bit_flipped: "size or digest differs from the manifest",
    emptied: "size or digest differs from the manifest",
}


@pytest.mark.parametrize("name", [MODEL_FILE, PARITY_FILE, CARD_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_with_its_name_and_the_reason(tmp_path, version, damage, name):
    damage(version / name, tmp_path / "aside")
    message = refusal(tmp_path)
    if name == MANIFEST_FILE and "differs" in DAMAGES[damage]:
        assert message.startswith("manifest: ")
    else:
        assert message.startswith(f"{name}: ")
        assert DAMAGES[damage] in message


def test_no_descriptor_is_left_open_by_what_is_refused(tmp_path, version):
    as_folder(version / CARD_FILE, None)
    refusal(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        refusal(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("name", [MODEL_FILE, PARITY_FILE, CARD_FILE, MANIFEST_FILE])
def test_a_file_above_its_limit_is_refused_before_it_is_read(tmp_path, version, monkeypatch, name):
    size = (version / name).stat().st_size
    monkeypatch.setitem(layout.MAX_BYTES, name, size)
    assert read_artifact(tmp_path, "tiny", 1)
    monkeypatch.setitem(layout.MAX_BYTES, name, size - 1)
    assert refusal(tmp_path) == f"{name}: has {size} bytes, at most {size - 1} are accepted"


def test_a_manifest_found_in_another_folder_is_refused(tmp_path, version):
    version.rename(tmp_path / "tiny" / "2")
    assert refusal(tmp_path, "tiny", 2) == "manifest: is of tiny/1, found in tiny/2"
    (tmp_path / "tiny").rename(tmp_path / "other")
    assert refusal(tmp_path, "other", 2) == "manifest: is of tiny/1, found in other/2"


def test_a_version_that_became_a_link_after_it_was_listed_is_refused(tmp_path, version):
    version.rename(tmp_path / "elsewhere")
    version.symlink_to(tmp_path / "elsewhere")
    assert refusal(tmp_path) == "tiny/1: is a link, expected a folder"
    (tmp_path / "linked").symlink_to(tmp_path / "tiny")
    assert refusal(tmp_path, "linked", 1) == "linked/1: is a link, expected a folder"


MANIFESTS = {
    "a digest of other bytes": (lambda tree: tree["files"][1].update(sha256="0" * 64), "model.onnx: size or digest differs"),
    "another size": (lambda tree: tree["files"][1].update(size=1), "model.onnx: size or digest differs"),
    "a file of no artifact": (
        lambda tree: tree["files"].append({"name": "run.py", "size": 0, "sha256": ""}),
        "manifest: lists files that repeat or are none of",
    ),
    "a file outside": (
        lambda tree: tree["files"][0].update(name="../../secret"),
        "manifest: lists files that repeat or are none",
    ),
    "a file twice": (lambda tree: tree["files"].append(tree["files"][0]), "manifest: lists files that repeat or are none of"),
    "no model": (lambda tree: tree["files"].pop(1), "manifest: lists no model.onnx"),
    "no files": (lambda tree: tree["files"].clear(), "manifest: lists no model.onnx"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_does_not_fit_its_files_is_refused(tmp_path, version, case):
    change, message = MANIFESTS[case]
    assert json.loads((version / MANIFEST_FILE).read_bytes())["files"][1]["name"] == MODEL_FILE
    rewrite(version, change)
    assert refusal(tmp_path).startswith(message)


def test_the_files_are_data_and_nothing_else(version):
    assert everything_in(version) == sorted([MODEL_FILE, PARITY_FILE, CARD_FILE, MANIFEST_FILE])
    with np.load(version / PARITY_FILE, allow_pickle=False) as vectors:
        assert all(vectors[name].dtype == np.float64 for name in vectors.files)


def test_a_second_graph_is_optional_and_held_to_its_digest_as_all_files_are(tmp_path):
    folder = publish(tmp_path, make_manifest(), {**CONTENTS, BATCH_MODEL_FILE: b"another graph"})
    assert everything_in(folder) == sorted([*CONTENTS, BATCH_MODEL_FILE, MANIFEST_FILE])
    assert read_artifact(tmp_path, "tiny", 1).graphs == {MODEL_FILE: CONTENTS[MODEL_FILE], BATCH_MODEL_FILE: b"another graph"}
    (folder / BATCH_MODEL_FILE).write_bytes(b"another grapf")
    assert refusal(tmp_path) == f"{BATCH_MODEL_FILE}: size or digest differs from the manifest"
    (folder / BATCH_MODEL_FILE).unlink()
    assert refusal(tmp_path).startswith(f"{BATCH_MODEL_FILE}: cannot be opened")


def test_a_second_graph_that_the_manifest_does_not_list_is_not_read(tmp_path, version):
    (version / BATCH_MODEL_FILE).write_bytes(b"anything")
    assert list(read_artifact(tmp_path, "tiny", 1).graphs) == [MODEL_FILE]
