"""Random logs with a seed, as writers and accidents leave them: mixed formats, headers anywhere, damaged lines, cut files."""

import gzip
import json
import random
from pathlib import Path

from mods_grpc.features.records import RECORD_TYPES
from mods_grpc.ids.logs.log_names import ZEEK_LOGS
from tests.support.ids.log_records import COMMON_FIELDS, SECOND, ZEEK_FIELDS, format_cell, random_record, zeek_value

MORE_FIELDS = {
    "dns": "qtype:count rcode:count answers:vector[string]",
    "notice": "src:addr dst:addr p:port",
    "weird": "notice:bool peer:string",
}
HOSTLESS = {"notice", "weird"}
SEPARATORS = ("\t",) * 40 + (",", ";", "|", " ", "||", "\t\t", ", ", "\x01", "^", '"', "é", "-", "#", "{", ":", "1")
HOSTILE = (
    b"",
    b"-",
    b"--",
    b"(empty)",
    b" ",
    b"\x00",
    b"\x1b[2J",
    b"\r",
    b"\xff\xfe",
    b"\xe2\x82",
    b"\xef\xbf\xbd",
    b"\xef\xbb\xbf",
    b'"',
    b'"a',
    b"'",
    b"\\x00",
    b"\\",
    b"#",
    b"{}",
    b"T",
    b"F",
    b"t",
    b"true",
    b"S0",
    b"RSTOS0",
    b"S0 ",
    b"S9",
    b"*",
    b"query-65",
    b"TYPE16",
    b"type 16",
    b"nxdomain",
    b"3.0",
    b"Self-Signed certificate",
    b"1",
    b"-1",
    b"+1",
    b"1e3",
    b"1_0",
    b"0",
    b"00",
    b"1.",
    b".5",
    b"1.5",
    b"-0.000001",
    b"0x10",
    b"NaN",
    b"inf",
    b"99999",
    b"65535",
    b"65536",
    b"1125899906842624",
    b"1125899906842625",
    b"9007199254740993",
    b"99999999999999999999",
    b"86400.000001",
    b"86401",
    b"316224001.0",
    b"946684799.999999",
    b"946684800",
    b"1713488400.1234567",
    b"1713488400.12345678901",
    b"1713488400123.5",
    b"1713488400123",
    b"2024-04-19T01:00:00.5Z",
    b"2024-04-19T01:00:00",
    b"4294967295",
    b"10.0.0.1",
    b"10.0.0.01",
    b"10.0.0.256",
    b"10.0.0.1 ",
    b"::ffff:10.0.0.9",
    b"FD00::0007",
    b"fd00:0:0:0::7",
    b"fe80::1%eth0",
    b"::",
    b"::1",
    b"1::2::3",
    "ü.example".encode(),
    "\u2028\x85\u200b".encode(),
    b"a\x7fb",
    b"x" * 300,
)
COMMENTS = (
    b"#close\t2024-04-20-00-00-00",
    b"#open\t2024-04-20-00-00-00",
    b"#",
    b"#unset_field\tN/A",
    b"#unset_field\t",
    b"#empty_field\t",
    b"#empty_field\t-",
    b"#set_separator\t|",
    b"#path\tdns",
    b"#path\tconn",
    b"#path\tweird",
    b"#path\t",
    b"#fields",
    b"#fields\t",
    b"#fields\tts",
    b"#types\tstring\tstring",
    b"#separator \\x2c",
    b"#separator",
    b"# a comment",
    b"#separator \\x09",
    b"\xef\xbb\xbf#close",
    b" #path\tdns",
    b"\x00\x00#path\tdns",
)
NAMES = (
    "{0}.log",
    "{0}.00:00:00-01:00:00.log",
    "{0}.2024-04-19-00-00-00.log.gz",
    "{0}.log.1",
    "a/{0}.log",
    "b/{0}.log",
    "2024-04-19/{0}.log",
    "eve.json",
    "eve-2024-04-19.json",
    "eve.1.json",
)


def write_damaged_logs(folder: Path, seed: int, *, max_lines: int = 60) -> None:
    """Write a few log files below a folder."""
    draw = random.Random(seed)
    for _ in range(draw.choice((1, 1, 2, 4))):
        protocol = draw.choice(ZEEK_LOGS)
        name = draw.choice(NAMES).format(protocol)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage_file(draw, make_log_text(draw, protocol, max_lines), packed=name.endswith(".gz")))


def make_log_text(draw: random.Random, protocol: str, max_lines: int) -> bytes:
    """Return the text of a file, in TSV and JSON."""
    end = draw.choice((b"\n",) * 8 + (b"\r\n", b"\r\r\n"))
    lines: list[bytes] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        of = draw.choice((protocol, protocol, draw.choice(ZEEK_LOGS)))
        if draw.random() < 0.15:
            lines += [_json_line(draw, of) for _ in range(draw.randrange(max_lines // 2))]
        else:
            lines += _tsv_lines(draw, of, draw.randrange(max_lines))
    for _ in range(draw.choice((0, 0, 1, 3))):
        lines.insert(draw.randint(0, len(lines)), draw.choice((b"", b"", b" ", b"\t", *COMMENTS, _json_line(draw, protocol))))
    return b"".join(line + end for line in lines)


def _tsv_lines(draw: random.Random, protocol: str, number: int) -> list[bytes]:
    columns = [column.split(":") for column in f"{COMMON_FIELDS} {ZEEK_FIELDS[protocol]} {MORE_FIELDS.get(protocol, '')}".split()]
    if draw.random() < 0.4:
        columns.insert(0, ["_node_name", "string"])
    if draw.random() < 0.6:
        columns.append(["tags", "set[string]"])
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        _change_columns(draw, columns)
    separator = draw.choice(SEPARATORS)
    unset, empty = draw.choice(("-",) * 16 + ("", "N/A", "(unset)", "é")), draw.choice(("(empty)",) * 16 + ("", "-", "EMPTY"))
    header = [
        "#separator " + "".join(f"\\x{byte:02x}" for byte in separator.encode()),
        f"#set_separator{separator},",
        f"#empty_field{separator}{empty}",
        f"#unset_field{separator}{unset}",
        f"#path{separator}{protocol}",
        f"#open{separator}2024-04-19-00-00-00",
        "#fields" + separator + separator.join(name for name, _ in columns),
        "#types" + separator + separator.join(kind for _, kind in columns),
    ]
    for _ in range(draw.choice((0, 0, 0, 0, 0, 0, 0, 1, 2))):
        if len(header) > 1:
            del header[draw.randrange(len(header))]
    lines = [line.encode() for line in header]
    if draw.random() < 0.1:
        lines[0] = b"\xef\xbb\xbf" + lines[0]
    trailing = draw.choice((0,) * 20 + (1, 2))
    for _ in range(number):
        record = random_record(draw, 3_600, (RECORD_TYPES[protocol],))
        names = [name.removeprefix("x.") for name, _ in columns]
        hidden = _draw_unset_hosts(draw, protocol)
        cells = [format_cell(None if name in hidden else zeek_value(record, name), name, unset, empty).encode() for name in names]
        if draw.random() < 0.15:
            _damage_cells(draw, cells)
        lines.append(separator.encode().join(cells + [b""] * trailing))
    return lines


def _change_columns(draw: random.Random, columns: list[list[str]]) -> None:
    change = draw.randrange(7)
    index = draw.randrange(len(columns))
    if change == 0:
        del columns[index]
    elif change == 1:
        columns.insert(index, list(draw.choice(columns)))
    elif change == 2:
        draw.shuffle(columns)
    elif change == 3:
        columns[index][1] = draw.choice(("string", "count", "double", "int", "addr", "time", "set[string]", ""))
    elif change == 4:
        columns[index][0] = columns[index][0].replace(".", draw.choice(("_", "__", "..")))
    elif change == 5:
        columns[index][0] = draw.choice(("", " ", "ts ", "é", '"', "\r", "_duplicated_0", "0", "column_1", "#", "ts\r"))
    else:
        columns[:] = [[f"x.{name}", kind] for name, kind in columns] if draw.random() < 0.3 else columns[:6]
    if not columns:
        columns.append(["ts", "time"])


def _damage_cells(draw: random.Random, cells: list[bytes]) -> None:
    damage = draw.randrange(6)
    index = draw.randrange(len(cells))
    if damage <= 3:
        cells[index] = draw.choice(HOSTILE)
    elif damage == 4:
        del cells[index:]
        cells.append(b"")
    else:
        cells[draw.choice((index, len(cells))) : 0] = [draw.choice(HOSTILE)] * draw.choice((1, 1, 2))


def _draw_unset_hosts(draw: random.Random, protocol: str) -> set[str]:
    """Return the fields of hosts that a line of a log leaves unset if it may be about none."""
    if protocol not in HOSTLESS or draw.random() < 0.5:
        return set()
    return {"id.orig_h", "id.resp_h", *draw.choice(((), ("dst",), ("src", "dst")))}


def _json_line(draw: random.Random, protocol: str) -> bytes:
    record = random_record(draw, 3_600, (RECORD_TYPES[protocol],))
    event: dict[str, object] = {"_path": protocol}
    hidden = _draw_unset_hosts(draw, protocol)
    for column in f"{COMMON_FIELDS} {ZEEK_FIELDS[protocol]} {MORE_FIELDS.get(protocol, '')}".split():
        name = column.partition(":")[0]
        value = zeek_value(record, name)
        if value is not None and name not in hidden:
            event[name] = value / SECOND if name in {"ts", "duration"} else value
    for _ in range(draw.choice((0, 0, 0, 1, 2))):
        name = draw.choice(tuple(event))
        event[name] = draw.choice(
            (None, -1, 1.5, "", "a\x00b", [], {}, True, 1 << 60, draw.choice(HOSTILE).decode("utf-8", "replace"))
        )
    text = json.dumps(event, ensure_ascii=draw.random() < 0.5).encode()
    return text if draw.random() < 0.9 else text[: draw.randrange(len(text))] or b"{"


def damage_file(draw: random.Random, text: bytes, *, packed: bool) -> bytes:
    """Return the content of a file with a text, perhaps damaged; always compressed if `packed`."""
    kind = draw.randrange(10)
    if kind == 0:
        text = b"\xef\xbb\xbf" + text
    elif kind == 1:
        text = bytes(draw.choice((1, 100))) + text
    elif kind == 2 and text:
        text = text[: draw.randrange(len(text))]
    elif kind == 3 and text:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(HOSTILE) + text[at + draw.choice((0, 1, 30)) :]
    elif kind == 4:
        text = text.rstrip(b"\r\n")
    if not packed and draw.random() < 0.8:
        return text
    cut = draw.randrange(len(text) + 1)
    compressed = gzip.compress(text[:cut]) + gzip.compress(text[cut:]) if draw.random() < 0.3 else gzip.compress(text)
    if draw.random() < 0.4:
        compressed = compressed[: draw.randrange(len(compressed))]
    elif draw.random() < 0.2:
        at = draw.randrange(len(compressed))
        compressed = compressed[:at] + bytes([draw.randrange(256)]) + compressed[at + 1 :]
    return compressed
