"""Huffman codes against the package hpack."""

import pytest
from hpack import Encoder, HPACKDecodingError
from hpack.huffman_table import decode_huffman as decode_as_hpack
from hypothesis import example, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from mods_grpc.transport.header_compression.huffman import decode_huffman

encode = Encoder().huffman_coder.encode


@given(st.binary(max_size=300))
@example(bytes(range(256)))
@profile(deadline=None)
def test_any_text_decodes_to_itself(text):
    assert decode_huffman(encode(text)) == text


@given(st.one_of(st.binary(max_size=40), st.tuples(st.binary(max_size=8).map(encode), st.binary(max_size=3)).map(b"".join)))
@example(b"\xff")  # padding of a whole byte
@example(b"\xff" * 4)  # the code that ends a string, which must not occur
@example(encode(b"aaa"))  # padding of one bit
@example(b"\x18")  # padding of zeros
@profile(deadline=None)
def test_any_bytes_decode_as_hpack_decodes_them_or_fail_as_there(encoded):
    try:
        text = decode_as_hpack(encoded)
    except HPACKDecodingError:
        with pytest.raises(HPACKDecodingError):
            decode_huffman(encoded)
        return
    assert decode_huffman(encoded) == text
