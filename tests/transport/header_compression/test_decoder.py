"""What decoding a header block may cost: how much of it is decoded, and how much that counts."""

import pytest
from hpack import Encoder, HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import encode_integer

from mods_grpc.transport.header_compression.decoder import Decoder, Table

MAX_LIST = 32_768
CODES = Encoder().huffman_coder.encode
REFERENCE = b"\xbe"  # to the latest entry of the table


def literal(name, value, *, huffman=False, pattern=0):
    text = CODES(value) if huffman else value
    size = encode_integer(len(text), 7)
    size[0] |= 0x80 if huffman else 0
    return bytes([pattern]) + bytes(encode_integer(len(name), 7)) + name + bytes(size) + text


class CountedTable(Table):
    """Counts the entries that were looked up."""

    lookups = 0

    def get_by_index(self, index):
        self.lookups += 1
        return super().get_by_index(index)


def counted():
    decoder = Decoder(MAX_LIST)
    decoder.table = CountedTable()
    return decoder


def test_references_to_the_table_count_as_what_they_stand_for():
    decoder = counted()
    _, size = decoder.decode(literal(b"bomb", b"x" * 4_000, pattern=0x40))
    assert size == 32 + 4 + 4_000
    assert decoder.decode(REFERENCE * 8) == ([(b"bomb", b"x" * 4_000)] * 8, 8 * size)
    decoder.table.lookups = 0
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(REFERENCE * 20_000)
    assert decoder.table.lookups == MAX_LIST // size + 1


@pytest.mark.parametrize("field", [b"\x90", literal(b"a", b""), literal(b"", b"")])
def test_fields_without_bytes_are_bounded_by_what_each_counts(field):
    decoder = counted()
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(field * 20_000)
    assert decoder.cost < 400


def test_names_of_the_table_count_each_time():
    decoder = counted()
    decoder.decode(literal(b"n" * 4_000, b"", pattern=0x40))
    decoder.table.lookups = 0
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(b"\x0f\x2f\x00" * 10_000)
    assert decoder.table.lookups == MAX_LIST // 4_032 + 1


def test_cost_follows_the_bytes_of_huffman_codes_and_the_number_of_fields():
    costs = {}
    for name, block in {
        "ten fields": literal(b"x-a", b"value", huffman=True) * 10,
        "a raw value": literal(b"a", b"x" * 8_192),
        "a coded value": literal(b"a", b"x" * 8_192, huffman=True),
        "a value of rare symbols": literal(b"a", b"\xf9" * 8_000, huffman=True),
        "many fields": literal(b"a", b"") * 900,
        "many references": b"\x90" * 500,
    }.items():
        decoder = Decoder(MAX_LIST)
        decoder.decode(block)
        costs[name] = decoder.cost
    assert costs["ten fields"] < 10
    assert costs["a raw value"] < 10
    assert costs["a coded value"] > 50
    assert costs["a value of rare symbols"] > 3 * costs["a coded value"]
    assert costs["many fields"] > 200
    assert costs["many references"] > 100
    assert max(costs.values()) < 500


def test_a_block_that_can_not_be_decoded_costs_what_was_done():
    decoder = Decoder(MAX_LIST)
    with pytest.raises(HPACKDecodingError):
        decoder.decode(literal(b"a", b"x" * 8_192, huffman=True) + b"\xff\x80")
    assert decoder.cost > 50


@pytest.mark.parametrize("size", [4_097, 65_536, 2**32])
def test_a_table_above_the_default_size_is_refused(size):
    update = encode_integer(size, 5)
    update[0] |= 0x20
    with pytest.raises(HPACKDecodingError):
        Decoder(MAX_LIST).decode(bytes(update))


def test_the_size_of_the_table_may_change_twice_at_the_start_of_a_block():
    assert Decoder(MAX_LIST).decode(b"\x20\x3f\xe1\x1f\x82")[0] == [(b":method", b"GET")]
    for block in (b"\x20\x20\x20", b"\x82\x20"):
        with pytest.raises(HPACKDecodingError):
            Decoder(MAX_LIST).decode(block)


@pytest.mark.parametrize(
    "block", [b"\x80", b"\xff", b"\x40", b"\x00\x05ab", b"\x00\x01a", b"\x0f", b"\x3f", b"\xff" + b"\x80" * 9]
)
def test_blocks_that_break_off_or_name_no_entry_are_refused(block):
    with pytest.raises(HPACKDecodingError):
        Decoder(MAX_LIST).decode(block)
