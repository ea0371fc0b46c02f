"""Sinks: rotated and torn files, receivers that are down, and restarts with either."""

import http.server
import json
import queue
import re
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.spool import DELIVERED, PermanentDeliveryError, Spool
from mods_grpc.ids.alerts.sinks.syslog import SyslogSender
from tests.support.alerts.sample_alerts import ALERT, CLEARED, END, HOST, NOTICE, UPDATE


def ids(path):
    return [json.loads(line)["mods"]["id"] for line in path.read_text().splitlines()]


class Receiver:
    """A receiver that fails the first `failures` times."""

    def __init__(self, failures=0):
        self.failures = failures
        self.got = queue.SimpleQueue()

    def __call__(self, identity, content):
        if self.failures:
            self.failures -= 1
            raise OSError("down")
        self.got.put((identity, content))


def test_a_file_is_written_line_by_line_with_its_header_once(tmp_path):
    for alert in (ALERT, UPDATE):
        FileSink(tmp_path / "new" / "notice.log", FORMATS["zeek"]).write(alert)
    lines = (tmp_path / "new" / "notice.log").read_text().splitlines()
    assert [line.startswith("#") for line in lines] == [True] * 8 + [False] * 2


def test_alerts_written_after_the_mark_are_not_written_again(tmp_path):
    path = tmp_path / "eve.json"
    sink = FileSink(path, FORMATS["eve"])
    sink.write(ALERT)
    mark = sink.mark()
    sink.write(UPDATE)
    restarted = FileSink(path, FORMATS["eve"])
    restarted.recover(mark)
    for alert in (UPDATE, END):
        restarted.write(alert)
    assert ids(path) == [ALERT.id, UPDATE.id, END.id]


def test_a_notice_written_after_the_mark_is_not_written_again(tmp_path):
    path = tmp_path / "eve.json"
    sink = FileSink(path, FORMATS["eve"])
    sink.write(ALERT)
    mark = sink.mark()
    sink.write(NOTICE)
    restarted = FileSink(path, FORMATS["eve"])
    restarted.recover(mark)
    for item in (NOTICE, CLEARED):
        restarted.write(item)
    assert ids(path) == [ALERT.id, NOTICE.id, CLEARED.id]


def test_a_file_created_after_the_mark_is_read_completely(tmp_path):
    path = tmp_path / "eve.json"
    sink = FileSink(path, FORMATS["eve"])
    mark = sink.mark()
    sink.write(ALERT)
    restarted = FileSink(path, FORMATS["eve"])
    restarted.recover(mark)
    restarted.write(ALERT)
    assert ids(path) == [ALERT.id]


def test_an_incomplete_last_line_is_cut_off_and_written_again(tmp_path):
    path = tmp_path / "eve.json"
    sink = FileSink(path, FORMATS["eve"])
    sink.write(ALERT)
    mark = sink.mark()
    with path.open("a") as file:
        file.write(FORMATS["eve"].format_alert(UPDATE)[:-9])
    restarted = FileSink(path, FORMATS["eve"])
    restarted.recover(mark)
    restarted.write(UPDATE)
    assert ids(path) == [ALERT.id, UPDATE.id]


def test_a_rotation_between_mark_and_restart_hides_nothing(tmp_path):
    path = tmp_path / "eve.json"
    sink = FileSink(path, FORMATS["eve"])
    sink.write(ALERT)
    mark = sink.mark()
    sink.write(UPDATE)
    path.rename(tmp_path / "eve.json.1")
    sink.write(END)
    restarted = FileSink(path, FORMATS["eve"])
    restarted.recover(mark)
    for alert in (UPDATE, END, HOST):
        restarted.write(alert)
    assert ids(tmp_path / "eve.json.1") == [ALERT.id, UPDATE.id]
    assert ids(path) == [END.id, HOST.id]


def test_a_spool_delivers_in_order_and_retries_until_the_receiver_is_back(tmp_path):
    receiver = Receiver(failures=3)
    spool = Spool(tmp_path, receiver, first_wait_seconds=0.001, max_wait_seconds=0.002)
    for name in ("a", "b", "a"):
        spool.put(name, name.encode())
    assert spool.close()
    assert [receiver.got.get_nowait() for _ in range(2)] == [("a", b"a"), ("b", b"b")]
    assert receiver.got.empty()


def test_a_spool_keeps_undelivered_messages_for_the_next_start_and_repeats_none(tmp_path):
    down = Spool(tmp_path, Receiver(failures=10**6), first_wait_seconds=30)
    down.put("a", b"1")
    down.put("b", b"2")
    assert not down.close(0.01)
    receiver = Receiver()
    up = Spool(tmp_path, receiver)
    up.put("c", b"3")
    assert up.close()
    again = Spool(tmp_path, receiver)
    for name in ("a", "b", "c"):
        again.put(name, b"again")
    assert again.close()
    assert [receiver.got.get_nowait()[1] for _ in range(3)] == [b"1", b"2", b"3"]
    assert receiver.got.empty()
    assert (tmp_path / DELIVERED).read_text().split() == ["a", "b", "c"]


def test_a_message_that_was_delivered_but_not_yet_removed_is_not_sent_again(tmp_path):
    (tmp_path / DELIVERED).write_text("a\n")
    (tmp_path / "000000000001-a.message").write_bytes(b"1")
    (tmp_path / ".000000000002-b.message.1").write_bytes(b"torn")
    (tmp_path / f".{DELIVERED}.1").write_bytes(b"torn")
    receiver = Receiver()
    assert Spool(tmp_path, receiver).close()
    assert receiver.got.empty()
    assert [path.name for path in tmp_path.iterdir()] == [DELIVERED]


def test_a_full_spool_drops_the_oldest_and_counts_it(tmp_path):
    spool = Spool(tmp_path, Receiver(failures=10**6), limit=2, first_wait_seconds=30)
    for name in ("a", "b", "c"):
        spool.put(name, b"")
    assert (spool.dropped, len(spool)) == (1, 2)
    spool.close(0.01)
    assert sorted(path.name for path in tmp_path.glob("*.message")) == ["000000000002-b.message", "000000000003-c.message"]


def test_a_rejected_message_does_not_block_the_next(tmp_path):
    got = queue.SimpleQueue()

    def send(identity, content):
        if identity == "a":
            raise PermanentDeliveryError("HTTP 400")
        got.put(identity)

    spool = Spool(tmp_path, send)
    spool.put("a", b"")
    spool.put("b", b"")
    assert spool.close()
    assert (spool.rejected, got.get_nowait()) == (1, "b")


@contextmanager
def webhook(answers):
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, dict(self.headers), body))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, requests
        finally:
            server.shutdown()
            thread.join()


def test_a_webhook_gets_each_alert_with_its_id_and_a_retry_after_a_failure(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with webhook([503, 200]) as (port, requests):
        sinks = open_sinks([f"jsonl:http://127.0.0.1:{port}/hook?x=1#token-file={tmp_path / 'token'}"], tmp_path)
        for alert in (ALERT, ALERT, UPDATE):
            sinks.write(alert)
        sinks.close()
    assert [headers["Idempotency-Key"] for _, headers, _ in requests] == [ALERT.id, ALERT.id, UPDATE.id]
    path, headers, body = requests[1]
    assert (path, headers["Content-Type"], headers["Authorization"]) == ("/hook?x=1", "application/json", "Bearer secret")
    assert json.loads(body)["id"] == ALERT.id


def octet_counted(content):
    messages = []
    while content:
        count, _, content = content.partition(b" ")
        messages.append(content[: int(count)])
        content = content[int(count) :]
    return messages


@contextmanager
def tcp_receiver(context=None):
    received = queue.SimpleQueue()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                plain = context.wrap_socket(connection, server_side=True) if context else connection
                with plain, plain.makefile("rb") as stream:
                    received.put(stream.read())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_syslog_over_tcp_counts_octets(tmp_path):
    with tcp_receiver() as (port, received):
        sinks = open_sinks([f"cef:tcp://127.0.0.1:{port}"], tmp_path)
        for alert in (ALERT, replace(ALERT, series="ä\n☃")):
            sinks.write(alert)
        sinks.close()
        first, second = octet_counted(received.get(timeout=5))
    assert first.startswith(b"<130>1 2019-05-03T11:20:00.000Z ")
    assert b"|anomaly-start|Traffic anomaly|10|" in first
    assert "cs1=ä\\n☃ " in second.decode()


def test_syslog_over_tcp_ends_messages_with_newlines_where_asked(tmp_path):
    with tcp_receiver() as (port, received):
        sender = SyslogSender("127.0.0.1", port, count_octets=False)
        for content in (b"<1>1 one", b"two\nlines", b"and\r\nthree\r"):
            sender("id", content)
        sender.close()
        assert received.get(timeout=5) == b"<1>1 one\ntwo\\nlines\nand\\nthree\\n\n"


def test_the_framing_of_a_destination_is_used(tmp_path):
    with tcp_receiver() as (port, received):
        sinks = open_sinks([f"cef:tcp://127.0.0.1:{port}#framing=newline"], tmp_path)
        for alert in (ALERT, UPDATE):
            sinks.write(alert)
        sinks.close()
        lines = received.get(timeout=5).splitlines()
    assert [line[:6] for line in lines] == [b"<130>1", b"<130>1"]


def test_syslog_over_tls_checks_the_certificate(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split()
    extension = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *extension], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with tcp_receiver(context) as (port, received):
        sinks = open_sinks([f"cef:tls://127.0.0.1:{port}#ca={certificate}"], tmp_path)
        sinks.write(ALERT)
        sinks.close()
        (message,) = octet_counted(received.get(timeout=5))
    assert ALERT.id.encode() in message


def test_syslog_over_udp_sends_one_datagram_per_alert(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        sinks = open_sinks([f"cef:udp://127.0.0.1:{receiver.getsockname()[1]}"], tmp_path)
        sinks.write(ALERT)
        sinks.close()
        assert ALERT.id.encode() in receiver.recv(65_536)


def test_standard_output_accepts_any_format(tmp_path, capsys):
    sinks = open_sinks(["stdout", "eve:-"], tmp_path)
    sinks.write(ALERT)
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["id"] == json.loads(second)["mods"]["id"] == ALERT.id


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("eve", "found 'eve'"),
        ("xml:/tmp/x", "eve, jsonl, zeek, zeek-json, idmef, cef, ecs"),
        ("cef:ftp://host", "found ftp://"),
        ("cef:tcp://", "host is missing"),
        ("cef:tcp://host:99999", "expected a port of 1 to 65535 after the host"),
        ("cef:tcp://host:0", "expected a port of 1 to 65535 after the host"),
        ("cef:tcp://host/path", "expected nothing after tcp://HOST:PORT"),
        ("cef:tcp://host#framing=lines", "expected a framing of octet-counting or newline, found 'lines'"),
        ("cef:tcp://host#framing", "expected options of the form name=value after #, found 'framing'"),
        ("cef:tcp://host#framing=", "the value of the option framing is missing"),
        ("cef:tcp://host#framing=newline&framing=newline", "expected each option once"),
        ("cef:tcp://host#ca=x", "unknown option ca; expected framing"),
        ("cef:udp://host#framing=newline", "unknown option framing; udp:// has none"),
        ("cef:https://host#framing=newline", "unknown option framing; expected ca or token-file"),
        ("cef:https://user:secret@host", "expected no user name before the host"),
        ("jsonl:https://host/#tokn=x", "unknown option tokn"),
    ],
)
def test_an_invalid_destination_is_rejected(tmp_path, text, complaint):
    with pytest.raises(DataError, match=re.escape(complaint)):
        open_sinks([text], tmp_path)


@pytest.mark.parametrize("place", ["folder", "file/alerts.json"])
def test_a_file_that_cannot_hold_alerts_is_refused_at_the_start(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=f"--alerts eve:.*{tmp_path}"):
        open_sinks([f"eve:{tmp_path / place}"], tmp_path)


@pytest.mark.parametrize(
    ("option", "complaint"), [("ca", "expected certificates of authorities in PEM"), ("token-file", "expected the bearer token")]
)
def test_a_file_of_an_option_that_is_something_else_is_refused(tmp_path, option, complaint):
    (tmp_path / "x").write_text("two\nlines")
    with pytest.raises(DataError, match=complaint):
        open_sinks([f"jsonl:https://host#{option}={tmp_path / 'x'}"], tmp_path)
