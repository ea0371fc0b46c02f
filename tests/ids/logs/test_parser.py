"""The contract of every log reader, whatever the format of its lines."""

import json
import tracemalloc

import pytest

from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.contracts import check_reader
from tests.support.ids.eve_events import make_eve_event

TSV_HEAD = (
    b"#separator \\x09\n",
    b"#unset_field\t-\n",
    b"#path\tdns\n",
    b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tquery\n",
    b"#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\n",
)
TSV_LINES = (
    b"1713499192.688116\tCc6\t203.0.113.151\t58776\t10.0.0.201\t53\tudp\ta.example\n",
    b"1713499193.000001\tCc7\t::1\t58777\t10.0.0.201\t53\ttcp\t-\n",
)
ADDRESSES = {"id.orig_h": "203.0.113.151", "id.orig_p": 58776, "id.resp_h": "10.0.0.201", "id.resp_p": 22}
JSON_LINES = tuple(
    json.dumps({"ts": ts, "uid": "Cc6", **ADDRESSES, "orig_bytes": 1250}).encode()
    for ts in (1713499192.688116, "2024-04-19T04:00:00Z")
)
EVE_LINES = (
    make_eve_event("flow", flow={"start": "2024-04-19T03:59:52.688116+0000", "bytes_toserver": 1}),
    make_eve_event("dns", dns={"type": "query", "rrname": "a.example"}),
    make_eve_event("tls"),
    make_eve_event("http", http={"hostname": "www.example", "url": "/", "status": 404}),
    make_eve_event("alert", alert={"severity": 1}, http={"url": "/"}),
)
NOTICE_HEAD = (*TSV_HEAD[:2], b"#path\tnotice\n", b"#fields\tts\tuid\tid.orig_h\tid.resp_h\tnote\tsrc\tdst\n")
NOTICE_LINES = (
    b"1713499192.688116\tCc6\t203.0.113.151\t10.0.0.201\tSSL::Invalid_Server_Cert\t203.0.113.151\t10.0.0.201\n",
    b"1713499193.000001\t-\t-\t-\tScan::Address_Scan\t10.0.0.201\t-\n",
)


@pytest.mark.parametrize(
    ("name", "head", "lines"),
    [
        pytest.param("dns.log", TSV_HEAD, TSV_LINES, id="zeek tsv"),
        pytest.param("conn.log", (), JSON_LINES, id="zeek json"),
        pytest.param("eve.json", (), EVE_LINES, id="eve"),
        pytest.param("notice.log", NOTICE_HEAD, NOTICE_LINES, id="notices of zeek"),
    ],
)
def test_every_reader_keeps_the_contract(name, head, lines):
    check_reader(name, head, lines)


@pytest.mark.parametrize("line", ['{{"ts":1713484800,"id.orig_h":"{0}","id.resp_h":"10.0.0.1"}}', '{{"{0}":1,"ts":1713484800}}'])
def test_long_texts_that_differ_from_line_to_line_leave_nothing_in_memory(line):
    parser = LineParser("conn.log")
    tracemalloc.start()
    for number in range(50):
        with pytest.raises(MalformedLineError):
            parser.parse(line.format(f"{number:02}" * 200_000).encode())
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5 << 20
