"""Fields of messages written by hand, where they are at hand as bytes already: a message made of parts, and long columns."""

_LENGTH_DELIMITED = 2  # of the wire types of protocol buffers


def length_delimited_field(number: int, data: bytes) -> bytes:
    """Write a field that is a message, bytes, or packed numbers whose bytes are `data`."""
    return b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(len(data)), data))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
