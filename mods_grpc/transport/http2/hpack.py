"""Header blocks: requests are decoded with HPACK's dynamic table, responses are encoded without it (RFC 7541)."""

from hpack.exceptions import HPACKDecodingError, HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder, encode_integer
from hpack.table import HeaderTable, table_entry_size

from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.request_fields import Fields, RequestFields

HARD_LIMIT_FACTOR = 2  # times max_header_list: a longer list ends the connection
_MAX_RESIZINGS = 2  # at the start of a block (RFC 7541, section 4.2): the smallest size since the last block, and the new size
_INDEXED, _LONG_INDEX, _RESIZING = 0x80, 0xFF, 0x20  # first bytes of representations (RFC 7541, section 6)
_MAX_CACHE_BYTES = 16_384  # of cached field lists; what the application parsed from them may be a few times that
_MAX_CACHED_LIST_BYTES = 4_096
_BLOCK_BYTES_PER_COST = 32  # Huffman decoding of as many bytes takes as long as one field
_STATIC = {entry: index for index, entry in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES = {name: index for (name, _), index in _STATIC.items()}


class _Table(HeaderTable):
    """The dynamic table of a peer, with a count of its changes (RFC 7541, section 2.3.2)."""

    changes = 0
    resizings = 0  # in the current block

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Largest size of the entries, bytes; setting it may drop some."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        self.resizings += 1
        if self.resizings > _MAX_RESIZINGS:
            raise HPACKDecodingError("the size of the table changes more often than needed")
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class BlockDecoder:
    """Decodes the header blocks of one connection.

    A steady client sends the same bytes for every call. If decoding a block did not change the dynamic table, the same bytes
    mean the same fields until the table changes, so they are cached.

    Args:
        limits: Largest list of fields.

    Attributes:
        cost: Work of decoding so far, in about the time of one ordinary frame. Cached blocks cost nothing.
    """

    __slots__ = ("_cached_bytes", "_decoder", "_limits", "_max_fields", "_requests", "_table", "cost")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._max_fields = limits.max_header_fields  # of the fast path; the decoder itself bounds a list by its bytes
        self._decoder = Decoder(limits.max_header_list * HARD_LIMIT_FACTOR)
        self._table = self._decoder.header_table = _Table()
        self._requests: dict[bytes, RequestFields] = {}
        self._cached_bytes = 0
        self.cost = 0

    def decode_request(self, block: bytes) -> RequestFields:
        """Decode the block that opens a request.

        Raises:
            ConnectionFault: The block can't be decoded, or is far too large: the compression state is lost.
            MalformedError: The fields are not a valid request; the compression state is intact.
        """
        request = self._requests.get(block)
        if request is None:
            request = self._decode_new(block)
        return request

    def _decode_new(self, block: bytes) -> RequestFields:
        changes = self._table.changes
        fields = self.decode(block)
        limits = self._limits
        size = sum(table_entry_size(name, value) for name, value in fields)
        request = RequestFields(fields, too_large=size > limits.max_header_list or len(fields) > limits.max_header_fields)
        if changes == self._table.changes and size <= _MAX_CACHED_LIST_BYTES:
            self._cache(block, request, size)
        return request

    def _cache(self, block: bytes, request: RequestFields, size: int) -> None:
        if self._cached_bytes + size > _MAX_CACHE_BYTES:
            self._clear_cache()
        self._requests[block] = request
        self._cached_bytes += size

    def _clear_cache(self) -> None:
        self._requests.clear()
        self._cached_bytes = 0

    def decode(self, block: bytes) -> Fields:
        """Decode a block that opens no request, such as trailers.

        Raises:
            ConnectionFault: The block can't be decoded, or is far too large.
        """
        changes, self._table.resizings = self._table.changes, 0
        self.cost += len(block) // _BLOCK_BYTES_PER_COST
        try:
            indexed = self._decode_indexed(block)
            rest = block[len(indexed) :]
            if indexed and rest and rest[0] & 0xE0 == _RESIZING:
                raise HPACKDecodingError("the size of the table changes after a field")
            fields = (*indexed, *self._decoder.decode(rest, raw=True)) if rest else tuple(indexed)
        except OversizedHeaderListError as error:
            message = f"a header list above {self._decoder.max_header_list_size} bytes"
            raise ConnectionFault(CloseReason.HEADERS_TOO_LARGE, message) from error
        except HPACKError as error:
            raise ConnectionFault(CloseReason.COMPRESSION_ERROR, "a header block that HPACK can't decode") from error
        finally:
            if changes != self._table.changes:
                self._clear_cache()
        self.cost += len(fields)
        return fields

    def _decode_indexed(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Look up the leading fields that are an index of one byte (RFC 7541, section 6.1): most of a steady client's block."""
        fields: list[tuple[bytes, bytes]] = []
        entry = self._table.get_by_index
        for byte in block[: self._max_fields]:
            if not _INDEXED < byte < _LONG_INDEX:
                break
            fields.append(entry(byte - _INDEXED))
        return fields


def encode(fields: Fields) -> bytes:
    """Encode fields with the static table and unindexed literals, so that equal fields always give equal bytes.

    Args:
        fields: Names in lower case, and values.
    """
    block = bytearray()
    for name, value in fields:
        if index := _STATIC.get((name, value)):
            block += _encode_integer(index, 7, 0x80)
            continue
        if index := _STATIC_NAMES.get(name):
            block += _encode_integer(index, 4, 0)
        else:
            block += b"\x00" + _encode_integer(len(name), 7, 0) + name
        block += _encode_integer(len(value), 7, 0) + value
    return bytes(block)


def _encode_integer(number: int, prefix_bits: int, pattern: int) -> bytes:
    encoded = encode_integer(number, prefix_bits)
    encoded[0] |= pattern
    return bytes(encoded)
