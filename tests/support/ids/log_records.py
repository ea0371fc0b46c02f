"""Random records with a seed, of all protocols and directions, some with unset fields."""

import random

from mods_grpc.features import Conn, Dns, Http, Sip, Ssh, Ssl

SECOND = 1_000_000_000
START = 1_713_484_800 * SECOND  # 2024-04-19T00:00Z
LOCAL = ("10.0.0.1", "10.0.0.2", "10.0.7.1", "192.168.3.4", "fd00::7")
REMOTE = ("8.8.8.8", "1.1.1.1", "203.0.113.9", "2001:db8::1")


def choose_or_none(draw, *choices):
    """Draw a choice, or None with a probability of 1/6."""
    return None if draw.random() < 1 / 6 else draw.choice(choices)


def random_record(draw, seconds):
    """Draw a record within `seconds` after START; its times are whole microseconds."""
    ts = START + int(draw.random() * seconds * 1e6) * 1000
    ends = [draw.choice(LOCAL + REMOTE) for _ in range(2)]
    common = {
        "ts": ts,
        "uid": f"C{draw.randrange(10**9)}",
        "orig_h": ends[0],
        "orig_p": draw.randrange(1, 65_536),
        "resp_h": ends[1],
        "resp_p": draw.choice((22, 53, 80, 443, 5060)),
        "sensor": draw.choice(("w1", "w2", "")),
    }
    kind = draw.choice((Conn, Conn, Dns, Dns, Http, Ssl, Ssh, Sip))
    if kind is Conn:
        flags = draw.choice(((None, None), (True, False), (False, True), (True, True), (False, False)))
        return Conn(
            **common,
            local_orig=flags[0],
            local_resp=flags[1],
            duration=choose_or_none(draw, 0, 1000, 3_564_148_000, draw.randrange(10**9) * 1000),
            orig_bytes=choose_or_none(draw, 0, 1, draw.randrange(1 << 40)),
            resp_bytes=choose_or_none(draw, 0, draw.randrange(5_000)),
        )
    if kind is Dns:
        names = ("AA", "TC", "RD", "RA", "rejected")
        query = choose_or_none(draw, "", "a.example", "b.example", f"{draw.randrange(500)}.example", "ü.example")
        return Dns(
            **common,
            proto=choose_or_none(draw, "udp", "tcp"),
            query=query,
            **{name: choose_or_none(draw, True, False) for name in names},
        )
    if kind is Sip:
        return Sip(**common, user_agent=choose_or_none(draw, "friendly-scanner", "Zoiper 5"))
    return kind(**common)


def random_records(seed, number, seconds):
    draw = random.Random(seed)
    return [random_record(draw, seconds) for _ in range(number)]


_NAMES = {"orig_h": "id.orig_h", "orig_p": "id.orig_p", "resp_h": "id.resp_h", "resp_p": "id.resp_p", "sensor": "_node_name"}
_FIELDS = {
    "conn": "local_orig:bool local_resp:bool duration:interval orig_bytes:count resp_bytes:count",
    "dns": "proto:enum query:string AA:bool TC:bool RD:bool RA:bool rejected:bool",
    "sip": "user_agent:string",
}
_COMMON = "sensor:string ts:time uid:string orig_h:addr orig_p:port resp_h:addr resp_p:port"


def write_zeek_tsv(folder, records, rows_per_file=10**9):
    """Write records as Zeek would, in order, in rotated files of `rows_per_file` rows; each line ends with an unused field."""
    by_protocol = {}
    for record in records:
        by_protocol.setdefault(record.protocol, []).append(record)
    for protocol, of_protocol in by_protocol.items():
        fields = [one.split(":") for one in f"{_COMMON} {_FIELDS.get(protocol, '')} tags:set[string]".split()]
        head = [
            "#separator \\x09",
            "#set_separator\t,",
            "#empty_field\t(empty)",
            "#unset_field\t-",
            f"#path\t{protocol}",
            "#fields\t" + "\t".join(_NAMES.get(name, name) for name, _ in fields),
            "#types\t" + "\t".join(kind for _, kind in fields),
        ]
        for part, first in enumerate(range(0, len(of_protocol), rows_per_file)):
            rows = of_protocol[first : first + rows_per_file]
            lines = head + ["\t".join(_cell(row, name) for name, _ in fields) for row in rows] + ["#close\t2024-04-20-00-00-00"]
            (folder / f"{protocol}.{part:02d}:00:00-{part + 1:02d}:00:00.log").write_text("\n".join(lines) + "\n")


def _cell(record, name):
    value = getattr(record, name, None)
    if name == "tags":
        return "(empty)"
    if value is None or (name == "sensor" and value == ""):
        return "-"
    if name in {"ts", "duration"}:
        return f"{value // SECOND}.{value % SECOND // 1000:06d}"
    return {True: "T", False: "F"}[value] if isinstance(value, bool) else str(value) or "(empty)"
