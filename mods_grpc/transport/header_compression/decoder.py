"""Decodes header blocks with the dynamic table of one peer, and stops where a list of fields becomes too large (RFC 7541)."""

from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import decode_integer
from hpack.table import HeaderTable

from mods_grpc.transport.header_compression.huffman import decode_huffman

FIELD_OVERHEAD_BYTES = 32  # of a field, counted besides its name and value (RFC 7541, section 4.1)
_MAX_RESIZINGS = 2  # at the start of a block (RFC 7541, section 4.2): the smallest size since the last block, and the new size
_INDEXED, _INDEXING, _RESIZING = 0x80, 0x40, 0x20  # patterns of the representations, each the highest bit set (section 6)
_HUFFMAN = 0x80
_BYTES_PER_COST, _HUFFMAN_BYTES_PER_COST = 4_096, 96  # that are copied, and that are decoded, in the time of a unit of cost
_FIELDS_PER_COST = 3  # with their validation
_MAX_INTEGER_BYTES = 6  # of an integer as `decode_integer` accepts them, with its prefix


class Table(HeaderTable):
    """The dynamic table, with a count of its changes (RFC 7541, section 2.3.2)."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Add an entry, and drop the oldest ones beyond the size."""
        self.changes += 1
        super().add(name, value)

    def resize(self, size: int) -> None:
        """Set the size of the table.

        Raises:
            HPACKDecodingError: It is above the size that we allow, which is the default of the protocol.
        """
        if size > self.DEFAULT_SIZE:
            raise HPACKDecodingError(f"a table of {size} bytes, above {self.DEFAULT_SIZE}")
        self.changes += 1
        self.maxsize = size


class Decoder:
    """Decodes the header blocks of one peer, in their order.

    Args:
        max_list_bytes: Largest list of fields: names, values and `FIELD_OVERHEAD_BYTES` for each.

    Attributes:
        table: The dynamic table.
        cost: Work so far, in units of about 3 us: the time of an ordinary frame.
    """

    __slots__ = ("_max_list_bytes", "cost", "table")

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self.table = Table()
        self.cost = 0

    def decode(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
        """Decode a block.

        Returns:
            The fields, and the bytes of their list. A field of the table counts as if it had been sent.

        Raises:
            HPACKError: The block can't be decoded; nor can any later one.
            OversizedHeaderListError: The list is too large; the rest of the block was not decoded.
        """
        fields: list[tuple[bytes, bytes]] = []
        size, max_size = 0, self._max_list_bytes
        entry = self.table.get_by_index
        position, end = self._resize(block), len(block)
        try:
            while position < end:
                byte = block[position]
                if byte >= _INDEXED:
                    if byte < 0xFF:
                        field = entry(byte - _INDEXED)
                        position += 1
                    else:
                        index, position = _read_integer(block, position, 7)
                        field = entry(index)
                elif byte >= _INDEXING:
                    field, position = self._read_literal(block, position, 6)
                    self.table.add(*field)
                elif byte >= _RESIZING:
                    raise HPACKDecodingError("the size of the table changes after a field")
                else:
                    field, position = self._read_literal(block, position, 4)
                name, value = field
                size += FIELD_OVERHEAD_BYTES + len(name) + len(value)
                if size > max_size:
                    raise OversizedHeaderListError(f"a header list above {max_size} bytes")
                fields.append(field)
        finally:
            self.cost += 1 + len(fields) // _FIELDS_PER_COST + (end + size) // _BYTES_PER_COST
        return fields, size

    def _resize(self, block: bytes) -> int:
        """Apply the changes of the size of the table, and return where the fields start (RFC 7541, section 4.2)."""
        position = resizings = 0
        while position < len(block) and _RESIZING <= block[position] < _INDEXING:
            resizings += 1
            if resizings > _MAX_RESIZINGS:
                raise HPACKDecodingError("the size of the table changes more often than needed")
            size, position = _read_integer(block, position, 5)
            self.table.resize(size)
        return position

    def _read_literal(self, block: bytes, position: int, prefix_bits: int) -> tuple[tuple[bytes, bytes], int]:
        """Return the literal field at a position, and the position after it (RFC 7541, section 6.2)."""
        index, position = _read_integer(block, position, prefix_bits)
        if index:
            name = self.table.get_by_index(index)[0]
        else:
            name, position = self._read_string(block, position)
        value, position = self._read_string(block, position)
        return (name, value), position

    def _read_string(self, block: bytes, position: int) -> tuple[bytes, int]:
        """Return the string at a position, and the position after it (RFC 7541, section 5.2)."""
        size, start = _read_integer(block, position, 7)
        end = start + size
        if end > len(block):
            raise HPACKDecodingError("a block that ends within a string")
        text = block[start:end]
        if block[position] >= _HUFFMAN:
            self.cost += size // _HUFFMAN_BYTES_PER_COST
            text = decode_huffman(text)
        return text, end


def _read_integer(block: bytes, position: int, prefix_bits: int) -> tuple[int, int]:
    """Return the integer at a position, and the position after it (RFC 7541, section 5.1)."""
    mask = (1 << prefix_bits) - 1
    number = block[position] & mask if position < len(block) else mask
    if number < mask:
        return number, position + 1
    number, size = decode_integer(block[position : position + _MAX_INTEGER_BYTES], prefix_bits)
    return number, position + size
