"""How a file is recognised after it was renamed, moved or compressed."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from mods_grpc.ids.sources.log_files import LogFile
from mods_grpc.ids.sources.text_file import open_log

HEAD_BYTES = 2_048  # covers Zeek's header with the time of opening and the first lines, or the first JSON lines


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Hash of the first bytes of a file's text, which stays the same when the file is renamed, moved or compressed."""

    length: int
    digest: str

    @classmethod
    def of(cls, head: bytes) -> "FileIdentity":
        """Return the identity of a file that begins with `head`."""
        head = head[:HEAD_BYTES]
        return cls(len(head), blake2b(head, digest_size=16).hexdigest())

    def matches(self, head: bytes) -> bool:
        """Return whether a file that begins with `head` can be the same file, perhaps grown since."""
        return len(head) >= self.length and FileIdentity.of(head[: self.length]) == self

    def is_whole(self, head: bytes) -> bool:
        """Return whether a file that begins with `head` is the same and as long, or longer than what identifies it."""
        return len(head) == self.length and FileIdentity.of(head) == self


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file's text; empty if it is gone or damaged."""
    try:
        with open_log(path) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def find_file(files: Iterable[LogFile], identity: FileIdentity) -> int | None:
    """Return the index of the newest file that matches an identity; None if none does."""
    listed = list(files)
    for index in reversed(range(len(listed))):
        if identity.matches(read_head(listed[index].path)):
            return index
    return None


def drop_copies(files: Iterable[LogFile]) -> list[LogFile]:
    """Return the files without rotated ones that are empty or have a later copy, such as a file next to its compressed form."""
    by_head: dict[bytes, LogFile] = {}
    for file in files:
        head = read_head(file.path)
        by_head.pop(head, None)
        if head or not file.rotated:
            by_head[head] = file
    return list(by_head.values())
