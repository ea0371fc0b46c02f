"""EVE over a unix socket: the listener for Suricata's `filetype: unix_stream` or `unix_dgram`.

A separate thread appends all events to a file, which is then read like any other log. So Suricata never waits, and a watch
that was killed, or that waits for the server, scores everything that was received. Events that Suricata writes while no watch
is running are lost, because the socket has no way to request them again.

The events are on disk when a position is saved and when a file is full. A crash of the machine loses what was received since: the
events of the last seconds, which the position does not cover yet.
"""

import logging
import math
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mods_grpc.atomic_file import sync_folder
from mods_grpc.errors import DataError
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.sources.log_files import LogFile, find_logs
from mods_grpc.ids.sources.position import HEAD_BYTES, FileIdentity, FilePosition, LogPosition
from mods_grpc.ids.sources.text_file import open_log

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 18
MAX_WRITERS = 64
MAX_FILE_BYTES = 64 << 20
MAX_FILES = 64  # of MAX_FILE_BYTES each; bounds how far the reader may fall behind
DRAIN_SECONDS = 1.0  # how long `close` keeps reading at most
LIVE_FILE = "eve.json"
SOCKET_MODE = 0o660  # a process that can write to the socket can raise and hide alerts
_FILE_MODE = 0o600


class EveReceiver:
    """Receives events on a socket and stores them in a folder until they were scored.

    Args:
        path: Path of the socket. A socket left there from before is replaced, anything else is not.
        folder: Folder for the events: `eve.json`, and numbered files before it. Created if needed.
        datagram: Whether each datagram is an event, instead of each line.
        max_file_bytes: Size at which a new file is started.
        max_files: Number of full files stored for the reader; beyond it the oldest is deleted, which is logged.

    Attributes:
        lost: How often events were lost: they could not be stored, or their file was deleted unread.

    Raises:
        DataError: The path is of something other than a socket.
        OSError: The socket or the folder can't be created.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        datagram: bool = False,
        max_file_bytes: int = MAX_FILE_BYTES,
        max_files: int = MAX_FILES,
    ) -> None:
        self._path, self._folder, self._datagram = path, folder, datagram
        self._max_file_bytes, self._max_files = max_file_bytes, max_files
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        self._file_lock = threading.Lock()
        self._is_unwritable = False
        self.lost = 0
        self._listener = _listen(path, datagram=datagram)
        self._unfinished: dict[socket.socket, bytes] = {}
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for source in (self._listener, self._woken):
            self._selector.register(source, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="mods-eve-socket", daemon=True)
        self._thread.start()

    @property
    def start(self) -> LogPosition:
        """Position before the first stored event, for a reader without a position."""
        rotated = _rotated_files(self._folder)
        return LogPosition({"eve": FilePosition(FileIdentity.of(_read_head(rotated[0].path)), 0, TsvHeader())} if rotated else {})

    def sync(self) -> None:
        """Have the events that were received until now on disk, as far as the disk can be written.

        Call it before a position is saved: after a crash of the machine, the position is then within what is there.
        """
        with self._file_lock, suppress(OSError):
            os.fsync(self._file)

    def delete_consumed(self, position: LogPosition) -> None:
        """Delete the files that were read completely, given the reader's position."""
        rotated = _rotated_files(self._folder)
        live = LogFile(path=self._folder / LIVE_FILE, log="eve")
        for place in position.files.values():
            index = _find_file([*rotated, live], place.identity)
            for file in rotated[: index or 0]:
                file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Store what was sent until now, then close and remove the socket."""
        self._waker.close()
        self._thread.join()
        for source in [*self._unfinished, self._listener, self._woken]:
            source.close()
        self._selector.close()
        os.close(self._file)
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        until = math.inf
        while time.monotonic() < until:
            ready = {key.fileobj for key, _ in self._selector.select(timeout=None if until == math.inf else 0)}
            if self._woken in ready and until == math.inf:
                until = time.monotonic() + DRAIN_SECONDS
            if until < math.inf and ready == {self._woken}:
                return
            for source in ready - {self._woken}:
                assert isinstance(source, socket.socket)
                if source is self._listener and not self._datagram:
                    self._accept()
                else:
                    self._read(source)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            writer, _ = self._listener.accept()
            if len(self._unfinished) >= MAX_WRITERS:
                writer.close()
                return
            writer.setblocking(False)
            self._unfinished[writer] = b""
            self._selector.register(writer, selectors.EVENT_READ)

    def _read(self, source: socket.socket) -> None:
        try:
            data = source.recv(MAX_LINE_BYTES + 1 if self._datagram else READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._datagram:
            self._write(data)
            return
        complete, end, unfinished = (self._unfinished[source] + data).rpartition(b"\n")
        self._write(complete + end)
        # one byte above the limit is enough for the parser to reject the line
        self._unfinished[source] = unfinished[: MAX_LINE_BYTES + 1]
        if not data:
            self._selector.unregister(source)
            del self._unfinished[source]
            source.close()
            self._write(unfinished)

    def _write(self, data: bytes) -> None:
        if not data.strip(b"\n"):
            return
        data = data if data.endswith(b"\n") else data + b"\n"
        written = 0
        try:
            if os.fstat(self._file).st_size >= self._max_file_bytes:
                self._rotate()
            while written < len(data):
                written += os.write(self._file, data[written:])
            self._is_unwritable = False
        except OSError as error:
            if torn := written - data.rfind(b"\n", 0, written) - 1:  # the next event would continue it
                os.ftruncate(self._file, os.fstat(self._file).st_size - torn)
            if not self._is_unwritable:
                logger.error(
                    "eve_unwritable", extra={"folder": str(self._folder), "error": str(error), "hint": "events are lost"}
                )
            self._is_unwritable = True
            self.lost += 1

    def _rotate(self) -> None:
        rotated = _rotated_files(self._folder)
        number = 1 + max((int(file.path.stem.rpartition("-")[2]) for file in rotated), default=0)
        with self._file_lock:
            os.fsync(self._file)
            full = (self._folder / LIVE_FILE).rename(self._folder / f"eve-{number:09d}.json")
            try:
                new = self._open()
            except OSError:
                full.rename(self._folder / LIVE_FILE)
                raise
            os.close(self._file)
            self._file = new
        sync_folder(self._folder)
        for file in rotated[: max(0, len(rotated) + 1 - self._max_files)]:
            logger.error("eve_dropped", extra={"file": file.path.name, "hint": "not read in time"})
            file.path.unlink(missing_ok=True)
            self.lost += 1

    def _open(self) -> int:
        file = os.open(self._folder / LIVE_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, _FILE_MODE)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":  # a line cut off when the machine went down
            os.write(file, b"\n")
        return file


def _listen(path: Path, *, datagram: bool) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise DataError(f"{path}: exists and is not a socket")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
    listener.setblocking(False)
    previous_umask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous_umask)
    if not datagram:
        listener.listen(MAX_WRITERS)
    return listener


def _rotated_files(folder: Path) -> list[LogFile]:
    return [file for file in find_logs(folder, (), recursive=False).get("eve", ()) if file.rotated]


def _read_head(path: Path) -> bytes:
    """Return the first bytes of a file's text; empty if it is gone or damaged."""
    try:
        with open_log(path) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _find_file(files: Sequence[LogFile], identity: FileIdentity) -> int | None:
    """Return the index of the newest file that matches an identity; None if none does."""
    for index in reversed(range(len(files))):
        if identity.matches(_read_head(files[index].path)):
            return index
    return None
