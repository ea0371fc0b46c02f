"""Huffman decoding a byte at a time, which takes a third of the time of the package `hpack` (RFC 7541, section 5.2)."""

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_STEPS_PER_STATE = 16  # of `HUFFMAN_TABLE`: one for each half of a byte


class _State(dict[int, tuple["_State", bytes]]):
    """A state between two bytes: for each byte that may come next, the state after it and the symbols that it completes.

    Entries are made when they are first used: text uses a few thousand, and all of them take about 7 MB.

    Args:
        number: The state in `HUFFMAN_TABLE`.
        complete: Whether a string may end here.
    """

    __slots__ = ("_number", "complete")

    def __init__(self, number: int, *, complete: bool) -> None:
        super().__init__()
        self._number = number
        self.complete = complete

    def __missing__(self, byte: int) -> tuple["_State", bytes]:
        number, symbols = self._number, b""
        for half in (byte >> 4, byte & 0xF):
            number, flags, symbol = HUFFMAN_TABLE[_STEPS_PER_STATE * number + half]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("an invalid Huffman code")
            if flags & HUFFMAN_EMIT_SYMBOL:
                symbols += bytes((symbol,))
        self[byte] = entry = _STATES[number], symbols
        return entry


_COMPLETE = {number for number, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE} | {0}
_STATES = [_State(number, complete=number in _COMPLETE) for number in range(len(HUFFMAN_TABLE) // _STEPS_PER_STATE)]


def decode_huffman(encoded: bytes) -> bytes:
    """Decode a string. The result is at most 1.6 times as long.

    Raises:
        HPACKDecodingError: It is no Huffman code, or does not end as one.
    """
    state, parts = _STATES[0], []
    for byte in encoded:
        state, symbols = state[byte]
        parts.append(symbols)
    if not state.complete:
        raise HPACKDecodingError("an incomplete Huffman code")
    return b"".join(parts)
