"""Header blocks: requests are decoded with HPACK's dynamic table, responses are encoded without it (RFC 7541)."""

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import encode_integer
from hpack.table import HeaderTable

from mods_grpc.transport.header_compression.decoder import Decoder
from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.request_fields import Fields, RequestFields

HARD_LIMIT_FACTOR = 2  # times max_header_list: a larger block, or a longer list, ends the connection
_MAX_CACHE_BYTES = 16_384  # of cached field lists; what the application parsed from them may be a few times that
_MAX_CACHED_LIST_BYTES = 4_096
_STATIC = {entry: index for index, entry in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES = {name: index for (name, _), index in _STATIC.items()}


class BlockDecoder:
    """Decodes the header blocks of one connection.

    A steady client sends the same bytes for every call. If decoding a block did not change the dynamic table, the same bytes
    mean the same fields until the table changes, so they are cached.

    Args:
        limits: Largest list of fields.

    Attributes:
        cost: Work of decoding so far, in about the time of one ordinary frame. Cached blocks cost nothing.
    """

    __slots__ = ("_cached_bytes", "_decoder", "_limits", "_max_bytes", "_requests", "_table", "cost")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._max_bytes = limits.max_header_list * HARD_LIMIT_FACTOR
        self._decoder = Decoder(self._max_bytes)
        self._table = self._decoder.table
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
        changes, limits = self._table.changes, self._limits
        fields, size = self._decode(block)
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
        return self._decode(block)[0]

    def _decode(self, block: bytes) -> tuple[Fields, int]:
        """Return the fields of a block, and the bytes of their list."""
        if len(block) > self._max_bytes:
            message = f"a header block of {len(block)} bytes, above {self._max_bytes}"
            raise ConnectionFault(CloseReason.HEADERS_TOO_LARGE, message)
        changes = self._table.changes
        try:
            fields, size = self._decoder.decode(block)
        except OversizedHeaderListError as error:
            message = f"a header list above {self._max_bytes} bytes"
            raise ConnectionFault(CloseReason.HEADERS_TOO_LARGE, message) from error
        except HPACKError as error:
            raise ConnectionFault(CloseReason.COMPRESSION_ERROR, "a header block that HPACK can't decode") from error
        finally:
            self.cost = self._decoder.cost
            if changes != self._table.changes:
                self._clear_cache()
        return tuple(fields), size


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


def encode_table_sizes(*sizes: int) -> bytes:
    """Encode changes of the size of the dynamic table, which stand at the start of a block (RFC 7541, section 6.3)."""
    return b"".join(_encode_integer(size, 5, 0x20) for size in sizes)


def _encode_integer(number: int, prefix_bits: int, pattern: int) -> bytes:
    encoded = encode_integer(number, prefix_bits)
    encoded[0] |= pattern
    return bytes(encoded)
