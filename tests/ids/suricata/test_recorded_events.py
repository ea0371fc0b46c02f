"""A capture is counted alike by the one who made it, by Suricata 7 and 8 in all settings, and by `aggregate` and a reader."""

import json
import math
from collections import Counter

import pytest

from mods_grpc.features import Aggregator, AggregatorOptions
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader
from tests.support.certificates import make_authority, needs_openssl
from tests.support.ids.captures import LOCAL, START, make_capture
from tests.support.ids.event_counts import count, read_events
from tests.support.ids.suricata import TYPES, releases

pytestmark = [pytest.mark.slow, needs_openssl]

COUNTED = {"flow", "dns", "http", "tls", "ssh", "sip"}
WINDOW = 600
OPTIONS = AggregatorOptions(window_seconds=WINDOW, slide_seconds=WINDOW, local_networks=LOCAL, begin_ns=START * 10**9)
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
    with LogReader(paths[0].parent) as reader:  # the folder of all threads
        aggregator, watermark = Aggregator(options=OPTIONS), Watermark()
        for record in reader.poll():
            aggregator.add_many(watermark.hold_or_pass(record))
    rows = [*aggregator.flush(watermark.latest_ns + WINDOW * 10**9)]
    assert reader.counters.malformed == {}
    return as_counts(rows), reader.counters


def read_in_bulk(paths):
    bulk = BulkAggregator(paths, options=OPTIONS, end_ns=(START + 86_400) * 10**9)
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
