"""The wire format of protocol buffers where a message class is not at hand or would copy too much: varints and byte fields."""

LENGTH_DELIMITED = 2  # wire type
MAX_VARINT_BYTES = 10


def encode_length_delimited(number: int, data: bytes) -> bytes:
    """Return field `number`, a message, bytes or packed numbers whose encoding is `data`."""
    return b"".join((encode_varint(number << 3 | LENGTH_DELIMITED), encode_varint(len(data)), data))


def encode_varint(number: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 as a varint."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Read a varint at `position`, and return its value and the position after it.

    Raises:
        IndexError: The message ends in the middle of it.
        ValueError: It has more than MAX_VARINT_BYTES bytes.
    """
    value = 0
    for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a varint has more than {MAX_VARINT_BYTES} bytes")
