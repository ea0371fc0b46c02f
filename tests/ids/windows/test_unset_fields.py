"""Which columns are made from fields that no record has."""

import dataclasses
import json
import random

import polars as pl
import pytest

from mods_grpc.features import ALL_FEATURES, Definition
from mods_grpc.features.records import RECORD_TYPES, Conn, Http, Ssh, Ssl
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.windows.recent_values import MIN_RECORDS as MIN_RECENT
from mods_grpc.ids.windows.unset_fields import ALWAYS_SET, BASES, MIN_LACKING_SECONDS, UnsetField, UnsetFields

ENDS = {"ts": 1, "orig_h": "10.0.0.5", "resp_h": "203.0.113.9"}
SSH_FAILED = UnsetField(protocol="ssh", attribute="failed", records=3, columns=("ssh|in_failed", "ssh|out_failed"))


def follow(*keys):
    return UnsetFields(Definition.of(keys))


def test_a_field_that_no_record_has_is_unset_until_one_has_it():
    fields = follow("ssh|in_failed", "ssh|in", "ssh|out_failed", "ssl|in_failed")
    for _ in range(3):
        fields.note(Ssh(**ENDS))
    assert fields.list_unset(3) == (SSH_FAILED,)
    assert fields.list_unset(4) == ()
    assert fields.list_unset(3, without=["ssh|out_failed"]) == (dataclasses.replace(SSH_FAILED, columns=("ssh|in_failed",)),)
    assert fields.list_unset(3, without=SSH_FAILED.columns) == ()
    fields.note(Ssh(**ENDS, failed=False))
    assert fields.list_unset(0) == (UnsetField(protocol="ssl", attribute="failed", records=0, columns=("ssl|in_failed",)),)


def test_hours_of_pings_which_have_no_port_do_not_unset_the_columns_of_ports():
    unset = follow("conn|internal_distinct_admin_hosts")
    second = 1_000_000_000
    for number in range(100):
        unset.note(Conn(ts=number * second, orig_h="10.0.0.1", resp_h="10.0.0.2", proto="tcp", resp_p=22))
    for number in range(1_200):
        unset.note(Conn(ts=(100 + 10 * number) * second, orig_h="10.0.0.1", resp_h="10.0.0.2", proto="icmp", orig_p=8))
    assert unset.list_unset(100) == ()


def test_a_column_of_two_fields_needs_both_and_a_derived_one_what_it_is_derived_from():
    fields = follow("conn|out_producer_consumer_ratio", "http|in_distinct_urls", "http|in_errors")
    fields.note(Http(**ENDS, uri="/"))
    assert [(field.attribute, field.columns) for field in fields.list_unset(0)] == [
        ("orig_bytes", ("conn|out_producer_consumer_ratio",)),
        ("resp_bytes", ("conn|out_producer_consumer_ratio",)),
        ("status", ("http|in_errors",)),
    ]


def test_records_by_columns_give_the_same():
    fields, by_columns = follow("ssl|in_failed", "ssl|out_self_signed"), follow("ssl|in_failed", "ssl|out_self_signed")
    records = [Ssl(**ENDS), Ssl(**ENDS, self_signed=True), Ssl(**ENDS)]
    for record in records:
        fields.note(record)
    values = {name: [getattr(record, name) for record in records] for name in ("ts", "failed", "self_signed")}
    by_columns.note_columns("ssl", pl.DataFrame(values, schema=dict.fromkeys(values, pl.Boolean) | {"ts": pl.Int64}))
    assert by_columns.list_unset(1) == fields.list_unset(1)
    assert [field.attribute for field in fields.list_unset(1)] == ["failed"]


def test_the_state_survives_a_restart():
    fields, restored = follow("ssh|in_failed", "ssl|in_failed"), follow("ssh|in_failed", "ssl|in_failed")
    for record in (Ssh(**ENDS), Ssl(**ENDS, failed=True)):
        fields.note(record)
    restored.restore(json.loads(json.dumps(fields.state())))
    restored.note(Ssh(**ENDS))
    assert [(field.protocol, field.records) for field in restored.list_unset(1)] == [("ssh", 2)]


@pytest.mark.parametrize("feature", ALL_FEATURES.features, ids=lambda feature: feature.key)
def test_every_column_says_what_it_is_made_from(feature):
    fields = {each.name: each for each in dataclasses.fields(RECORD_TYPES[feature.protocol])}
    for name in filter(None, (feature.measure.field, feature.measure.second)):
        base = BASES.get(name, name)
        assert base in ALWAYS_SET or fields[base].default is None, name
        if name in BASES:
            assert not getattr(RECORD_TYPES[feature.protocol](**ENDS), name), "nothing is derived from an unset field"


LACKING = ("failed",)
HOUR, DAY = 3_600, 86_400


def ssl_of(log, time, **fields):
    lacks = {"with": (), "without": LACKING, "json": None}[log]
    return Ssl(**ENDS | {"ts": time * 10**9}, lacks=lacks, **fields)


def json_lines(count, *, begin, every, kind=Ssl, **fields):
    return [kind(**ENDS | {"ts": round((begin + every * number) * 10**9)}, **fields) for number in range(count)]


def test_records_of_a_log_whose_header_lacks_the_field_are_told_though_those_of_another_have_it():
    fields, restored = follow("ssl|in_failed", "ssl|in"), follow("ssl|in_failed", "ssl|in")
    for time in range(1, 5):
        fields.note(ssl_of("with", time, failed=False))
        fields.note(ssl_of("without", time))
    restored.restore(json.loads(json.dumps(fields.state())))
    for each in (fields, restored):
        (field,) = each.list_lacking(4)
        assert (field.records, field.of_records, field.columns) == (4, 8, ("ssl|in_failed",))
        assert field.description == "4 of 8 ssl records are of logs whose header has no established"
        assert field.to_json()["of_records"] == 8
        assert each.list_lacking(5) == each.list_unset(0) == ()


def test_a_field_that_records_had_is_unset_again_an_hour_after_the_last_log_with_it():
    fields = follow("ssl|in_failed")
    fields.note(ssl_of("with", 10, failed=False))
    fields.note(ssl_of("without", 10 + MIN_LACKING_SECONDS - 1))
    assert fields.list_unset(1) == ()
    fields.note(ssl_of("without", 10 + MIN_LACKING_SECONDS))
    assert [(field.attribute, field.records) for field in fields.list_unset(1)] == [("failed", 2)]
    fields.note(ssl_of("with", 11 + MIN_LACKING_SECONDS))
    assert fields.list_unset(1) == (), "a log has it, if only without a value"


def test_a_header_says_what_its_records_lack_by_lines_and_by_columns(tmp_path):
    names = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p"
    ends = "10.0.0.5\t1\t203.0.113.9\t443"
    for name, more, cell in (("a", "", ""), ("b", " established", "\tT")):
        header = f"#path\tssl\n#fields\t{(names + more).replace(' ', chr(9))}\n"
        lines = (f"{1_700_000_000 + second}\tC\t{ends}{cell}\n" for second in range(50))
        (tmp_path / f"ssl.{name}.log").write_text(header + "".join(lines))
    for frame_bytes in (0, 1 << 20):
        batch = BulkAggregator([tmp_path], Definition.of(["ssl|out_failed"]), frame_bytes=frame_bytes)
        assert not list(batch.rows()), "less than an hour"
        assert [(each.records, each.of_records) for each in batch.unset_fields.list_lacking(20)] == [(50, 100)]
    with LogReader(tmp_path) as reader:
        fields = follow("ssl|out_failed")
        for record in reader.poll():
            fields.note(record)
    assert [(each.records, each.of_records) for each in fields.list_lacking(20)] == [(50, 100)]


def test_a_field_that_is_gone_from_json_is_unset_until_a_record_has_it():
    fields = follow("ssl|in_failed", "ssl|in")
    for record in [*json_lines(500, begin=0, every=1, failed=False), *json_lines(MIN_RECENT, begin=540, every=3.6)]:
        assert fields.list_unset(1) == ()
        fields.note(record)
    (gone,) = fields.list_unset(1)
    assert (gone.attribute, gone.records, gone.columns) == ("failed", MIN_RECENT, ("ssl|in_failed",))
    assert gone.description == (
        "none of the last 1,000 ssl records in JSON has established of Zeek, which Suricata does not log; earlier ones had it, "
        "until 1970-01-01T00:08Z"
    )
    assert gone.to_json()["until"] == "1970-01-01T00:08:00Z"
    assert fields.list_lacking(1) == (gone,)
    fields.note(ssl_of("json", 4_100, failed=True))
    assert fields.list_lacking(1) == ()


@pytest.mark.parametrize(
    ("kind", "field", "count", "span", "is_gone"),
    [
        (Ssl, "failed", MIN_RECENT - 2, DAY, False),
        (Ssl, "failed", MIN_RECENT - 1, HOUR + 60, True),
        (Ssl, "failed", 5_000, HOUR - 120, False),
        (Http, "request_bytes", 5_000, HOUR + 60, True),
        (Http, "status", 5_000, DAY - HOUR, False),  # its server may be down
        (Http, "status", MIN_RECENT - 2, 8 * DAY, False),
        (Http, "status", 5_000, DAY + 60, True),
    ],
)
def test_it_takes_many_records_and_an_hour_or_a_day_where_traffic_may_give_no_value(kind, field, count, span, is_gone):
    key = {"failed": "ssl|out_failed", "status": "http|out_errors", "request_bytes": "http|out_request_bytes"}[field]
    fields = follow(key)
    records = [kind(**ENDS, **{field: 1}), *json_lines(count, begin=60, every=span / count, kind=kind)]
    for record in records:
        fields.note(record)
    fields.note(kind(**ENDS | {"ts": (60 + span) * 10**9}))
    fields.note(kind(**ENDS, **{field: 1}))  # of long ago
    assert [each.attribute for each in fields.list_unset(1)] == ([field] if is_gone else [])


@pytest.mark.parametrize("seed", range(8))
def test_what_is_gone_does_not_depend_on_the_order_of_records_or_on_restarts(seed):
    draw = random.Random(seed)
    shares = [(0.5, draw.choice((0.0, 0.002))), (draw.choice((0.0, 0.01)), 0.5)]
    records, time = [], 0.0
    for share, of_traffic in shares:
        for _ in range(draw.choice((900, 1_500, 3_000))):
            time += draw.expovariate(draw.choice((0.1, 0.5)))
            values = {"failed": True} if draw.random() < share else {}
            values |= {"self_signed": True} if draw.random() < of_traffic else {}
            records += json_lines(1, begin=time, every=1, **values)
    expected = None
    for attempt in range(3):
        fields = follow("ssl|in_failed", "ssl|out_self_signed", "ssl|in")
        for number, record in enumerate(records):
            fields.note(record)
            if attempt == 2 and number % 211 == 0:
                restored = follow("ssl|in_failed", "ssl|out_self_signed", "ssl|in")
                restored.restore(json.loads(json.dumps(fields.state())))
                fields = restored
        expected = expected or fields.list_unset(1)
        assert fields.list_unset(1) == expected
        draw.shuffle(records)


def test_the_state_of_a_protocol_stays_small():
    fields = follow("ssl|in_failed")
    for record in json_lines(20_000, begin=0, every=90):
        fields.note(record)
    assert len(json.dumps(fields.state())) < 20_000


def test_a_log_with_a_header_keeps_a_field_that_is_gone_from_json():
    fields = follow("ssl|in_failed")
    for record in [ssl_of("json", 60, failed=True), *json_lines(2_000, begin=120, every=5)]:
        fields.note(record)
        fields.note(dataclasses.replace(record, failed=None, lacks=()))
    assert fields.list_unset(1) == ()
    (told,) = fields.list_lacking(1)
    assert (told.records, told.until_ns) == (1_004, 60 * 10**9)  # of whole minutes
    other = follow("ssl|in_failed")
    other.note(ssl_of("with", 5, failed=True))
    for record in json_lines(2_000, begin=60, every=5):  # the log is of another format since then, which never had it
        other.note(record)
    assert [(each.attribute, each.until_ns) for each in other.list_unset(1)] == [("failed", 5 * 10**9)]


def test_json_by_blocks_and_line_by_line_lose_the_same(tmp_path):
    ends = {"id.orig_h": "10.0.0.5", "id.orig_p": 1, "id.resp_h": "203.0.113.9", "id.resp_p": 443, "uid": "C"}
    for name, offset in (("a", 0), ("b", 2)):
        lines = [ends | {"ts": 1_700_000_000 + offset + 5 * number} for number in range(1_500)]
        lines = [line | ({"established": True} if number < 300 else {}) for number, line in enumerate(lines)]
        (tmp_path / f"ssl.{name}.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    batch = BulkAggregator([tmp_path], Definition.of(["ssl|out_failed"]), block_bytes=5_000)
    assert list(batch.rows())
    with LogReader(tmp_path) as reader:
        fields = follow("ssl|out_failed")
        for record in reader.poll():
            fields.note(record)
    (gone,) = fields.list_lacking(20)
    assert (gone.attribute, gone.until_ns) == ("failed", 1_700_001_480 * 10**9)
    assert batch.unset_fields.list_lacking(20) == (gone,)
