"""Reads logs in blocks of whole lines, for the columnar parser: some megabytes at a time, whatever the file's size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from mods_grpc.ids.sources.rotation import GZIP_ERRORS

BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines. `header` is whether all of them are header lines, which begin with #; otherwise none is."""

    text: bytes
    header: bool


def read_blocks(file: IO[bytes], on_rejected: Callable[[str, bytes], None], block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield a file block by block. A line longer than a block is rejected; a damaged file ends at the damage.

    Args:
        file: The file, decompressed.
        on_rejected: Called with the reason and the line, or its beginning.
        block_bytes: Size of a block.
    """
    rest = b""
    skipping = False
    while True:
        try:
            read = file.read(block_bytes)
        except (OSError, *GZIP_ERRORS):
            on_rejected("damaged file", b"")
            read = b""
        if not read:
            break
        end = read.rfind(b"\n") + 1
        if not end:
            if not skipping and len(rest) + len(read) > block_bytes:
                on_rejected("long", rest or read)
                skipping = True
            rest = b"" if skipping else rest + read
            continue
        start = read.find(b"\n") + 1 if skipping else 0
        skipping = False
        yield from _split(rest + read[start:end])
        rest = read[end:]
    if rest:
        yield from _split(rest)


def _split(lines: bytes) -> Iterator[Block]:
    """Split lines where header lines begin and end: a file may have several headers."""
    start = 0
    while start < len(lines):
        header = lines.startswith(b"#", start)
        end = lines.find(b"\n" if header else b"\n#", start) + 1 or len(lines)
        if end > start:
            yield Block(lines[start:end], header)
        start = end
