"""Which files are read, as which log, and which are left out for what reason."""

import bz2
import gzip
import os
import socket

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.sources.log_files import LeftOutFile, LogFile, classify, list_logs, open_listing
from tests.support.small_logs import eve, tsv, write, zeek_json


def listed(*paths, protocols=PROTOCOLS, base=None):
    """Return the names of the files by log, and the reasons of those left out by name."""
    base = base or paths[0]
    listing = list_logs(paths, protocols, recursive=True)
    names = {log: [str(file.path.relative_to(base)) for file in files] for log, files in listing.logs.items()}
    return names, {str(file.path.relative_to(base)): file.reason for file in listing.left_out}


@pytest.mark.parametrize(
    "names",
    [
        ["eve.json.10.gz", "eve.json.2.gz", "eve.json.1", "eve.json"],
        ["eve.json-20240417.gz", "eve.json-20240418", "eve.json"],
        ["eve-2024-04-17.json", "eve-2024-04-18.json", "eve-2024-04-19.json"],
        ["eve.json.1713398400.zst", "eve.json.1713484800", "eve.json"],
    ],
)
def test_the_rotations_of_a_log_are_in_order_of_time(tmp_path, names):
    write(tmp_path, {name: eve(number) for number, name in enumerate(names)})
    assert listed(tmp_path) == ({"eve": names}, {})


def test_zeeks_archive_and_its_live_folder_are_one_log_in_order(tmp_path):
    names = [
        "2024-04-18/conn.22:00:00-23:00:00.log.gz",
        "2024-04-18/conn.23:00:00-00:00:00.log.gz",
        "2024-04-19/conn.00:00:00-01:00:00.log.gz",
        "current/conn-24-04-19_01.00.00.log",
        "current/conn.log",
    ]
    write(tmp_path, {name: tsv(number) for number, name in enumerate(names)})
    assert listed(tmp_path) == ({"conn": names}, {})


def test_writers_side_by_side_have_logs_of_their_own(tmp_path):
    write(
        tmp_path,
        {
            "sensorA/2024-04-19/conn.log": tsv(1),
            "sensorB/2024-04-19/conn.log": tsv(2),
            "spool/logger-1/conn.log": tsv(3),
            "2024-04-18/conn.00:00:00-01:00:00-logger-1.log": tsv(4),
            "eve.1.json": eve(1),
            "eve.2.json": eve(2),
        },
    )
    logs, _ = listed(tmp_path)
    assert logs == {
        "eve.1": ["eve.1.json"],
        "eve.2": ["eve.2.json"],
        "logger-1/conn": ["2024-04-18/conn.00:00:00-01:00:00-logger-1.log", "spool/logger-1/conn.log"],
        "sensorA/conn": ["sensorA/2024-04-19/conn.log"],
        "sensorB/conn": ["sensorB/2024-04-19/conn.log"],
    }


def test_folders_that_are_named_one_by_one_are_told_apart_too(tmp_path):
    write(tmp_path, {"one/conn.log": tsv(1), "other/conn.log": tsv(2)})
    logs, _ = listed(tmp_path / "one", tmp_path / "other", base=tmp_path)
    assert logs == {"one/conn": ["one/conn.log"], "other/conn": ["other/conn.log"]}


def test_what_is_no_log_of_interest_is_left_out_with_the_reason(tmp_path):
    write(
        tmp_path,
        {
            "conn.log": tsv(),
            "dns.log": tsv(path="dns"),
            "files.log": tsv(path="files"),
            "dhcp.log": zeek_json(7),
            "README": b"Logs of 2024\n",
            "capture.pcap": b"\xd4\xc3\xb2\xa1",
            "conn.csv": b"ts,uid\n1,2\n",
            "notes.txt": b"hello\n",
            "conn.log.tmp": tsv(),
            ".conn.log.gz.x1y2": tsv(),
        },
    )
    logs, left_out = listed(tmp_path, protocols=("conn",))
    assert logs == {"conn": ["conn.log"]}
    assert left_out == {
        "dns.log": "other log",
        "files.log": "other log",
        "dhcp.log": "other log",
        "README": "not a log",
        "capture.pcap": "not a log",
        "conn.csv": "not a log",
        "notes.txt": "not a log",
        "conn.log.tmp": "hidden or incomplete",
        ".conn.log.gz.x1y2": "hidden or incomplete",
    }


def test_a_file_whose_name_says_nothing_is_judged_by_its_first_lines(tmp_path):
    stats = b'{"timestamp": "2024-04-19T00:00:00.000000+0000", "event_type": "stats"}\n'
    wrapped = b'{"@timestamp": "2024-04-19T00:00:00Z", "suricata": {"eve": {"event_type": "alert", "src_ip": "10.0.0.1"}}}\n'
    files = {
        "all.json": zeek_json(1, path="ftp") + zeek_json(2, path="conn"),
        "zeek.ndjson.gz": gzip.compress(zeek_json(3, path="conn")),
        "suricata.json": stats * 3 + eve(4),
        "filebeat.ndjson": wrapped,
        "joined.log": tsv(5, path="files") + tsv(6),
        "fast.log": b"04/19/2024-00:00:00.000000  [**] [1:1:1] x [**]\n",
        "ftp.log": zeek_json(7, path="ftp"),
        "empty.json": b"",
    }
    logs, left_out = listed(write(tmp_path, files))
    assert sorted(logs) == ["all", "filebeat", "joined", "suricata", "zeek"]
    assert left_out == {"fast.log": "not a log", "ftp.log": "other log", "empty.json": "not a log"}


def test_a_file_that_the_user_names_is_read_unless_it_is_another_log(tmp_path):
    write(tmp_path, {"x": tsv(), "conn.csv": b"1,2\n", "ftp.log": tsv(path="ftp"), "open_conn.log": tsv(path="open_conn")})
    logs, left_out = listed(*(tmp_path / name for name in ("x", "conn.csv", "ftp.log", "open_conn.log")), base=tmp_path)
    assert logs == {"conn.csv": ["conn.csv"], "x": ["x"]}
    assert left_out == {"ftp.log": "other log", "open_conn.log": "repeats conn.log"}


def test_the_notices_and_weirds_of_zeek_are_read_and_not_what_sums_them_up(tmp_path):
    logs = ("notice", "weird", "notice_alarm", "weird_stats")
    files = {f"{log}.log": tsv(number, path=log) for number, log in enumerate(logs)}
    logs, left_out = listed(write(tmp_path, files | {"NOTICE.txt": b"Copyright of the authors.\n" * 3, "alert.json": eve(5)}))
    assert logs == {"notice": ["notice.log"], "weird": ["weird.log"], "alert": ["alert.json"]}
    assert left_out == {
        "notice_alarm.log": "repeats notice.log",
        "weird_stats.log": "repeats weird.log",
        "NOTICE.txt": "not a log",
    }


@pytest.mark.parametrize("make", [tsv, zeek_json], ids=["tsv", "json"])
def test_logs_that_repeat_connections_are_left_out(tmp_path, make):
    names = ["conn.log", "open_conn.log", "conn_long.log", "conn-summary.log", "dns_internal.log"]
    write(tmp_path, {name: make(number) for number, name in enumerate(names)})
    logs, left_out = listed(tmp_path)
    assert logs == {"conn": ["conn.log"], "dns_internal": ["dns_internal.log"]}
    assert set(left_out.values()) == {"repeats conn.log"}


def test_pipes_sockets_and_links_to_nothing_are_not_opened(tmp_path):
    write(tmp_path, {"conn.log": tsv()})
    os.mkfifo(tmp_path / "dns.log")
    (tmp_path / "ssl.log").symlink_to(tmp_path / "gone")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "eve.json"))
        logs, left_out = listed(tmp_path)
    assert logs == {"conn": ["conn.log"]}
    assert left_out == {"dns.log": "not a file", "eve.json": "not a file", "ssl.log": "unreadable"}


def test_each_folder_is_searched_once_whatever_links_lead_to_it(tmp_path):
    write(tmp_path, {"2024-04-19/conn.log": tsv(1), "2024-04-20/deep/er/conn.log": tsv(2)})
    (tmp_path / "current").symlink_to("2024-04-19")
    (tmp_path / "2024-04-20" / "deep" / "loop").symlink_to(tmp_path)
    logs, left_out = listed(tmp_path)
    assert [name for names in logs.values() for name in names] == ["2024-04-19/conn.log", "2024-04-20/deep/er/conn.log"]
    assert left_out == {"current": "copy", "2024-04-20/deep/loop": "copy"}


def test_names_that_are_no_text_are_read(tmp_path):
    write(tmp_path, {os.fsdecode(b"\xff\xfe/conn.\xe9.log"): tsv()})
    listing = list_logs([tmp_path], PROTOCOLS, recursive=True)
    assert len(listing.files) == 1


def test_what_may_not_be_read_is_said_with_the_error(tmp_path, monkeypatch):
    write(tmp_path, {"conn.log": tsv(), "closed/dns.log": tsv(path="dns")})
    scandir = os.scandir

    def refuse(path):
        if path == tmp_path / "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_logs([tmp_path], PROTOCOLS, recursive=True)
    assert listing.unreadable == (LeftOutFile(path=tmp_path / "closed", reason="unreadable", detail="Permission denied"),)
    assert listing.left_out == listing.unreadable


def test_a_compression_that_cannot_be_read_is_said_with_the_remedy(tmp_path):
    write(
        tmp_path,
        {"conn.log.zip": b"PK\x03\x04", "conn.log.Z": b"\x1f\x9d\x90", "dns.log": b"\x1f\x9d\x90", "ssl.log": tsv(path="ssl")},
    )
    listing = list_logs([tmp_path], PROTOCOLS, recursive=True)
    assert {(file.path.name, file.reason, file.detail) for file in listing.left_out} == {
        ("conn.log.zip", "compression", "zip: unpack it first"),
        ("conn.log.Z", "compression", "compress: unpack it first"),
        ("dns.log", "compression", "compress: unpack it first"),
    }


def test_a_file_is_classified_by_its_content_before_its_suffix(tmp_path):
    write(tmp_path, {"conn.log": bz2.compress(tsv()), "dns.log.gz": tsv(path="dns")})
    assert not isinstance(classify(tmp_path / "conn.log", PROTOCOLS), LeftOutFile)
    assert not isinstance(classify(tmp_path / "dns.log.gz", PROTOCOLS), LeftOutFile)


def test_nothing_to_read_is_an_error_that_says_what_is_there(tmp_path, caplog):
    with pytest.raises(DataError, match="no such file or folder"):
        open_listing([tmp_path / "nowhere"], PROTOCOLS)
    with pytest.raises(DataError, match=r"no logs of conn, dns, http, ssl, ssh, sip, alert, notice, weird; nothing is there"):
        open_listing([tmp_path], PROTOCOLS)
    write(tmp_path, {"weird.log": tsv(path="weird"), "files.log": tsv(path="files"), "conn.log.zip": b"PK\x03\x04"})
    with pytest.raises(DataError, match=r"no logs of conn; left out: 2 other log, 1 compression \(zip: unpack it first\)"):
        open_listing([tmp_path], ("conn",))
    assert "logs_unreadable" in caplog.text


SURICATA_TEXT = "04/19/2024-00:00:0{}.000000 example.com[**]/index.html[**]Mozilla/5.0 [**]203.0.113.1:1024 -> 10.0.0.1:80\n"


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(SURICATA_TEXT.format, range(9))),
        "04/19/2024-00:00:00.000000 203.0.113.1:1024 -> 10.0.0.1:443  TLS: Subject='CN=example.com' Issuerdn='O=CA'\n",
        '203.0.113.1 - - [19/Apr/2024:00:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "curl/8.0"\r\n',
        "19-Apr-2024 00:00:00.000 client @0x7f 203.0.113.1#1024 (example.com): query: example.com IN A + (10.0.0.1)\n",
    ],
)
@pytest.mark.parametrize("name", ["http.log", "ssl.log.1.gz", "dns.log", "eve.log"])
def test_text_for_people_is_no_log_although_it_is_called_like_one(tmp_path, name, text):
    data = text.encode()
    write(tmp_path, {"eve.json": eve(), name: gzip.compress(data) if name.endswith(".gz") else data})
    assert listed(tmp_path) == ({"eve": ["eve.json"]}, {name: "not a log"})
    assert isinstance(classify(tmp_path / name, PROTOCOLS, explicit=True), LogFile)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        tsv(count=0),
        tsv().split(b"\n", 4)[-1],  # without its header
        tsv()[3:],
        b"ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p\n1713484800.0,C1,203.0.113.1,1024,10.0.0.1,22\n",
        b"1713484800.0 C1 203.0.113.1 1024 10.0.0.1 22\n",
        b"a half line",
        b'resp_p": 22}\n' + zeek_json(),
        b'[{"ts": 1713484800.0,\n',
        b"Apr 19 00:00:00 host zeek: " + zeek_json(count=1),
        b"\xff\xfe\x00damage\n",
    ],
)
def test_a_log_that_is_empty_damaged_or_a_table_is_not_taken_for_text(tmp_path, data):
    write(tmp_path, {"conn.log": data})
    assert listed(tmp_path) == ({"conn": ["conn.log"]}, {})
