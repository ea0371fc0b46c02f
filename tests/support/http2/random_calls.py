"""Random calls and other actions of a peer, as hypothesis strategies."""

from hypothesis import strategies as st

from mods_grpc.transport.http2.hpack import encode

MAX_BYTES = 100_000
METHODS = ("Echo", "Slow", "Fail", "All", "Many", "Nothing", "Deaf", "Missing")

sizes = st.sampled_from([0, 1, 100, 16_000, 70_000, MAX_BYTES, MAX_BYTES + 1])
messages = st.builds(
    lambda size, mark, more: bytes([mark]) + (size + more).to_bytes(4) + bytes(size),
    sizes,
    st.sampled_from([0] * 20 + [1, 7]),
    st.sampled_from([0] * 20 + [1, 2**31]),
)
bodies = st.one_of(messages, messages, st.lists(messages, max_size=4).map(b"".join), st.binary(max_size=20))
timeouts = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.sampled_from([b"0n", b"1m", b"500m", b"2S", b"99999999H", b"", b"1", b"-1S", b"123456789S", b"1s", b"S"]),
)
metadata = st.one_of(
    st.just([]),
    st.just([]),
    st.lists(
        st.sampled_from(
            [
                (b"a", b"b"),
                (b"a-bin", b"AA=="),
                (b"a-bin", b"?"),
                (b"a-bin", b"," * 500),
                (b"a", b"\xff"),
                (b"grpc-encoding", b"gzip"),
                (b"grpc-encoding", b"\xff"),
                (b"content-length", b"5"),
            ]
        ),
        max_size=3,
    ),
)
kinds = st.sampled_from([*[b"application/grpc"] * 9, b"application/grpc+proto", b"text/html"])
calls = st.tuples(
    st.sampled_from(METHODS),
    kinds,
    timeouts,
    metadata,
    bodies,
    st.sampled_from(["end", "end", "end", "open", "reset", "trailers"]),
    st.integers(1, 5),
)
acts = st.one_of(
    calls,
    calls,
    calls,
    st.sampled_from(
        ["wait", "long", "window 0", "window", "credit", "reset all", "stick", "unstick", "vanish", "go away", "ping"]
    ),
)


def encode_request(method, kind, timeout, fields):
    more = [(b"grpc-timeout", timeout)] if timeout is not None else []
    path = f"/test.Test/{method}".encode()
    return encode(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b"te", b"trailers"),
            (b"content-type", kind),
            *more,
            *fields,
        ]
    )
