"""Logs in blocks of whole lines, for the columnar reader: some megabytes at a time, whatever the file's size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from mods_grpc.ids.sources.rotation import GZIP_ERRORS

BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines. Either all are header lines, each beginning with #, or none is."""

    text: bytes
    header: bool


def read_blocks(file: IO[bytes], refuse: Callable[[str, bytes], None], block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Read a file block by block. A line longer than a block is refused; a damaged file ends where the damage is."""
    rest = b""
    skipping = False
    while True:
        try:
            read = file.read(block_bytes)
        except (OSError, *GZIP_ERRORS):
            refuse("damaged file", b"")
            read = b""
        if not read:
            break
        end = read.rfind(b"\n") + 1
        if not end:
            if not skipping and len(rest) + len(read) > block_bytes:
                refuse("long", rest or read)
                skipping = True
            rest = b"" if skipping else rest + read
            continue
        start = read.find(b"\n") + 1 if skipping else 0
        skipping = False
        yield from _split(rest + read[start:end])
        rest = read[end:]
    if rest:
        yield from _split(rest)


def _split(text: bytes) -> Iterator[Block]:
    """Cut where header lines begin and end: a log may hold several, one below the other."""
    start = 0
    while start < len(text):
        header = text.startswith(b"#", start)
        end = text.find(b"\n" if header else b"\n#", start) + 1 or len(text)
        if end > start:
            yield Block(text[start:end], header)
        start = end
