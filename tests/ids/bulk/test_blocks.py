"""Blocks of whole lines: every line is in one block, lines that may be headers apart, lines that are too long cut."""

import io

import pytest

from mods_grpc.ids.bulk.blocks import Block, read_blocks
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 1 << 20])
def test_lines_that_may_be_headers_are_in_blocks_of_their_own(block_bytes):
    text = b"#a\n#b\nx\ny\n\xef\xbb\xbf#c\nz\n\x00\x00#d\n #e\n\nw"
    blocks = list(read_blocks(io.BytesIO(text), block_bytes))
    assert b"".join(block.text for block in blocks) == text
    special = [line for block in blocks if block.special for line in block.lines]
    assert special == [b"#a", b"#b", b"\xef\xbb\xbf#c", b"\x00\x00#d", b" #e"]
    assert [line for block in blocks if not block.special for line in block.lines] == [b"x", b"y", b"z", b"", b"w"]


@pytest.mark.parametrize("block_bytes", [100_000, 16 << 20])
def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_whole(block_bytes):
    long = b"z" * (3 * MAX_LINE_BYTES)
    blocks = list(read_blocks(io.BytesIO(b"a\n" + long + b"\nb\n" + long), block_bytes))
    lines = [line for block in blocks for line in block.lines]
    assert [line[:2] for line in lines] == [b"a", b"zz", b"b", b"zz"]
    assert min(len(line) for line in lines if line.startswith(b"z")) > MAX_LINE_BYTES
    assert all(len(block.text) <= MAX_LINE_BYTES + 1 for block in blocks) or block_bytes > 3 * MAX_LINE_BYTES


def test_nothing_is_read_of_an_empty_file():
    assert list(read_blocks(io.BytesIO(b""))) == []
    assert Block(b"\n", special=False).lines == [b""]
