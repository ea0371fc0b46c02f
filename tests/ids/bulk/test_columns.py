"""Columns: each line of a block is a row that is certain or is returned, whatever bytes it has."""

import random

import polars as pl
import pytest

from mods_grpc.ids.bulk.columns import read_columns
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.zeek import TsvHeader

NAMES = ["ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "x", "y"]
GOOD = {"ts": b"1713488400.5", "uid": b"C1", "id.orig_h": b"10.0.0.1", "id.resp_h": b"fd00::2"}
CELLS = [
    *(b"", b"-", b"\r", b"\x00", b'"', b"'", b"\xff", b"\xed\xa0\x80", b"\xf0\x9f", b"\xef\xbf\xbd", b"#", b"\\", b"0", b"T"),
    *(b"::ffff:10.0.0.9", b"FD00::2", b"10.0.0.1", b"1713488400.123456789", b"22", b"70000", b"a" * 70_000),
]
LATEST_NS = 1 << 62


def random_block(draw, names, separator):
    block = b""
    for _ in range(draw.choice((1, 2, 20))):
        if draw.random() < 0.5:
            cells = [GOOD.get(name, b"22") for name in names]
        else:
            cells = [draw.choice(CELLS) for _ in range(draw.choice((len(names), len(names), 0, 1, 3, 12)))]
        block += separator.encode().join(cells) + draw.choice((b"\n", b"\n", b"\r\n", b"\n\n"))
    at = draw.randrange(len(block))
    return (block[:at] + draw.randbytes(3) + block[at + 1 :] if draw.random() < 0.2 else block) + b"\n"


@pytest.mark.parametrize("seed", range(150))
def test_each_line_is_the_record_that_it_is_alone_or_is_returned(seed):
    draw = random.Random(seed)
    names = NAMES[: draw.choice((5, 6, 7, 8))]
    draw.shuffle(names)
    header = TsvHeader(
        separator=draw.choice("\t\t\t,;| \x01\x1f"),
        unset=draw.choice(("-", "-", "", "é", "0")),
        empty=draw.choice(("(empty)", "", "-", "T", "0", "22")),
        path="conn",
        names=names,
    )
    block = random_block(draw, names, header.separator)
    columns = read_columns(block, header, "conn", LATEST_NS)
    assert len(columns.frame) == len(columns.offsets)
    assert len(columns.frame) + len(columns.uncertain) == block.count(b"\n")
    parser = LineParser("conn.log", latest_ns=LATEST_NS)
    parser.header = header
    for offset, row in zip(columns.offsets.tolist(), columns.frame.iter_rows(named=True), strict=True):
        record = parser.parse(block[offset : block.index(b"\n", offset)])
        assert {name: getattr(record, name) for name in row} == row


def test_an_unusual_separator_and_a_header_without_addresses_are_left_to_the_parser_of_single_lines():
    block = b"x||y\n"
    with pytest.raises(pl.exceptions.PolarsError):
        read_columns(block, TsvHeader(separator="||", names=NAMES), "conn", LATEST_NS)
    with pytest.raises(MalformedLineError):
        read_columns(block, TsvHeader(names=["ts"]), "conn", LATEST_NS)
