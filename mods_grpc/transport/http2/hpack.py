"""Header blocks: requests decoded with HPACK's state, answers encoded without any (RFC 7541)."""

from hpack.exceptions import HPACKDecodingError, HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder, encode_integer
from hpack.table import HeaderTable, table_entry_size

from mods_grpc.transport.http2.errors import Code, ConnectionFault
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.request_fields import Fields, RequestHead

HARD_LIMIT = 2  # times max_header_list
_RESIZINGS = 2  # at most, at the start of a block (RFC 7541, section 4.2): the smallest size since the last one, and the new
_INDEXED, _LONG_INDEX, _RESIZING = 0x80, 0xFF, 0x20  # first bytes of representations (RFC 7541, section 6)
_CACHED = 16_384  # bytes of lists of fields that are kept; what the acceptor made of them may be a few times that
_LARGEST_CACHED = 4_096
_STATIC = {entry: index for index, entry in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES = {name: index for (name, _), index in _STATIC.items()}


class _Table(HeaderTable):
    """The dynamic table of a peer, which counts its changes (RFC 7541, section 2.3.2)."""

    changes = 0
    resizings = 0  # in this block

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Largest size of the entries; setting it may drop some."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        self.resizings += 1
        if self.resizings > _RESIZINGS:
            raise HPACKDecodingError("the size of the table changes more often than needed")
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class BlockDecoder:
    """Decodes the header blocks of one connection.

    A steady client sends the same bytes for every call. While a block left the dynamic table as it was, and it is as it was,
    the same bytes mean the same fields: they are looked up.

    Args:
        limits: Largest list of fields.
    """

    __slots__ = ("_decoder", "_heads", "_kept", "_limits", "_most", "_table")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = limits.max_header_fields  # more of them is the business of the decoder, which counts their bytes
        self._decoder = Decoder(limits.max_header_list * HARD_LIMIT)
        self._table = self._decoder.header_table = _Table()
        self._heads: dict[bytes, RequestHead] = {}
        self._kept = 0  # the size of their lists of fields

    def head(self, block: bytes) -> RequestHead:
        """Decode the block that opens a request.

        Raises:
            ConnectionFault: The block can't be decoded, or is far too large: the compression state is lost.
            MalformedError: The fields are no request; the state stands.
        """
        head = self._heads.get(block)
        if head is None:
            head = self._new_head(block)
        return head

    def _new_head(self, block: bytes) -> RequestHead:
        before = self._table.changes
        fields = self.fields(block)
        limits = self._limits
        size = sum(table_entry_size(name, value) for name, value in fields)
        head = RequestHead(fields, oversized=size > limits.max_header_list or len(fields) > limits.max_header_fields)
        if before == self._table.changes and size <= _LARGEST_CACHED:
            self._keep(block, head, size)
        return head

    def _keep(self, block: bytes, head: RequestHead, size: int) -> None:
        if self._kept + size > _CACHED:
            self._forget()
        self._heads[block] = head
        self._kept += size

    def _forget(self) -> None:
        self._heads.clear()
        self._kept = 0

    def fields(self, block: bytes) -> Fields:
        """Decode a block that opens no request.

        Raises:
            ConnectionFault: The block can't be decoded.
        """
        before, self._table.resizings = self._table.changes, 0
        try:
            known = self._known(block)
            rest = block[len(known) :]
            if known and rest and rest[0] & 0xE0 == _RESIZING:
                raise HPACKDecodingError("the size of the table changes after a field")
            return (*known, *self._decoder.decode(rest, raw=True)) if rest else tuple(known)
        except OversizedHeaderListError as error:
            text = f"a header list above {self._decoder.max_header_list_size} bytes"
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, text) from error
        except HPACKError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block that HPACK can't decode") from error
        finally:
            if before != self._table.changes:
                self._forget()

    def _known(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Look up the leading fields that are an index of one byte (RFC 7541, section 6.1): most of a steady client's block."""
        known: list[tuple[bytes, bytes]] = []
        entry = self._table.get_by_index
        for byte in block[: self._most]:
            if not _INDEXED < byte < _LONG_INDEX:
                break
            known.append(entry(byte - _INDEXED))
        return known


def encode(fields: Fields) -> bytes:
    """Encode fields by the static table and literals that are not indexed, so that the same fields are always the same bytes.

    Args:
        fields: Names in lower case, and values.
    """
    block = bytearray()
    for name, value in fields:
        if index := _STATIC.get((name, value)):
            block += _integer(index, 7, 0x80)
            continue
        if index := _STATIC_NAMES.get(name):
            block += _integer(index, 4, 0)
        else:
            block += b"\x00" + _integer(len(name), 7, 0) + name
        block += _integer(len(value), 7, 0) + value
    return bytes(block)


def _integer(number: int, prefix_bits: int, pattern: int) -> bytes:
    encoded = encode_integer(number, prefix_bits)
    encoded[0] |= pattern
    return bytes(encoded)
