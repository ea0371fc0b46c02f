"""The columns of derived attributes are what the properties of records say."""

import random

import polars as pl
import pytest

from mods_grpc.features.definitions import FEATURES, REMOTE_HOST
from mods_grpc.features.records import RECORD_TYPES, Alert, Conn, Dns, Http
from mods_grpc.ids.bulk.derived import DERIVED, add_derived, is_reply

HOSTS = ("10.0.0.1", "223.255.255.255", "224.0.0.1", "239.1.2.3", "240.0.0.1", "22.4.0.1", "255.255.255.255", "255.255.255.254")
HOSTS += ("ff02::1", "fe80::1", "2001:db8::ff", "::1", "225::1")
NAMES = ("", "a.example.co.uk", "B.Example.CO.UK.", "localhost", "co.uk", "1.0.0.10.in-addr.arpa", "x.ip6.arpa")
NAMES += (
    "é.example",
    "a..b",
    ".",
    "www.example.com",
    "example.com",
    "_ldap._tcp.example.com",
    "a.b.c.d.e.f.github.io",
    "\\xff.example",
    " ",
)


def some(draw, *choices):
    return draw.choice((None, *choices))


def random_conn(draw):
    return {
        "orig_p": some(draw, *range(18), *range(126, 148), 65_535),
        "resp_p": some(draw, 0, 22, 135, 139, 443, 445, 3389, 5985, 5986, 65_535),
        "proto": some(draw, "tcp", "udp", "icmp", "icmp", "ipv6-icmp", ""),
        "duration": some(draw, 0, 3_599_999_999_000, 3_600_000_000_000, 10**15),
        "failed": some(draw, True, False),
    }


def random_dns(draw):
    return {"query": some(draw, *NAMES), "qtype": some(draw, "", "A", "AAAA", "TXT", "NULL", "HTTPS", "TYPE99", "a")}


def random_http(draw):
    return {
        "host": some(draw, "", "example.com"),
        "uri": some(draw, "", "/", "/é"),
        "status": some(draw, 0, 200, 399, 400, 404, 599, 600, 10**15),
    }


def random_alert(draw):
    return {"severity": some(draw, 0, 1, 2, 3, 4, 255)}


FIELDS = {Conn: random_conn, Dns: random_dns, Http: random_http, Alert: random_alert}
PROPERTIES = {
    kind: [name for name in DERIVED if isinstance(getattr(kind, name, None), property)] for kind in RECORD_TYPES.values()
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_a_column_holds_what_the_property_of_each_record_says(kind, seed):
    draw = random.Random(seed)
    rows = [
        {"ts": 1, "orig_h": draw.choice(HOSTS), "resp_h": draw.choice(HOSTS), **FIELDS[kind](draw)}
        for _ in range(draw.choice((1, 300)))
    ]
    schema = {name: type_ for name, type_ in SCHEMA.items() if name in rows[0]}
    frame = add_derived(pl.DataFrame(rows, schema=schema), PROPERTIES[kind])
    for name in PROPERTIES[kind]:
        of_records = [getattr(kind(**row), name) for row in rows]
        assert frame[name].to_list() == of_records, name


SCHEMA = {
    **dict.fromkeys(("ts", "orig_p", "resp_p", "duration", "status", "severity"), pl.Int64),
    **dict.fromkeys(("orig_h", "resp_h", "proto", "query", "qtype", "host", "uri"), pl.String),
    "failed": pl.Boolean,
}


def test_replies_are_those_of_the_records():
    draw = random.Random(1)
    rows = [{"ts": 1, "orig_h": HOSTS[0], "resp_h": HOSTS[1], **random_conn(draw)} for _ in range(2_000)]
    frame = pl.DataFrame(rows, schema={name: type_ for name, type_ in SCHEMA.items() if name in rows[0]})
    expected = [Conn(**row).is_reply for row in rows]
    assert frame.select(is_reply()).to_series().to_list() == expected
    assert 200 < sum(expected) < 1_000


def test_every_attribute_that_a_feature_reads_is_a_field_of_the_record_or_a_column_that_can_be_derived():
    for feature in FEATURES:
        kind = RECORD_TYPES[feature.protocol]
        for attribute in {feature.measure.field, feature.measure.second} - {"", REMOTE_HOST}:
            assert (attribute in DERIVED) == isinstance(getattr(kind, attribute), property), (feature.key, attribute)
