"""EVE over a unix socket: Suricata's `filetype: unix_stream` or `unix_dgram`, which connects to a socket that we make.

Nothing can be asked for again: what Suricata writes while nobody listens is lost, where a file would keep it.
"""

import os
import selectors
import socket
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mods_grpc.errors import DataError
from mods_grpc.features.records import PROTOCOLS, Record
from mods_grpc.ids.lines import MAX_LINE_BYTES, MalformedLineError, ReadCounters
from mods_grpc.ids.parser import LineParser
from mods_grpc.ids.sources import Position, ignore
from mods_grpc.ids.tail import QUARANTINED_BYTES, Refusal

READ_BYTES = 1 << 16
MOST_WRITERS = 64
MODE = 0o660  # of the socket: who may write to it can raise and hide alerts


class EveSocket:
    """Reads events from all that write to a socket.

    Args:
        path: Where the socket is made; a socket that is left there from before is replaced, anything else is not.
        datagram: Whether each datagram is an event, instead of each line.
        protocols: Which records.
        refuse: Is told of each malformed line.

    Raises:
        DataError: Something else lies there.
        OSError: The socket can't be made.
    """

    def __init__(
        self, path: Path, *, datagram: bool = False, protocols: Collection[str] = PROTOCOLS, refuse: Refusal = ignore
    ) -> None:
        self.counters = ReadCounters()
        self._path = path
        self._refuse = refuse
        self._parser = LineParser("eve.json", frozenset(protocols))
        self._begun: dict[socket.socket, bytes] = {}
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise DataError(f"{path}: is there already and is no socket")
            path.unlink()
        self._selector = selectors.DefaultSelector()
        self._own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
        self._datagram = datagram
        self._own.setblocking(False)
        before = os.umask(0o777 & ~MODE)
        try:
            self._own.bind(str(path))
        finally:
            os.umask(before)
        if not datagram:
            self._own.listen(MOST_WRITERS)
        self._selector.register(self._own, selectors.EVENT_READ)

    def poll(self) -> Iterator[Record]:
        """Yield the records that have come."""
        while ready := self._selector.select(timeout=0):
            for key, _ in ready:
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._own and not self._datagram:
                    self._accept()
                else:
                    yield from self._read(source)

    def position(self) -> Position:
        """Return an empty position: a socket can't be read again."""
        return Position()

    def close(self) -> None:
        """Close the socket and remove it."""
        for source in [*self._begun, self._own]:
            source.close()
        self._selector.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        try:
            writer, _ = self._own.accept()
        except BlockingIOError:
            return
        if len(self._begun) >= MOST_WRITERS:
            writer.close()
            return
        writer.setblocking(False)
        self._begun[writer] = b""
        self._selector.register(writer, selectors.EVENT_READ)

    def _read(self, source: socket.socket) -> Iterator[Record]:
        try:
            text = source.recv(MAX_LINE_BYTES if self._datagram else READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if self._datagram:
            yield from self._parse(text.rstrip(b"\n"))
            return
        *lines, begun = (self._begun[source] + text).split(b"\n")
        for line in lines:
            yield from self._parse(line)
        # of a line that is too long only so much is kept as shows that it is
        self._begun[source] = begun[: MAX_LINE_BYTES + 1]
        if not text:
            self._selector.unregister(source)
            del self._begun[source]
            source.close()
            if begun:
                yield from self._parse(begun)

    def _parse(self, line: bytes) -> Iterator[Record]:
        self.counters.lines += 1
        try:
            record = self._parser.parse(line)
        except MalformedLineError as error:
            self.counters.refuse(error.reason)
            self._refuse(self._path, error.reason, line[:QUARANTINED_BYTES])
            return
        if record is None:
            self.counters.ignored += 1
            return
        self.counters.records += 1
        yield record
