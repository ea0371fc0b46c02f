"""Every connection that is ended or refused, and every stream that is reset, is counted and named."""

import contextlib
import logging
import socket
import ssl
import time

import pytest
from prometheus_client import CollectorRegistry

from mods_grpc.server.telemetry.connection_ends import LOG_SECONDS, ConnectionEnds
from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason, ResetReason
from tests.support import certificates, running_server
from tests.support.http2.wire import HELLO, data, headers, request
from tests.support.models.tiny import publish_tiny

SECONDS = 20.0


class Ends:
    """Counters and log lines of ends, with a clock that a test moves."""

    def __init__(self, caplog):
        self.registry, self.now, self._caplog = CollectorRegistry(), 100.0, caplog
        self.observer = ConnectionEnds(self.registry, clock=lambda: self.now)

    def count(self, metric, reason):
        return self.registry.get_sample_value(metric, {"reason": reason})

    def lines(self):
        records = [record for record in self._caplog.records if record.levelno == logging.WARNING]
        self._caplog.clear()
        return [(record.getMessage(), record.peer, record.reason, record.detail, record.more) for record in records]


@pytest.fixture
def ends(caplog):
    return Ends(caplog)


def test_every_reason_is_exported_as_0_from_the_start(ends):
    assert {ends.count("mods_connections_closed_total", reason) for reason in CloseReason} == {0.0}
    assert {ends.count("mods_streams_reset_total", reason) for reason in ResetReason} == {0.0}


def test_all_are_counted_and_one_of_a_kind_in_ten_seconds_is_logged(ends):
    for number in range(1_000):
        ends.observer.on_close(f"ipv4:10.0.0.1:{number}", CloseReason.RESET_FLOOD, "too many")
    ends.observer.on_close("unix:", CloseReason.DEAD, "no answer")
    ends.observer.on_reset("unix:", ResetReason.SLOW_READER, "too little")
    assert ends.lines() == [
        ("connection_closed", "ipv4:10.0.0.1:0", "reset_flood", "too many", 0),
        ("connection_closed", "unix:", "dead", "no answer", 0),
        ("stream_reset", "unix:", "slow_reader", "too little", 0),
    ]
    ends.now += LOG_SECONDS
    for _ in range(2):
        ends.observer.on_close("ipv4:10.0.0.2:1", CloseReason.RESET_FLOOD, "too many")
    assert ends.lines() == [("connection_closed", "ipv4:10.0.0.2:1", "reset_flood", "too many", 999)]
    ends.now += LOG_SECONDS
    ends.observer.on_close("ipv4:10.0.0.3:1", CloseReason.RESET_FLOOD, "too many")
    assert ends.lines() == [("connection_closed", "ipv4:10.0.0.3:1", "reset_flood", "too many", 1)]
    assert ends.count("mods_connections_closed_total", "reset_flood") == 1_003
    assert ends.count("mods_streams_reset_total", "slow_reader") == 1


def test_ordinary_ends_are_counted_and_not_logged(ends):
    ends.observer.on_close("unix:", CloseReason.PEER_CLOSED, "")
    ends.observer.on_reset("unix:", ResetReason.BY_PEER, "")
    assert ends.count("mods_connections_closed_total", "peer_closed") == ends.count("mods_streams_reset_total", "by_peer") == 1
    assert ends.lines() == []


@contextlib.contextmanager
def serving(folder, **options):
    """Run a server whose ends can be counted, with a repository in `folder`."""
    if running_server.transport != "direct":
        pytest.skip("gRPC's own library does not tell what becomes of its connections")
    repository = folder / "repository"
    repository.mkdir()
    publish_tiny(repository)
    with running_server.running_server(repository=repository, **options) as server:
        yield server


def count(server, metric, reason):
    return server.app.metrics.registry.get_sample_value(metric, {"reason": reason})


def await_count(server, metric, reason, expected=1.0):
    """Wait until so many ends have been counted, and check that no other reason was counted in its place."""
    until = time.monotonic() + SECONDS
    while count(server, metric, reason) != expected:
        assert time.monotonic() < until, [
            (sample.labels, sample.value)
            for family in server.app.metrics.registry.collect()
            for sample in family.samples
            if sample.name == metric and sample.value
        ]
        time.sleep(0.01)


def connect(server):
    return socket.create_connection(("127.0.0.1", server.app.port), timeout=SECONDS)


def read_all(peer):
    received = bytearray()
    while chunk := peer.recv(65_536):
        received += chunk
    return bytes(received)


@pytest.mark.parametrize(
    ("sent", "reason", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", CloseReason.NOT_HTTP2, 1),
        (HELLO + data(2, b"x"), CloseReason.PROTOCOL_ERROR, 1),
        (HELLO + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff" * 9), CloseReason.COMPRESSION_ERROR, 9),
        (
            HELLO + headers(1, b"", complete=False) + b"".join([frames.frame(9, 0, 1, b"x")] * 20),
            CloseReason.HEADERS_TOO_LARGE,
            11,
        ),
        (HELLO + frames.ping(bytes(8), ack=False) * 2_000, CloseReason.FRAME_FLOOD, 11),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_connection_that_is_ended_for_a_fault_is_counted_logged_and_told_why(tmp_path, caplog, sent, reason, code):
    with serving(tmp_path) as server, connect(server) as peer:
        name = f"ipv4:127.0.0.1:{peer.getsockname()[1]}"
        peer.sendall(sent)
        received = read_all(peer)
        await_count(server, "mods_connections_closed_total", reason)
    [line] = [record for record in caplog.records if record.getMessage() == "connection_closed"]
    assert (line.levelname, line.peer, line.reason) == ("WARNING", name, reason)
    assert received.endswith(code.to_bytes(4) + f"{reason}: {line.detail}".encode())


def test_streams_that_are_reset_are_counted_by_who_reset_them_and_why(tmp_path):
    path = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/mods.v1.InferenceService/StreamDetect")]
    fields = [*path, (b"te", b"trailers"), (b"content-type", b"application/grpc")]
    with serving(tmp_path, max_concurrent_streams=1) as server, connect(server) as peer:
        peer.sendall(HELLO + request(1, fields) + request(3, fields) + request(5, [*fields, (b"Upper", b"case")]))
        await_count(server, "mods_streams_reset_total", ResetReason.TOO_MANY_STREAMS)
        await_count(server, "mods_streams_reset_total", ResetReason.MALFORMED)
        peer.sendall(frames.reset(1, 8))
        await_count(server, "mods_streams_reset_total", ResetReason.BY_PEER)
        peer.close()
        await_count(server, "mods_connections_closed_total", CloseReason.PEER_CLOSED)


def test_connections_above_the_limit_are_counted_and_logged_with_the_limit(tmp_path, caplog):
    with serving(tmp_path, max_connections=1) as server, connect(server) as first:
        first.sendall(HELLO)
        assert first.recv(1)
        with connect(server) as second:
            name = f"ipv4:127.0.0.1:{second.getsockname()[1]}"
            with contextlib.suppress(ConnectionResetError):
                assert second.recv(1) == b""
        await_count(server, "mods_connections_closed_total", CloseReason.TOO_MANY_CONNECTIONS)
    [line] = [record for record in caplog.records if record.getMessage() == "connection_closed"]
    assert (line.peer, line.reason, line.detail) == (name, "too_many_connections", "1 connections are open")


def test_a_drain_counts_its_connections_as_ordinary(tmp_path, caplog):
    with serving(tmp_path) as server, connect(server) as peer:
        peer.sendall(HELLO)
        assert peer.recv(1)
        server.begin_stop()
        read_all(peer)
        peer.close()
        server.join()
        assert count(server, "mods_connections_closed_total", CloseReason.SHUTDOWN) == 1
    assert not [record for record in caplog.records if record.getMessage() == "connection_closed"]


def speak_plain(peer, _context, _other):
    peer.sendall(HELLO)
    peer.recv(100)


def talk(peer, context, _other=None):
    with context.wrap_socket(peer, server_hostname="localhost") as secured:
        secured.recv(100)


def present_the_certificate_of_another_authority(peer, context, other):
    context.load_cert_chain(*reversed(other))
    talk(peer, context)


def choose_another_protocol(peer, context, _other):
    context.set_alpn_protocols(["http/1.1"])
    talk(peer, context)


@certificates.needs_openssl
@pytest.mark.parametrize(
    ("mutual", "fail", "words"),
    [
        (False, speak_plain, "wrong version number"),
        (False, choose_another_protocol, "ALPN did not choose h2"),
        (True, talk, "peer did not return a certificate"),
        (True, present_the_certificate_of_another_authority, "certificate verify failed"),
    ],
)
def test_failed_tls_handshakes_are_counted_and_logged_in_the_words_of_openssl(tmp_path, caplog, mutual, fail, words):
    authority, other = certificates.make_authority(tmp_path), certificates.make_authority(tmp_path, "other")
    key, certificate = certificates.make_certificate(tmp_path, authority, "server")
    options = {"tls_certificate": str(certificate), "tls_key": str(key)} | (
        {"tls_client_ca": str(authority[1])} if mutual else {}
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority[1])
    with serving(tmp_path, **options) as server:
        with connect(server) as peer, contextlib.suppress(OSError):
            fail(peer, context, other)
        await_count(server, "mods_connections_closed_total", CloseReason.TLS_FAILED)
    [line] = [record for record in caplog.records if record.getMessage() == "connection_closed"]
    assert (line.peer.rpartition(":")[0], line.reason, line.detail) == ("ipv4:127.0.0.1", "tls_failed", words)


@pytest.mark.slow
@certificates.needs_openssl
def test_a_tls_handshake_that_takes_too_long_is_counted_as_that(tmp_path):
    authority = certificates.make_authority(tmp_path)
    key, certificate = certificates.make_certificate(tmp_path, authority, "server")
    with serving(tmp_path, tls_certificate=str(certificate), tls_key=str(key)) as server, connect(server) as peer:
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""
        await_count(server, "mods_connections_closed_total", CloseReason.TLS_TIMEOUT)


@pytest.mark.slow
def test_an_opening_that_takes_too_long_is_counted_as_that(tmp_path):
    with serving(tmp_path) as server, connect(server) as peer:
        peer.sendall(HELLO[:10])
        assert read_all(peer).endswith(b"opening_timeout: no preface, SETTINGS and acknowledgement in time")
        await_count(server, "mods_connections_closed_total", CloseReason.OPENING_TIMEOUT)
