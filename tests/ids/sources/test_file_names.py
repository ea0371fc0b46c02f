"""What the names of log files say, as real set-ups give them."""

from pathlib import PurePath

import pytest

from mods_grpc.ids.sources.file_names import folder_stamp, folder_writer, is_partial, other_format_of, parse_name, repeated_log

NAMES = {
    # name: log, digits of the time, number
    "conn.log": ("conn", "", 0),
    "conn.log.gz": ("conn", "", 0),
    "conn": ("conn", "", 0),
    # Zeek and zeekctl
    "conn.00:00:00-01:00:00.log.gz": ("conn", "T000000010000", 0),
    "conn.23:00:00-00:00:00.log.zst": ("conn", "T230000000000", 0),
    "conn.00-00-00-01-00-00.log": ("conn", "T000000010000", 0),
    "conn.00:00:00-01:00:00-logger-1.log.gz": ("logger-1/conn", "T000000010000", 0),
    "conn.00:00:00-01:00:00-logger-2-1.log.bz2": ("logger-2-1/conn", "T000000010000", 0),
    "conn-logger-1.00:00:00-01:00:00.log": ("logger-1/conn", "T000000010000", 0),
    "conn.2024-04-18-00-00-00.log": ("conn", "20240418000000", 0),
    "conn-2024-04-18-00-00-00.log": ("conn", "20240418000000", 0),
    "conn.2024-04-18T00-00-00Z.log": ("conn", "20240418000000", 0),
    "conn-24-04-19_03.00.00.log": ("conn", "20240419030000", 0),
    "conn__2024-04-18-00-00-00__2024-04-18-01-00-00__.log": ("conn", "2024041800000020240418010000", 0),
    "conn__2024-04-18-00-00-00__2024-04-18-01-00-00__log_suffix=logger-1__.log": (
        "logger-1/conn",
        "2024041800000020240418010000",
        0,
    ),
    "conn__2024-04-18-00-00-00__2024-04-18-01-00-00__log_suffix=logger-1,pid=3__.log.gz": (
        "logger-1/conn",
        "2024041800000020240418010000",
        0,
    ),
    "json_streaming_conn.1.log": ("json_streaming_conn", "", 1),
    # Corelight
    "conn_20180531_16:00:00-17:00:00-0500.log.gz": ("conn", "201805311600001700000500", 0),
    "conn_20180531_16:00:00-17:00:00+0000.log.gz": ("conn", "201805311600001700000000", 0),
    # logrotate
    "eve.json.1": ("eve", "", 1),
    "eve.json.2.gz": ("eve", "", 2),
    "eve.json.12.zst": ("eve", "", 12),
    "eve.json-20240418": ("eve", "20240418", 0),
    "eve.json-20240418.gz": ("eve", "20240418", 0),
    "eve.json-20240418.1": ("eve", "20240418", 1),
    "eve.json-2024041812": ("eve", "2024041812", 0),
    "eve.json-20240418-1713.gz": ("eve", "202404181713", 0),
    "eve.json-20240418-1713484800.xz": ("eve", "202404181713484800", 0),
    "eve.json-1713484800": ("eve", "20240419000000", 0),
    "eve.json.20240418": ("eve", "20240418", 0),
    "eve.json_20240418": ("eve", "20240418", 0),
    "eve.json.2024-04-18": ("eve", "20240418", 0),
    "eve.json-18042024": ("eve", "18042024", 0),
    "eve.json-18-04-2024": ("eve", "18042024", 0),
    "eve-20240418.json.gz": ("eve", "20240418", 0),
    "eve.json.old": ("eve", "", 1),
    "conn.log.1": ("conn", "", 1),
    "conn.log-20240418.lz4": ("conn", "20240418", 0),
    "conn.1.log": ("conn", "", 1),
    # Suricata
    "eve-2024-04-18.json": ("eve", "20240418", 0),
    "eve-2024-04-18-12:00.json": ("eve", "202404181200", 0),
    "eve-2024-04-18-12-00-00.json": ("eve", "20240418120000", 0),
    "eve-1713484800.json": ("eve", "20240419000000", 0),
    "eve.1.json": ("eve.1", "", 0),
    "eve.json.1.1713484800": ("eve.1", "20240419000000", 0),
    "eve.json.12.1713484800.gz": ("eve.12", "20240419000000", 0),
    "eve.10.json": ("eve.10", "", 0),
    "mods.2.json": ("mods.2", "", 0),
    "suricata-eve.3.json": ("suricata-eve.3", "", 0),
    "eve.1.json.2.gz": ("eve.1", "", 2),
    "eve.1.2.json.gz": ("eve.1", "", 2),
    "eve.1.json-20240418.gz": ("eve.1", "20240418", 0),
    "eve-2024-04-18.3.json": ("eve.3", "20240418", 0),
    "eve-2024-04-18-10:00.1.json": ("eve.1", "202404181000", 0),
    "eve-2024-04-18-10:00:30.12.json": ("eve.12", "20240418100030", 0),
    "eve-2024-04-18T10:00:30.250.json": ("eve", "20240418100030250", 0),
    "eve-http-2024-04-18-12.json": ("eve-http", "2024041812", 0),
    "eve-000000001.json": ("eve", "000000001", 0),
    # others
    "conn.log.labeled": ("conn", "", 0),
    "conn.ndjson": ("conn", "", 0),
    "conn.log.json": ("conn", "", 0),
    "2024-04-18-conn.log": ("conn", "20240418", 0),
    "20240418_dns.log.gz": ("dns", "20240418", 0),
    "sensor1_conn.log": ("sensor1_conn", "", 0),
    "conn.10.0.0.1.log": ("conn.10.0.0.1", "", 0),
    "NASHUA_conn.log.gz": ("NASHUA_conn", "", 0),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_the_log_and_the_place_in_the_order_of_rotations(name):
    parsed = parse_name(name)
    assert (parsed.log, parsed.stamp, parsed.number) == NAMES[name]
    assert parsed.rotated is bool(parsed.stamp or parsed.number)


def test_a_number_before_the_extension_may_be_of_a_rotation_where_threads_have_theirs():
    names = ["eve.1.json", "eve.1.json.gz", "mods.2.json", "eve.json", "eve.json.1", "eve.1.2.json", "conn.1.log"]
    assert [name for name in names if parse_name(name).is_numbered] == ["eve.1.json", "eve.1.json.gz", "mods.2.json"]


@pytest.mark.parametrize(
    "name",
    ["a", ".", "..", "-", "1", "0.0.0.0", "\udcff.log", "log", ".log", "conn..log", "eve.json.json", "%s.gz", "conn.log-" * 40],
)
def test_any_name_has_parts(name):
    assert parse_name(name).stream


def test_a_protocol_is_told_apart_from_words_that_contain_it():
    protocols = {name: parse_name(name).protocol for name in ("conn.log", "http2.log", "eve-dns.json", "connect.log", "x509.log")}
    assert protocols == {"conn.log": "conn", "http2.log": None, "eve-dns.json": "dns", "connect.log": None, "x509.log": None}
    assert [parse_name(name).is_eve for name in ("eve.json", "eve-flow.json", "events.json", "evening.log")] == [
        True,
        True,
        False,
        False,
    ]


def test_files_in_the_making_are_partial():
    names = [".conn.log.gz.Xy12", "conn.log.tmp", "conn.log.gz.part", "conn.log~", ".conn.log.swp", "#conn.log#"]
    assert all(is_partial(name) for name in names)
    assert not any(is_partial(name) for name in ("conn.log", "temp_conn.log", "conn.partial.log"))


@pytest.mark.parametrize(
    ("folder", "writer", "stamp"),
    [
        (".", "", ""),
        ("2024-04-19", "", "20240419"),
        ("current", "", ""),
        ("sensorA/2024-04-19", "sensorA", "20240419"),
        ("spool/logger-2", "logger-2", ""),
        ("logger-1/current", "logger-1", ""),
        ("2024/04/19", "", "20240419"),
        ("year=2024/month=04/day=19/probe", "probe", "20240419"),
        ("10.0.0.1/logs", "10.0.0.1", ""),
    ],
)
def test_a_folder_says_who_wrote_and_when(folder, writer, stamp):
    assert (folder_writer(PurePath(folder)), folder_stamp(PurePath(folder))) == (writer, stamp)


def test_logs_that_repeat_others_by_their_nature_are_known_by_name():
    repeated = {
        name: repeated_log(name) for name in ("open_conn", "conn_long", "conn-summary", "conn_burst", "conn", "dns_internal")
    }
    assert repeated == {
        "open_conn": "conn",
        "conn_long": "conn",
        "conn-summary": "conn",
        "conn_burst": "conn",
        "conn": None,
        "dns_internal": None,
    }


def test_other_formats_of_a_log_are_known_by_name():
    names = ("json_streaming_conn.log", "conn-json.log", "http_json.log", "conn.log.labeled", "conn.log", "conn.json")
    assert [other_format_of(parse_name(name)) for name in names] == ["conn", "conn", "http", "conn", None, None]
