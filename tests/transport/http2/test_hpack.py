"""Header blocks against HPACK as python-hyper does it (RFC 7541)."""

import pytest
from h2.errors import ErrorCodes as Code
from hpack import Decoder, Encoder, HPACKDecodingError
from hpack.hpack import decode_integer
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.hpack import BlockDecoder, encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import REQUEST

names = st.sampled_from([b"grpc-timeout", b"user-agent", b"x-a", b"x-b", b"authorization", b"content-type", b"cookie"])
values = st.one_of(st.sampled_from([b"", b"1S", b"2S", b"10m"]), st.binary(max_size=150).map(bytes.hex).map(str.encode))
lists = st.lists(st.tuples(names, values), max_size=8)


@given(st.lists(st.tuples(lists, st.sampled_from([None, None, None, 0, 50, 200, 4_096])), max_size=12), st.booleans())
@profile(deadline=None)
def test_blocks_of_any_encoder_decode_to_its_fields_in_any_order_and_size_of_table(conversation, huffman):
    encoder, decoder = Encoder(), BlockDecoder(Limits())
    for fields, size in conversation * 2:
        if size is not None:
            encoder.header_table_size = size
        wanted = [*REQUEST, *fields]
        assert list(decoder.decode_request(encoder.encode(wanted, huffman)).fields) == wanted


@given(
    st.lists(
        st.tuples(
            st.one_of(names, st.sampled_from(HeaderTable.STATIC_TABLE).map(lambda entry: entry[0])), st.binary(max_size=400)
        )
    )
)
@profile(deadline=None)
def test_encoded_fields_decode_to_themselves_and_leave_no_trace(fields):
    decoder = Decoder()
    assert [tuple(field) for field in decoder.decode(encode(fields), raw=True)] == fields
    assert not decoder.header_table.dynamic_entries
    assert encode(fields) == encode(tuple(fields))


def test_entries_of_the_static_table_are_one_byte():
    for index, entry in enumerate(HeaderTable.STATIC_TABLE, 1):
        assert encode([entry]) == bytes([0x80 + index])


@given(st.lists(st.binary(max_size=60), max_size=5))
@profile(deadline=None)
def test_any_blocks_decode_as_hpack_decodes_them_or_end_the_connection(blocks):
    ours, reference = BlockDecoder(Limits()), Decoder(32_768)
    for block in blocks:
        try:
            fields = reference.decode(block, raw=True)
        except HPACKDecodingError:
            with pytest.raises(ConnectionFault):
                ours.decode(block)
            return
        if resizings(block) > 2:
            with pytest.raises(ConnectionFault):
                ours.decode(block)
            return
        assert list(ours.decode(block)) == fields


def resizings(block):
    """Count the changes of the size of the table at the start of a block."""
    count = 0
    while block and block[0] & 0xE0 == 0x20:
        block = block[decode_integer(block, 5)[1] :]
        count += 1
    return count


@pytest.mark.parametrize("index", [1, 61, 62, 126])
def test_an_index_that_does_not_exist_ends_the_connection(index):
    decoder = BlockDecoder(Limits())
    block = bytes([0x80 + index])
    if index <= 61:
        assert decoder.decode(block) == (HeaderTable.STATIC_TABLE[index - 1],)
        return
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(block)
    assert caught.value.code == Code.COMPRESSION_ERROR


def test_a_block_is_cached_until_the_table_changes_in_any_way():
    changes = (
        encode(REQUEST) + b"\x40\x01a\x01b",  # an entry
        b"\x20" + encode(REQUEST),  # a table of size 0
        b"\x3f\xe1\x1f" + encode(REQUEST),  # a table of its old size
        encode(REQUEST) + b"\x40\x01a\x7f\xa2\x1f" + b"x" * 4_129,  # an entry larger than the table
    )
    for change in changes:
        decoder = BlockDecoder(Limits())
        first = decoder.decode_request(encode(REQUEST))
        assert decoder.decode_request(encode(REQUEST)) is first
        decoder.decode_request(change)
        again = decoder.decode_request(encode(REQUEST))
        assert again is not first
        assert again.fields == first.fields


def test_the_cache_is_bounded_whatever_is_sent():
    decoder = BlockDecoder(Limits())
    blocks = [encode([*REQUEST, (b"n", b"%d" % number)]) for number in range(1_000)]
    blocks += [encode([*REQUEST, (b"n", b"x" * size)]) for size in range(3_000, 5_000, 100)]
    blocks += [b"\x40\x04bomb\x7f\xa1\x1e" + b"x" * 4_000 + encode(REQUEST[4:])]
    for block in blocks[:-1]:
        decoder.decode_request(block)
        cached = [request.fields for request in decoder._requests.values()]
        assert sum(32 + len(name) + len(value) for fields in cached for name, value in fields) <= 16_384
    decoder.decode(blocks[-1])
    assert not decoder._requests
    decoder.decode_request(encode(REQUEST) + b"\xbe" * 3)
    assert not decoder._requests
    decoder.decode_request(encode(REQUEST))
    assert len(decoder._requests) == 1


def test_a_block_above_the_bound_is_not_decoded():
    decoder = BlockDecoder(Limits(max_header_list=16_384))
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode_request(encode([*REQUEST, (b"x", b"y" * 32_768)]))
    assert caught.value.reason == CloseReason.HEADERS_TOO_LARGE
    assert decoder.cost == 0


def test_a_cached_block_costs_nothing():
    decoder = BlockDecoder(Limits())
    decoder.decode_request(encode(REQUEST))
    cost = decoder.cost
    assert cost > 0
    decoder.decode_request(encode(REQUEST))
    assert decoder.cost == cost
