"""Random records with a seed, of all protocols and directions, some with unset fields; and the logs of Zeek that hold them."""

import random

from mods_grpc.features.records import Alert, Conn, Dns, Http, Notice, Sip, Ssh, Ssl, Weird

SECOND = 1_000_000_000
START = 1_713_484_800 * SECOND  # 2024-04-19T00:00Z
LOCAL = ("10.0.0.1", "10.0.0.2", "10.0.7.1", "192.168.3.4", "fd00::7")
REMOTE = ("8.8.8.8", "1.1.1.1", "203.0.113.9", "2001:db8::1")
ZEEK_KINDS = (Conn, Conn, Dns, Dns, Http, Ssl, Ssh, Sip, Notice, Weird)
ALL_KINDS = (*ZEEK_KINDS, Alert)


def choose_or_none(draw, *choices):
    """Draw a choice, or None with a probability of 1/6."""
    return None if draw.random() < 1 / 6 else draw.choice(choices)


def random_record(draw, seconds, kinds=ZEEK_KINDS):
    """Draw a record of one of some kinds within `seconds` after START; its times are whole microseconds."""
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
    kind = draw.choice(kinds)
    if kind is Conn:
        flags = draw.choice(((None, None), (True, False), (False, True), (True, True), (False, False)))
        proto = PROTOS[int(common["uid"][1:]) % len(PROTOS)]
        if proto == "icmp":
            common["orig_p"] = choose_icmp_type(common["orig_p"])
        return Conn(
            **common,
            proto=proto,
            local_orig=flags[0],
            local_resp=flags[1],
            duration=choose_or_none(draw, 0, 1000, 3_564_148_000, draw.randrange(10**9) * 1000),
            orig_bytes=choose_or_none(draw, 0, 1, draw.randrange(1 << 40)),
            resp_bytes=choose_or_none(draw, 0, draw.randrange(5_000)),
            failed=choose_or_none(draw, True, False),
        )
    if kind is Dns:
        names = ("AA", "TC", "RD", "RA", "rejected")
        number = draw.randrange(500)
        names_asked = (
            "",
            "a.example",
            "b.example",
            f"{number}.example",
            f"{number}.b.example",
            f"{number % 40}.B.example.",
            "ü.example",
            f"{number}.0.0.10.in-addr.arpa",
        )
        query = choose_or_none(draw, *names_asked)
        return Dns(
            **common,
            proto=choose_or_none(draw, "udp", "tcp"),
            query=query,
            **{name: choose_or_none(draw, True, False) for name in names},
            qtype=choose_or_none(draw, *QUERY_TYPES),
            nxdomain=choose_or_none(draw, True, False),
        )
    return kind(**common, **_draw_other_fields(draw, kind))


def _draw_other_fields(draw, kind):
    """Draw the fields of a record that is neither a connection nor of DNS."""
    if kind is Http:
        return {
            "method": choose_or_none(draw, "GET", "POST"),
            "host": choose_or_none(draw, "www.example", "ü.example"),
            "uri": choose_or_none(draw, "/", f"/{draw.randrange(50)}?q=1"),
            "status": choose_or_none(draw, 200, 304, 404, 500),
            "request_bytes": choose_or_none(draw, 0, draw.randrange(1 << 40)),
            "user_agent": choose_or_none(draw, "curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64)"),
        }
    if kind is Ssl:
        return {
            "server_name": choose_or_none(draw, "www.example", f"{draw.randrange(50)}.example"),
            "failed": choose_or_none(draw, True, False),
            "self_signed": choose_or_none(draw, True, False),
        }
    if kind is Ssh:
        return {"failed": choose_or_none(draw, True, False)}
    if kind is Sip:
        return {"user_agent": choose_or_none(draw, "friendly-scanner", "Zoiper 5")}
    if kind is Alert:
        return {"severity": choose_or_none(draw, 1, 2, 3, 4)}
    return {"name": choose_or_none(draw, "Scan::Port_Scan", "data_before_established", "bad_TCP_checksum")}


def random_records(seed, number, seconds, kinds=ZEEK_KINDS):
    draw = random.Random(seed)
    return [random_record(draw, seconds, kinds) for _ in range(number)]


def choose_icmp_type(number):
    """Return the type of a message of ICMP that a number stands for; None for one of many."""
    return (None, 0, 3, 5, 8, 11, 13, 128, 129, 135, 136)[number % 11]


PROTOS = ("tcp", "udp", None, "icmp", "tcp", "icmp")
QUERY_TYPES = {"A": 1, "PTR": 12, "TXT": 16, "AAAA": 28, "HTTPS": 65, "ANY": 255, "TYPE999": 999}
COMMON_FIELDS = "ts:time uid:string id.orig_h:addr id.orig_p:port id.resp_h:addr id.resp_p:port"
ZEEK_FIELDS = {
    "conn": "proto:enum duration:interval orig_bytes:count resp_bytes:count local_orig:bool local_resp:bool conn_state:string",
    "dns": "proto:enum query:string AA:bool TC:bool RD:bool RA:bool rejected:bool qtype_name:string rcode_name:string",
    "http": "method:string host:string uri:string status_code:count request_body_len:count user_agent:string",
    "ssl": "server_name:string established:bool validation_status:string",
    "ssh": "auth_success:bool",
    "sip": "user_agent:string",
    "notice": "note:enum",
    "weird": "name:string",
}
_ATTRIBUTES = {
    "id.orig_h": "orig_h",
    "id.orig_p": "orig_p",
    "id.resp_h": "resp_h",
    "id.resp_p": "resp_p",
    "_node_name": "sensor",
    "conn_state": "failed",
    "qtype_name": "qtype",
    "qtype": "qtype",
    "rcode_name": "nxdomain",
    "rcode": "nxdomain",
    "status_code": "status",
    "request_body_len": "request_bytes",
    "established": "failed",
    "validation_status": "self_signed",
    "auth_success": "failed",
    "note": "name",
    "src": "orig_h",
    "dst": "resp_h",
}
_ZEEK_VALUES = {
    "conn_state": {True: "S0", False: "SF"},
    "qtype_name": {"ANY": "*", "TYPE999": "query-999"},
    "qtype": QUERY_TYPES,
    "rcode_name": {True: "NXDOMAIN", False: "NOERROR"},
    "rcode": {True: 3, False: 0},
    "validation_status": {True: "self signed certificate", False: "ok"},
    "established": {True: False, False: True},
    "auth_success": {True: False, False: True},
}


def zeek_value(record, name):
    """Return the value that Zeek writes to a field of a record's line; None for an unset one. Times are in nanoseconds."""
    value = getattr(record, _ATTRIBUTES.get(name, name), None)
    return _ZEEK_VALUES.get(name, {}).get(value, value)


def write_zeek_tsv(folder, records, rows_per_file=10**9):
    """Write records as Zeek would, in order, in rotated files of `rows_per_file` rows; each line ends with an unused field."""
    by_protocol = {}
    for record in records:
        by_protocol.setdefault(record.protocol, []).append(record)
    for protocol, of_protocol in by_protocol.items():
        columns = f"_node_name:string {COMMON_FIELDS} {ZEEK_FIELDS[protocol]} tags:set[string]"
        fields = [one.split(":") for one in columns.split()]
        head = [
            "#separator \\x09",
            "#set_separator\t,",
            "#empty_field\t(empty)",
            "#unset_field\t-",
            f"#path\t{protocol}",
            "#fields\t" + "\t".join(name for name, _ in fields),
            "#types\t" + "\t".join(kind for _, kind in fields),
        ]
        for part, first in enumerate(range(0, len(of_protocol), rows_per_file)):
            rows = of_protocol[first : first + rows_per_file]
            lines = head + ["\t".join(_cell(row, name) for name, _ in fields) for row in rows] + ["#close\t2024-04-20-00-00-00"]
            (folder / f"{protocol}.{part:02d}:00:00-{part + 1:02d}:00:00.log").write_text("\n".join(lines) + "\n")


def _cell(record, name):
    return "(empty)" if name == "tags" else format_cell(zeek_value(record, name), name)


def format_cell(value, name, unset="-", empty="(empty)"):
    """Return the cell of a field in Zeek's TSV."""
    if value is None or (name == "_node_name" and value == ""):
        return unset
    if name in {"ts", "duration"}:
        return f"{value // SECOND}.{value % SECOND // 1000:06d}"
    return {True: "T", False: "F"}[value] if isinstance(value, bool) else str(value) or empty
