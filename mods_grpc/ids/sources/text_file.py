"""Reads the text of a log file, plain or compressed, up to the first damage; a bounded number of files is open at a time.

    with TextFile(path) as file:
        for line in file: ...
        if file.damage: ...

The compression is recognised by the first bytes, not by the name. A file may consist of several compressed members.
"""

import bz2
import io
import lzma
import os
import resource
import sys
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

MAX_OPEN_FILES = 256
MIN_BUFFER_BYTES, MAX_BUFFER_BYTES = 1 << 13, 1 << 17
MAX_BUFFERS_BYTES = 32 << 20  # shared by all files that are read at once
_MAX_XZ_BYTES = 512 << 20  # memory for the dictionary of an xz file
_SKIPPABLE = tuple(bytes([0x50 + number, 0x2A, 0x4D, 0x18]) for number in range(16))  # of lz4 and zstd
_SKIPPABLE_HEADER_BYTES = 8
_TAR_HEADER_BYTES, _TAR_MAGIC_AT = 512, 257


class UnsupportedCompressionError(OSError):
    """A compression that can't be read. `remedy` says what to do about it."""

    def __init__(self, compression: str, remedy: str) -> None:
        super().__init__(f"{compression}: {remedy}")
        self.compression, self.remedy = compression, remedy


class Decompressor(Protocol):
    """The interface of the decompressors of the standard library: of one member of a file."""

    @property
    def eof(self) -> bool:
        """Whether the end of the member was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether there is no more output without more input."""

    @property
    def unused_data(self) -> bytes:
        """Input after the end of the member."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most `max_length` bytes of output; the rest follows on the next call."""


class _GzipDecompressor:
    """Gives zlib's decompressor the interface of the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        data = self._inflate.unconsumed_tail + data
        text = self._inflate.decompress(data, max_length)
        # a full output may leave more of it in the decompressor, even when all input is consumed
        self.needs_input = not self._inflate.unconsumed_tail and len(text) < max_length
        return text


@dataclass(frozen=True, slots=True)
class Compression:
    """A way of compressing. `magic` are the first bytes of a member, `skippable` those of a part without text."""

    name: str
    suffixes: tuple[str, ...]
    magic: bytes
    make: Callable[[], Decompressor] | None
    remedy: str = ""
    skippable: tuple[bytes, ...] = ()


def _import_zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415
    else:
        from backports import zstd  # noqa: PLC0415 - the base install has neither it nor lz4
    return zstd


def _make_zstd() -> Decompressor:
    return cast(Decompressor, _import_zstd().ZstdDecompressor())


def _make_lz4() -> Decompressor:
    from lz4.frame import LZ4FrameDecompressor  # noqa: PLC0415

    return cast(Decompressor, LZ4FrameDecompressor())


_INSTALL = "pip install 'mods-grpc[ids]'"
_UNPACK = "unpack it first"
COMPRESSIONS = (
    Compression("gzip", (".gz",), b"\x1f\x8b", _GzipDecompressor),
    Compression("zstd", (".zst", ".zstd"), b"\x28\xb5\x2f\xfd", _make_zstd, _INSTALL, skippable=_SKIPPABLE),
    Compression("xz", (".xz",), b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_BYTES)),
    Compression("bzip2", (".bz2",), b"BZh", bz2.BZ2Decompressor),
    Compression("lz4", (".lz4",), b"\x04\x22\x4d\x18", _make_lz4, _INSTALL, skippable=_SKIPPABLE),
    Compression("lz4 of the old format", (), b"\x02\x21\x4c\x18", None, _UNPACK),
    Compression("compress", (".Z",), b"\x1f\x9d", None, _UNPACK),
    Compression("zip", (".zip",), b"PK\x03\x04", None, _UNPACK),
    Compression("7z", (".7z",), b"7z\xbc\xaf\x27\x1c", None, _UNPACK),
    Compression("lzip", (".lz",), b"LZIP", None, _UNPACK),
    Compression("lzop", (".lzo",), b"\x89LZO", None, _UNPACK),
    Compression("snappy", (".sz", ".snappy"), b"\xff\x06\x00\x00sNaPpY", None, _UNPACK),
)
SUFFIXES = tuple(suffix for compression in COMPRESSIONS for suffix in compression.suffixes)
_MAX_MAGIC_BYTES = max(len(compression.magic) for compression in COMPRESSIONS)


class _Descriptors:
    """The descriptors of the files that are read; the one used the longest time ago is closed when there are too many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[_RawFile, int] = OrderedDict()
        self._pinned: dict[_RawFile, int] = {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_open = MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else max(4, min(MAX_OPEN_FILES, soft // 4))
        self.readers = 0  # files that are being read, open at the moment or not

    @property
    def buffer_bytes(self) -> int:
        """Size of the buffer of one more file."""
        return max(MIN_BUFFER_BYTES, min(MAX_BUFFER_BYTES, MAX_BUFFERS_BYTES // max(1, self.readers)))

    def read(self, file: "_RawFile", size: int, offset: int) -> bytes:
        with self._lock:
            return os.pread(self._get(file), size, offset)

    def read_into(self, file: "_RawFile", buffer: memoryview, offset: int) -> int:
        with self._lock:
            return os.preadv(self._get(file), [buffer], offset)

    def get(self, file: "_RawFile") -> int:
        with self._lock:
            return self._get(file)

    def _get(self, file: "_RawFile") -> int:
        descriptor = self._pinned.get(file)
        if descriptor is not None:
            return descriptor
        descriptor = self._open.get(file)
        if descriptor is not None:
            self._open.move_to_end(file)
            return descriptor
        descriptor = file.open()
        if file.keep_open:
            self._pinned[file] = descriptor
            return descriptor
        self._open[file] = descriptor
        while len(self._open) > self._max_open:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        return descriptor

    def close(self, file: "_RawFile") -> None:
        with self._lock:
            for descriptor in (self._open.pop(file, None), self._pinned.pop(file, None)):
                if descriptor is not None:
                    os.close(descriptor)


_descriptors = _Descriptors()


class _RawFile:
    """The bytes of a file, opened again when they are needed after the descriptor was closed."""

    def __init__(self, path: Path, *, keep_open: bool) -> None:
        self.path, self.keep_open = path, keep_open
        self._identity: tuple[int, int] | None = None

    def open(self) -> int:
        # without O_NONBLOCK, opening a named pipe that nobody writes to never ends
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        identity = status.st_dev, status.st_ino
        if self._identity is not None and identity != self._identity:
            os.close(descriptor)
            raise OSError(f"{self.path}: replaced by another file while it was read")
        self._identity = identity
        return descriptor


class _PlainText(io.RawIOBase):
    """The text of a file that is not compressed."""

    is_plain = True

    def __init__(self, file: _RawFile) -> None:
        self._file = file
        self.damage: str | None = None
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _descriptors.get(self._file)

    def readinto(self, buffer: Any) -> int:
        try:
            size = _descriptors.read_into(self._file, memoryview(buffer).cast("B"), self.bytes_read)
        except OSError as error:
            self.damage = error.strerror or str(error)
            return 0
        self.bytes_read += size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += os.fstat(self.fileno()).st_size
        self.bytes_read = max(0, self.bytes_read + offset if whence == os.SEEK_CUR else offset)
        return self.bytes_read

    def close(self) -> None:
        if not self.closed:
            _close(self._file)
        super().close()


class _CompressedText(io.RawIOBase):
    """The text of a compressed file, up to its end or the first damage.

    A decompressor that fails withholds what it could still read. So the file is then read again, byte by byte where it failed.
    """

    is_plain = False

    def __init__(self, file: _RawFile, compression: Compression) -> None:
        assert compression.make is not None
        self._file, self._compression, self._make = file, compression, compression.make
        self._chunk_bytes = _descriptors.buffer_bytes // 2
        self.damage: str | None = None
        self._rewind()

    def _rewind(self, failures: int = 0, careful_from: int = 0) -> None:
        self._decompressor = self._make()
        self._input = b""
        self._is_in_member = self._is_at_end = False
        self._position = 0
        self.bytes_read = self._chunk_start = 0
        self._failures, self._careful_from = failures, careful_from

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        text = self._read(len(buffer))
        buffer[: len(text)] = text
        return len(text)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position, to the end of the readable text at most."""
        if whence == os.SEEK_END:
            raise io.UnsupportedOperation("the length of compressed text is unknown")
        target = self._position + offset if whence == os.SEEK_CUR else offset
        if target < self._position:
            self._rewind()
        self._skip_to(target)
        return self._position

    def close(self) -> None:
        if not self.closed:
            _close(self._file)
        super().close()

    def _skip_to(self, target: int) -> None:
        while self._position < target and self._read(min(target - self._position, MAX_BUFFER_BYTES)):
            pass

    def _read(self, size: int) -> bytes:
        """Return some of the text, at most `size` bytes; empty at its end."""
        while not self._is_at_end:
            try:
                text = self._decompress(size)
            except _damage_errors() as error:
                self._go_back(error)
                continue
            self._position += len(text)
            if text:
                return text
        return b""

    def _decompress(self, size: int) -> bytes:
        """Return some of the text or none, if that needs more input."""
        if not self._is_in_member:
            self._start_member()
            return b""
        data = b""
        if self._decompressor.needs_input:
            data, self._input = self._input or self._read_chunk(), b""
            if not data:
                self._end("cut off")
                return b""
        is_at_failure = self._failures > 1 and self.bytes_read > self._careful_from
        text = self._decompressor.decompress(data, 1 if is_at_failure else size)
        if self._decompressor.eof:
            self._input = self._decompressor.unused_data or b""
            self._is_in_member = False
        return text

    def _start_member(self) -> None:
        is_first = not self._position
        while len(self._input) < _MAX_MAGIC_BYTES and (chunk := self._read_chunk()):
            self._input = self._input + chunk if is_first else (self._input + chunk).lstrip(b"\0")
        if not is_first:
            self._input = self._input.lstrip(b"\0")  # padding
        if self._input.startswith(self._compression.magic):
            self._decompressor = self._make()
            self._is_in_member = True
        elif self._input.startswith(self._compression.skippable):
            self._skip_part()
        else:
            self._end(("cut off" if is_first else "not compressed data at the end") if self._input else None)

    def _skip_part(self) -> None:
        left = _SKIPPABLE_HEADER_BYTES + int.from_bytes(self._input[4:_SKIPPABLE_HEADER_BYTES], "little")
        while len(self._input) < left and (chunk := self._read_chunk()):
            left -= len(self._input)
            self._input = chunk
        self._input = self._input[left:]

    def _read_chunk(self) -> bytes:
        size = self._chunk_bytes
        if self._failures:
            size = max(1, min(size, self._careful_from - self.bytes_read))
        data = _descriptors.read(self._file, size, self.bytes_read)
        self._chunk_start = self.bytes_read
        self.bytes_read += len(data)
        return data

    def _go_back(self, error: Exception) -> None:
        """Return to the position before a failure, to read on with more care; after the second time, end there."""
        if self._failures > 1:
            self._end(str(error))
            return
        position = self._position
        self._rewind(self._failures + 1, self._chunk_start)
        self._skip_to(position)

    def _end(self, damage: str | None) -> None:
        self._is_at_end, self.damage = True, damage


class TextFile(io.BufferedReader):
    """The text of a file, from which all is read that comes before the first damage.

    Args:
        path: The file.
        keep_open: Whether it must stay open until it is closed, so that it can be read after it was renamed or deleted.
        buffer_bytes: Size of the buffer; None for one that fits the number of files that are being read.

    Raises:
        UnsupportedCompressionError: It is compressed in a way that can't be read.
        OSError: It can't be opened.
    """

    raw: "_PlainText | _CompressedText"

    def __init__(self, path: Path, *, keep_open: bool = False, buffer_bytes: int | None = None) -> None:
        file = _RawFile(path, keep_open=keep_open)
        _descriptors.readers += 1
        try:
            compression = _find_compression(file)
            raw = _PlainText(file) if compression is None else _CompressedText(file, compression)
        except BaseException:
            _close(file)
            raise
        super().__init__(raw, buffer_bytes or _descriptors.buffer_bytes)

    @property
    def is_plain(self) -> bool:
        """Whether the file is not compressed."""
        return self.raw.is_plain

    @property
    def damage(self) -> str | None:
        """What ended the text early; None as long as nothing did."""
        return self.raw.damage

    @property
    def bytes_read(self) -> int:
        """Number of bytes of the file, not of its text, that were read."""
        return self.raw.bytes_read


def open_log(path: Path) -> TextFile:
    """Open a file for reading, decompressed; see `TextFile`."""
    return TextFile(path)


def check_compression(path: Path) -> None:
    """Check that the text of a file can be read.

    Raises:
        UnsupportedCompressionError: It is compressed in a way that can't be read, or an archive of files.
        OSError: It can't be opened.
    """
    with open_log(path) as file:
        if file.read(_TAR_HEADER_BYTES)[_TAR_MAGIC_AT:].startswith(b"ustar"):
            raise UnsupportedCompressionError("tar", "unpack it first")


def _close(file: _RawFile) -> None:
    _descriptors.readers -= 1
    _descriptors.close(file)


@lru_cache(maxsize=1)
def _damage_errors() -> tuple[type[Exception], ...]:
    errors = [OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError]
    with suppress(ImportError):
        errors.append(_import_zstd().ZstdError)
    return tuple(errors)


def _find_compression(file: _RawFile) -> Compression | None:
    """Return the compression of a file by its first bytes; None if it is plain.

    Raises:
        UnsupportedCompressionError: It can't be read.
    """
    head, offset = _descriptors.read(file, _MAX_MAGIC_BYTES, 0), 0
    while head.startswith(_SKIPPABLE) and len(head) >= _SKIPPABLE_HEADER_BYTES:
        offset += _SKIPPABLE_HEADER_BYTES + int.from_bytes(head[4:_SKIPPABLE_HEADER_BYTES], "little")
        head = _descriptors.read(file, _MAX_MAGIC_BYTES, offset)
    for compression in COMPRESSIONS:
        is_cut = head and file.path.name.endswith(compression.suffixes) and compression.magic.startswith(head)
        if not head.startswith(compression.magic) and not is_cut:
            continue
        if compression.make is None:
            raise UnsupportedCompressionError(compression.name, compression.remedy)
        try:
            compression.make()
        except ImportError:
            raise UnsupportedCompressionError(compression.name, compression.remedy) from None
        return compression
    return None
