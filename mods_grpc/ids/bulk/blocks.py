"""Reads logs in blocks of whole lines, for the columnar parser: some megabytes at a time, whatever the file's size."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES
from mods_grpc.ids.logs.parser import PADDING

BLOCK_BYTES = 16 << 20
# a header line may change how the lines after it are read
_SPECIAL = tuple(character.encode() for character in f"#{PADDING}")
_LINE_END_BEFORE_SPECIAL = re.compile(b"\n(?=" + b"|".join(map(re.escape, _SPECIAL)) + b")")


class Readable(Protocol):
    """A file of text."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines; the last one of a file may lack its line end.

    Attributes:
        text: The lines. Of a line that is too long only the first bytes, one more than the limit.
        special: Whether its lines may change how the lines after them are read; otherwise none of them does.
    """

    text: bytes
    special: bool

    @property
    def lines(self) -> list[bytes]:
        """The lines without their line ends."""
        lines = self.text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines


def read_blocks(file: Readable, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the lines of a file block by block.

    Args:
        file: The file, decompressed.
        block_bytes: Size of a block.
    """
    rest = b""
    is_skipping = False  # the rest of a line that is too long
    while read := file.read(block_bytes):
        start = 0
        if is_skipping:
            start = read.find(b"\n") + 1
            if not start:
                continue
            is_skipping = False
        end = read.rfind(b"\n") + 1
        if end > start:
            yield from _split(rest + read[start:end])
            rest = read[end:]
        else:
            rest += read[start:]
        if len(rest) > MAX_LINE_BYTES:
            yield Block(rest[: MAX_LINE_BYTES + 1], special=True)
            rest, is_skipping = b"", True
    if rest:
        yield from _split(rest)


def _split(text: bytes) -> Iterator[Block]:
    """Split lines where special ones begin and end."""
    start = end = 0
    while start < len(text):
        is_special = text.startswith(_SPECIAL, start)
        if is_special:
            while text.startswith(_SPECIAL, end):
                end = text.find(b"\n", end) + 1 or len(text)
        else:
            match = _LINE_END_BEFORE_SPECIAL.search(text, start)
            end = match.end() if match else len(text)
        yield Block(text[start:end], is_special)
        start = end
