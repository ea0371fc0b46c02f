"""The folder of a model version: published atomically and never changed, read once and without following links.

A version is a folder `<name>/<version>/` with `model.onnx`, `manifest.json`, `parity.npz` and `MODEL_CARD.md`, optionally with
`model.batch.onnx`. `manifest.sig` may be added after publication.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mods_grpc.artifact.manifest import NAME_PATTERN, FileDigest, Manifest
from mods_grpc.artifact.signature import TrustedKeys
from mods_grpc.atomic_file import create_folder, sync_folder, write_atomically, write_new
from mods_grpc.errors import ArtifactError

MODEL_FILE = "model.onnx"
BATCH_MODEL_FILE = "model.batch.onnx"
MANIFEST_FILE = "manifest.json"
PARITY_FILE = "parity.npz"
CARD_FILE = "MODEL_CARD.md"
SIGNATURE_FILE = "manifest.sig"
GRAPH_FILES = (MODEL_FILE, BATCH_MODEL_FILE)
REQUIRED_FILES = frozenset({MODEL_FILE, PARITY_FILE, CARD_FILE})
LISTED_FILES = REQUIRED_FILES | {BATCH_MODEL_FILE}
VERSION_PATTERN = re.compile(r"[1-9][0-9]{0,8}")
MAX_BYTES = {
    MODEL_FILE: 256 * 1024 * 1024,
    BATCH_MODEL_FILE: 256 * 1024 * 1024,
    MANIFEST_FILE: 32 * 1024 * 1024,
    PARITY_FILE: 64 * 1024 * 1024,
    CARD_FILE: 1024 * 1024,
    SIGNATURE_FILE: 64,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A model version in memory. Every file was read once and matches the manifest.

    Attributes:
        manifest: The manifest.
        digest: SHA-256 of the manifest's bytes, which contain the digests of all other files.
        graphs: The model's graphs by file: MODEL_FILE, and optionally BATCH_MODEL_FILE for large batches.
        parity: Bytes of the parity vectors.
    """

    manifest: Manifest
    digest: str
    graphs: Mapping[str, bytes]
    parity: bytes

    @property
    def model(self) -> bytes:
        """The graph that takes batches of any size."""
        return self.graphs[MODEL_FILE]


def list_versions(repository: Path) -> list[tuple[str, int]]:
    """List `(name, version)` of every version folder, sorted. Hidden folders and links are ignored.

    Raises:
        ArtifactError: The repository is not a readable folder.
    """
    versions = []
    try:
        for model in repository.iterdir():
            if not NAME_PATTERN.fullmatch(model.name) or model.is_symlink() or not model.is_dir():
                continue
            for version in model.iterdir():
                if VERSION_PATTERN.fullmatch(version.name) and not version.is_symlink() and version.is_dir():
                    versions.append((model.name, int(version.name)))
    except OSError as error:
        hint = "; publish a model there first, or give another folder" if isinstance(error, FileNotFoundError) else ""
        raise ArtifactError(f"cannot read the model repository {repository}: {error.strerror}{hint}") from error
    return sorted(versions)


def read_artifact(repository: Path, name: str, version: int, trusted: TrustedKeys | None = None) -> Artifact:
    """Read a version and check its digests.

    Args:
        repository: The model repository.
        name: Name of the model.
        version: Its version.
        trusted: Keys of which one must have signed the manifest; None to accept unsigned versions.

    Raises:
        ArtifactError: A file is absent, a link, too large or differs from the manifest; or the manifest is invalid, or not signed
            by a trusted key.
    """
    folder = repository / name / str(version)
    if folder.is_symlink() or folder.parent.is_symlink():
        raise ArtifactError(f"{name}/{version}: is a link, expected a folder")
    manifest_bytes = _read_file(folder, MANIFEST_FILE)
    if trusted is not None:
        if not os.path.lexists(folder / SIGNATURE_FILE):
            raise ArtifactError(f"{SIGNATURE_FILE}: is absent, and only signed versions are accepted")
        trusted.require(manifest_bytes, _read_file(folder, SIGNATURE_FILE))
    manifest = Manifest.from_json(manifest_bytes)
    if (manifest.name, manifest.version) != (name, version):
        raise ArtifactError(f"manifest: is of {manifest.name}/{manifest.version}, found in {name}/{version}")
    names = [entry.name for entry in manifest.files]
    if not set(names) <= LISTED_FILES or len(set(names)) != len(names):
        raise ArtifactError(f"manifest: lists files that repeat or are none of {', '.join(sorted(LISTED_FILES))}")
    contents = {entry.name: _read_file(folder, entry.name) for entry in manifest.files}
    for required in (MODEL_FILE, PARITY_FILE):
        manifest.file(required)
    for entry in manifest.files:
        content = contents[entry.name]
        if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ArtifactError(f"{entry.name}: size or digest differs from the manifest")
    return Artifact(
        manifest=manifest,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        graphs={name: contents[name] for name in GRAPH_FILES if name in contents},
        parity=contents[PARITY_FILE],
    )


def publish(repository: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Path:
    """Publish a version: write it to a hidden sibling folder, sync that, then rename it. Published versions are never changed.

    Args:
        repository: The model repository; created if absent.
        manifest: The manifest; its `files` are set from `contents`.
        contents: Bytes by file name: the model, the parity vectors and the card, optionally a second graph.

    Returns:
        The published folder.

    Raises:
        ArtifactError: The version exists, a file is absent, too large or not part of a version, or writing failed.
    """
    parent = repository / manifest.name
    target = parent / str(manifest.version)
    if not REQUIRED_FILES <= contents.keys() <= LISTED_FILES:
        expected = f"{', '.join(sorted(REQUIRED_FILES))} and perhaps {BATCH_MODEL_FILE}"
        raise ArtifactError(f"expected the files {expected}, found {', '.join(sorted(contents))}")
    digests = []
    for file_name, data in sorted(contents.items()):
        if len(data) > MAX_BYTES[file_name]:
            raise ArtifactError(f"{file_name}: has {len(data)} bytes, at most {MAX_BYTES[file_name]} are accepted")
        digests.append(FileDigest(name=file_name, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    manifest = replace(manifest, files=tuple(digests))
    files = {**contents, MANIFEST_FILE: manifest.to_json()}
    staging = parent / f".{manifest.version}.{os.getpid()}"
    try:
        create_folder(parent)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for file_name, data in files.items():
            write_new(staging / file_name, data)
        sync_folder(staging)
        os.rename(staging, target)  # fails if the version is published already
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.exists():
            raise ArtifactError(f"{manifest.name}/{manifest.version} is published already and can't be changed") from error
        raise ArtifactError(f"cannot write {manifest.name}/{manifest.version}: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # after the rename there is nothing to remove
    sync_folder(parent)
    return target


def sign_version(repository: Path, name: str, version: int, sign: Callable[[bytes], bytes]) -> Path:
    """Add a signature of the manifest to a published version, or replace it.

    Args:
        repository: The model repository.
        name: Name of the model.
        version: Its version.
        sign: Returns the signature of bytes.

    Returns:
        The signature file.

    Raises:
        ArtifactError: The version differs from its manifest, or the file can't be written.
    """
    artifact = read_artifact(repository, name, version)
    folder = repository / name / str(version)
    manifest_bytes = _read_file(folder, MANIFEST_FILE)
    if hashlib.sha256(manifest_bytes).hexdigest() != artifact.digest:
        raise ArtifactError("manifest: changed while it was read")
    target = folder / SIGNATURE_FILE
    try:
        write_atomically(target, sign(manifest_bytes))
    except OSError as error:
        raise ArtifactError(f"cannot write {SIGNATURE_FILE} of {name}/{version}: {error.strerror}") from error
    return target


def _read_file(folder: Path, name: str) -> bytes:
    """Read a regular file with one hard link; reject symbolic links and files above their size limit."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArtifactError(f"{name}: cannot be opened without following links ({error.strerror})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ArtifactError(f"{name}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_nlink != 1:
            raise ArtifactError(f"{name}: has {status.st_nlink} hard links, expected 1")
        if status.st_size > MAX_BYTES[name]:
            raise ArtifactError(f"{name}: has {status.st_size} bytes, at most {MAX_BYTES[name]} are accepted")
        data = file.read(MAX_BYTES[name] + 1)
        if len(data) > MAX_BYTES[name]:
            raise ArtifactError(f"{name}: grew above {MAX_BYTES[name]} bytes while it was read")
        return data
