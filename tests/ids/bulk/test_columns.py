"""Columns: each line of a block is a row that is certain or is returned, whatever bytes it has."""

import random

import polars as pl
import pytest

from mods_grpc.features.records import RECORD_TYPES
from mods_grpc.ids.bulk.columns import read_columns
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.logs.zeek_fields import FIELDS
from tests.support.ids.log_records import random_records, write_zeek_tsv

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


# by type of field, cells that columns can read, and others
SOUND_CELLS = {
    "count": [b"0", b"404", b"1125899906842624"],
    "port": [b"22", b"0"],
    "interval": [b"0.5", b"3"],
    "bool": [b"T", b"F"],
    "negation": [b"T", b"F", b"true"],
    "string": [b"/a?b=1", "ü.example".encode()],
    "enum": [b"udp", b"tcp"],
    "conn_state": [b"S0", b"REJ", b"SF", b"OTH", b"S9", b"s0", b"S0\\x20"],
    "query_type": [b"A", b"txt", b"*", b"query-65", b"TYPE16", b"16"],
    "response_code": [b"NXDOMAIN", b"nxdomain", b"NOERROR", b"3", b"3.0", b"0"],
    "validation": [b"self signed certificate", b"Self-Signed", b"ok", b"self\\x20signed"],
}
ODD_CELLS = [b"true", b"t", b"1125899906842625", b"404.0", b"4x4", b"65536", b"-1", b"a\\x41", b"a\\\\b", b"type 16", b"TXT\\x20"]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("protocol", ["conn", "dns", "http", "ssl", "ssh", "sip", "weird"])
def test_the_fields_of_each_log_are_what_they_are_in_a_line_alone(seed, protocol):
    draw = random.Random(seed)
    fields = {name: field for field in FIELDS[protocol] for name in (field.name, field.other) if name}
    names = [name for name in fields if name != "ts" and (name in GOOD or draw.random() < 0.8)]
    draw.shuffle(names)
    names.insert(0, "ts")  # no line begins as a header or JSON does
    header = TsvHeader(
        unset=draw.choice(("-", "-", "", "S0", "3")), empty=draw.choice(("(empty)", "", "T", "F", "ok")), names=names
    )

    def draw_cell(name):
        if draw.random() < 0.04:
            return draw.choice((*CELLS[:-1], *ODD_CELLS))
        if name in GOOD:
            return GOOD[name]
        return header.unset.encode() if draw.random() < 0.2 else draw.choice(SOUND_CELLS[fields[name].type])

    block = b"".join(b"\t".join(map(draw_cell, names)) + b"\n" for _ in range(60))
    columns = read_columns(block, header, protocol, LATEST_NS)
    parser = LineParser(f"{protocol}.log", latest_ns=LATEST_NS, damaged_fields=(damaged := {}))
    parser.header = header
    for offset, row in zip(columns.offsets.tolist(), columns.frame.iter_rows(named=True), strict=True):
        record = parser.parse(block[offset : block.index(b"\n", offset)])
        assert {name: getattr(record, name) for name in row} == row
    assert damaged == {}, "a damaged field is counted by the parser of single lines"
    assert len(columns.frame)
    assert len(columns.frame) + len(columns.uncertain) == 60


def test_sound_lines_of_each_log_are_read_by_columns(tmp_path):
    for protocol in ("conn", "dns", "http", "ssl", "ssh", "sip", "weird"):
        records = random_records(1, 200, 60, (RECORD_TYPES[protocol],))
        write_zeek_tsv(tmp_path, records)
        parser = LineParser(f"{protocol}.log", latest_ns=LATEST_NS)
        lines = (tmp_path / f"{protocol}.00:00:00-01:00:00.log").read_bytes().splitlines(keepends=True)
        for line in lines[:7]:
            parser.parse(line)
        columns = read_columns(b"".join(lines[7:-1]), parser.header, protocol, LATEST_NS)
        assert columns.uncertain == []
        names = columns.frame.columns
        assert columns.frame.rows() == [tuple(getattr(record, name) for name in names) for record in records]


def test_lines_about_no_host_and_logs_in_which_one_host_is_both_ends_are_left_to_the_parser_of_single_lines():
    header = TsvHeader(names=["ts", "id.orig_h", "id.resp_h", "name"])
    block = b"1713488400.5\t-\t-\ttruncated_header\n1713488400.5\t10.0.0.1\t10.0.0.2\tbad_TCP_checksum\n"
    columns = read_columns(block, header, "weird", LATEST_NS)
    assert columns.frame["name"].to_list() == ["bad_TCP_checksum"]
    assert columns.uncertain == [(0, block.partition(b"\n")[0])]
    with pytest.raises(pl.exceptions.PolarsError):
        read_columns(block, header, "notice", LATEST_NS)


def test_an_unusual_separator_and_a_header_without_addresses_are_left_to_the_parser_of_single_lines():
    block = b"x||y\n"
    with pytest.raises(pl.exceptions.PolarsError):
        read_columns(block, TsvHeader(separator="||", names=NAMES), "conn", LATEST_NS)
    with pytest.raises(MalformedLineError):
        read_columns(block, TsvHeader(names=["ts"]), "conn", LATEST_NS)
