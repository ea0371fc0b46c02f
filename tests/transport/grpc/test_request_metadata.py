"""Requests that are HTTP/2 and are not gRPC, or not quite: each has its status, and no handler sees it."""

import grpc
import h2.events
import pytest

from mods_grpc.transport.grpc.request_metadata import RejectedRequestError, parse_headers
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.direct_server import ECHOES, MAX_BYTES, REQUEST, Peer, frame_message, running_direct_server

FIELDS = [(name.encode(), value.encode()) for name, value in REQUEST.items()]
WINDOW = Limits().initial_window
OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 8, 12, 13


@pytest.fixture(scope="module")
def asked():
    return []


@pytest.fixture(scope="module")
def server(asked):
    async def echo(message, context):
        asked.append(message)
        return message

    with running_direct_server(ECHOES | {"Echo": grpc.unary_unary_rpc_method_handler(echo)}) as started:
        yield started


@pytest.fixture
def peer(server, asked):
    asked.clear()
    with Peer(server.port) as connected:
        yield connected


def test_an_answer_is_framed_and_ends_with_its_status(peer):
    first, body, last = peer.answer(peer.send(frame_message(b"three words here")))
    assert first == {":status": "200", "content-type": "application/grpc"}
    assert body == frame_message(b"three words here")
    assert last == {"grpc-status": "0"}


@pytest.mark.parametrize("cut", [1, 4, 5, 6])
def test_a_message_may_come_in_pieces(peer, cut):
    whole = frame_message(b"in pieces")
    assert peer.answer(peer.send(whole[:cut], whole[cut:], b""))[1] == whole


def test_a_message_larger_than_the_window_arrives_as_it_is_read(peer):
    whole = frame_message(bytes(300_000))
    number = peer.send(whole)
    for which in (None, number):
        peer.h2.increment_flow_control_window(300_000, which)
    peer.flush()
    assert peer.answer(number)[1] == whole


@pytest.mark.parametrize("method", ["Echo", "All"])
def test_window_for_a_large_message_is_granted_once_its_size_is_known(peer, method):
    whole, first = frame_message(bytes(300_000)), 5_000
    number = peer.send(whole[:first], fields={":path": f"/test.Test/{method}"}, end=False)
    missing = len(whole) - first
    while peer.h2.local_flow_control_window(number) < missing:
        peer.read()
    assert peer.h2.local_flow_control_window(number) <= missing + WINDOW


def test_window_granted_in_advance_is_deducted_when_the_message_has_arrived(peer):
    peer.h2.increment_flow_control_window(2**30)
    number = peer.send(fields={":path": "/test.Test/All"}, end=False)
    peer.h2.increment_flow_control_window(2**30, number)
    for size in (300_000, 10, 70_000, 990_000, 65_530, 3):
        peer._write(number, frame_message(bytes(size)), end=False)
        came = 0
        while came < size + 5:
            peer.read()
            came = sum(len(event.data) for event in peer.events if isinstance(event, h2.events.DataReceived))
        peer.events.clear()
        assert WINDOW // 2 <= peer.h2.local_flow_control_window(number) <= WINDOW


@pytest.mark.parametrize("kind", [None, "text/html", "application/json", "application/grpcish", "application/grp"])
def test_another_content_type_gets_status_415(peer, kind, asked):
    status, first = peer.status(frame_message(b"x"), fields={"content-type": kind})
    assert (status, first[":status"]) == (INVALID_ARGUMENT, "415")
    assert not asked


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+json"])
def test_a_content_type_may_have_a_suffix(peer, kind):
    assert peer.status(frame_message(b"x"), fields={"content-type": kind})[0] == OK


def test_another_http_method_gets_status_405(peer, asked):
    status, first = peer.status(fields={":method": "GET"})
    assert (status, first[":status"]) == (INVALID_ARGUMENT, "405")
    assert not asked


@pytest.mark.parametrize("path", ["/test.Test/None", "/", "/test.Test/", "/test.Test/Echo/", "*", "/x" * 1000])
def test_an_unknown_method_is_unimplemented(peer, path):
    status, first = peer.status(frame_message(b"x"), fields={":path": path})
    assert (status, first[":status"]) == (UNIMPLEMENTED, "200")


@pytest.mark.parametrize("timeout", ["", "1", "S", "1s", "123456789S", "-1S", "1.5S", "1 S"])
def test_a_malformed_timeout_is_rejected(peer, timeout, asked):
    assert peer.status(frame_message(b"x"), fields={"grpc-timeout": timeout})[0] == INVALID_ARGUMENT
    assert not asked


@pytest.mark.parametrize("timeout", ["1H", "1M", "1S", "99999999m", "99999999u", "99999999n"])
def test_a_timeout_has_a_number_and_a_unit(peer, timeout):
    assert peer.status(frame_message(b"x"), fields={"grpc-timeout": timeout})[0] == OK


def test_metadata_of_too_many_entries_is_rejected(peer, asked):
    assert peer.status(frame_message(b"x"), fields={"key-bin": "," * 200})[0] == INVALID_ARGUMENT
    assert not asked


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("ä".encode(), "ä"),
        (b"\xe4", "ä"),
        (b"\x80\xff", "\x80\xff"),
        (b"a\tb", "a\tb"),
        (b"\x01\x7f", "\x01\x7f"),
        (b"", ""),
    ],
)
def test_a_field_of_any_bytes_does_not_refuse_the_call(value, decoded):
    headers = parse_headers([*FIELDS, (b"x-ingress", value), (b"x-next", b"1")])
    assert headers.metadata == (("x-ingress", decoded), ("x-next", "1"))


@pytest.mark.parametrize("value", [b"%", b"a", b"\xe4", b"AA, %"])
def test_a_binary_field_without_base64_is_left_out(value):
    headers = parse_headers([*FIELDS, (b"trace-bin", value), (b"x-next", b"1")])
    assert headers.metadata == (*([("trace-bin", b"\0")] if value.startswith(b"AA") else []), ("x-next", "1"))


@pytest.mark.parametrize(
    "field", [(b"grpc-timeout", b"\xe4"), (b":method", b"P\xd6ST"), (b"content-type", b"application/grpc\xe4")]
)
def test_a_bad_value_of_a_field_of_the_protocol_refuses_the_call(field):
    with pytest.raises(RejectedRequestError):
        parse_headers([*(one for one in FIELDS if one[0] != field[0]), field])


def test_metadata_that_is_too_large_is_rejected_and_the_connection_stays_open(peer, asked):
    assert peer.status(frame_message(b"x"), fields={"key": "x" * 20_000})[0] == RESOURCE_EXHAUSTED
    assert not asked
    assert peer.status(frame_message(b"x"))[0] == OK


@pytest.mark.parametrize("path", ["/test.Test/Echo", "/test.Test/All"])
@pytest.mark.parametrize(
    ("mark", "encoding", "expected"),
    [(1, None, INTERNAL), (1, "identity", INTERNAL), (2, "gzip", INTERNAL), (1, "gzip", UNIMPLEMENTED), (0, "gzip", OK)],
)
def test_a_compressed_message_is_rejected_as_the_specification_says(peer, path, mark, encoding, expected):
    status, first = peer.status(frame_message(b"x", mark), fields={":path": path, "grpc-encoding": encoding})
    assert status == expected
    if status == UNIMPLEMENTED:
        assert first["grpc-accept-encoding"] == "identity"


@pytest.mark.parametrize("path", ["/test.Test/Echo", "/test.Test/All"])
def test_a_message_above_the_limit_is_rejected_before_it_arrives(peer, path):
    head = frame_message(bytes(MAX_BYTES + 1))[:100]
    assert peer.status(head, fields={":path": path}, end=False)[0] == RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "body",
    [
        [],
        [b""],
        [b"\0"],
        [frame_message(b"abc")[:-1]],
        [frame_message(b"abc"), frame_message(b"def")],
        [frame_message(b"abc") + b"\0"],
    ],
)
def test_a_unary_request_is_one_message(peer, body, asked):
    assert peer.status(*body)[0] == INVALID_ARGUMENT
    assert not asked


def test_a_stream_that_ends_within_a_message_is_rejected(peer):
    assert peer.status(frame_message(b"abc") + b"\0", fields={":path": "/test.Test/All"})[0] == INVALID_ARGUMENT


def test_messages_that_arrive_in_one_frame_are_all_answered(peer):
    messages = [b"", b"a", b"b" * 500] * 20
    body = b"".join(map(frame_message, messages))
    assert peer.answer(peer.send(body, fields={":path": "/test.Test/All"}))[1] == body
