"""A capture is counted alike by the one who made it, by Suricata 7 and 8 in all settings, and by `aggregate` and a reader."""

import json
import math
from collections import Counter

import pytest

from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, Definition
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.logs.eve import PROTOCOL_OF
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.windows.unset_fields import UnsetFields
from tests.support.certificates import make_authority, needs_openssl
from tests.support.ids.captures import LOCAL, START, make_capture
from tests.support.ids.event_counts import count, read_events
from tests.support.ids.suricata import TYPES, releases

pytestmark = [pytest.mark.slow, needs_openssl]

COUNTED = {"flow", "dns", "http", "tls", "ssh", "sip"}
WINDOW = 600
OPTIONS = AggregatorOptions(window_seconds=WINDOW, slide_seconds=WINDOW, local_networks=LOCAL, begin_ns=START * 10**9)
DATAPOOL = Definition(tuple(feature for feature in ALL_FEATURES.features if not feature.measure.is_own))
EXTENDED = [
    "http:\n          extended: yes",
    "tls:\n          extended: yes",
    "alert",
    *(t for t in TYPES if t not in {"http", "tls"}),
]
RULES = """
alert http any any -> any any (msg:"page"; http.uri; content:"/0"; priority:2; sid:1;)
alert dns any any -> any any (msg:"name"; dns.query; content:"nothing"; priority:1; sid:2;)
alert tcp any any -> any 23 (msg:"knock"; flags:S; priority:4; sid:3;)
"""
SETTINGS = {
    "default": {},
    "dns-v2": {"types": ["dns:\n          version: 2", *(kind for kind in TYPES if kind != "dns")]},
    "named": {"settings": ["community-id: true", "metadata: yes", "ethernet: yes"], "options": ["--set", "sensor-name=tap-1"]},
    "threaded": {"settings": ["threaded: true"], "options": ["--runmode", "autofp"]},
    "all-types": {"types": [*TYPES, "netflow", "anomaly", "files", "dhcp", "smtp", "alert", "drop"]},
    "one-thread": {"options": ["--runmode", "single"]},
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture")
    traffic = make_capture(*make_authority(folder))
    traffic.write(folder / "traffic.pcap")
    return traffic, folder / "traffic.pcap"


@pytest.fixture(scope="module", params=SETTINGS)
def settings(request):
    return request.param


@pytest.fixture(scope="module", params=releases())
def events(request, settings, capture, tmp_path_factory):
    """The files of a release in a setting."""
    chosen = dict(SETTINGS[settings])
    paths = request.param.read(capture[1], tmp_path_factory.mktemp(settings), *chosen.pop("settings", ()), **chosen)
    assert len(paths) > 1 if settings == "threaded" else len(paths) == 1
    return paths


@pytest.fixture(scope="module")
def truth(capture):
    return count(capture[0].seen, LOCAL, WINDOW)


def differences(got, wanted):
    """Return the features that differ, with both values; a missing window counts nothing, and the mean of nothing is nothing."""
    pairs = {key: [0.0 if math.isnan(each := side.get(key, 0.0)) else each for side in (got, wanted)] for key in got | wanted}
    return {key: pair for key, pair in pairs.items() if not math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-6)}


def as_counts(rows):
    return {(row.start_ns // 10**9, key): value for row in rows for key, value in row.values.items()}


def read_by_reader(paths):
    with LogReader(paths[0].parent, protocols=DATAPOOL.protocols) as reader:  # the folder of all threads
        aggregator, watermark = Aggregator(DATAPOOL, OPTIONS), Watermark()
        for record in reader.poll():
            aggregator.add_many(watermark.hold_or_pass(record))
    rows = [*aggregator.flush(watermark.latest_ns + WINDOW * 10**9)]
    assert reader.counters.malformed == {}
    return as_counts(rows), reader.counters


def read_in_bulk(paths):
    bulk = BulkAggregator(paths, DATAPOOL, options=OPTIONS, end_ns=(START + 86_400) * 10**9)
    rows = as_counts(bulk.rows())
    assert bulk.counters.malformed == {}
    assert bulk.aggregator.counters.late == 0
    return rows, bulk.counters


def test_suricata_saw_what_the_capture_holds(events, capture, truth):
    seen = read_events(events)
    assert Counter(one.protocol for one in seen) == Counter(one.protocol for one in capture[0].seen)
    assert differences(count(seen, LOCAL, WINDOW), truth) == {}


@pytest.mark.parametrize("read", [read_by_reader, read_in_bulk])
def test_every_feature_of_every_window_is_what_suricata_and_the_capture_say(events, truth, read):
    counts, counters = read(events)
    assert differences(counts, truth) == {}
    lines = [json.loads(line) for path in events for line in path.read_text().splitlines()]
    is_counted = [line["event_type"] in COUNTED for line in lines]
    assert (counters.records, counters.ignored) == (sum(is_counted), len(lines) - sum(is_counted))


@pytest.fixture(scope="module", params=releases())
def extended_events(request, capture, tmp_path_factory):
    """The file of a release that writes all that it knows, and alerts."""
    folder = tmp_path_factory.mktemp("extended")
    (folder / "test.rules").write_text(RULES)
    (path,) = request.param.read(capture[1], folder, types=EXTENDED, rules=folder / "test.rules")
    return path


def fields_of(records):
    """Return how often each protocol, pair of ends and fields was seen."""
    return Counter((protocol, orig, resp, tuple(sorted(fields.items()))) for protocol, orig, resp, fields in records)


def test_every_record_has_the_fields_that_the_capture_holds(extended_events, capture):
    names = {one.protocol: one.fields.keys() for one in capture[0].seen if one.fields}
    with LogReader(extended_events) as reader:
        records = [record for record in reader.poll() if record.protocol not in {"alert", "ssh", "sip"}]
        assert reader.counters.damaged_fields == {}
    read = []
    for record in records:
        protocol = "answer" if record.protocol == "dns" and not record.transactions else record.protocol
        fields = {name: getattr(record, name) for name in names[protocol]}
        read += [(protocol, record.orig_h, record.resp_h, fields)] * max(1, record.transactions)
    wanted = [(one.protocol, one.orig, one.resp, one.fields) for one in capture[0].seen if one.fields]
    got, expected = fields_of(read), fields_of(wanted)
    assert got - expected == Counter()
    assert expected - got == Counter()


def test_every_alert_is_a_record_of_its_severity_and_nothing_else_is_counted_for_it(extended_events, capture):
    lines = [json.loads(line) for line in extended_events.read_text().splitlines()]
    alerts = [line for line in lines if line["event_type"] == "alert"]
    assert {alert["alert"]["severity"] for alert in alerts} == {1, 2, 4}
    with LogReader(extended_events) as reader:
        records = list(reader.poll())
    wanted = Counter((alert["src_ip"], alert["alert"]["severity"]) for alert in alerts if ":" not in alert["src_ip"])
    read = Counter(
        (record.orig_h, record.severity) for record in records if record.protocol == "alert" and ":" not in record.orig_h
    )
    assert read == wanted
    by_type = Counter(line["event_type"] for line in lines)
    numbers = {PROTOCOL_OF[kind]: number for kind, number in by_type.items() if kind in PROTOCOL_OF}
    assert reader.counters.records_by_protocol == numbers


def test_what_suricata_does_not_tell_is_never_set(extended_events):
    fields = UnsetFields(ALL_FEATURES)
    with LogReader(extended_events) as reader:
        for record in reader.poll():
            fields.note(record)
    unset = {(each.protocol, each.attribute) for each in fields.list_unset(1)}
    assert unset == {("http", "request_bytes"), ("ssl", "failed"), ("ssh", "failed"), ("sip", "user_agent")}
