"""How a connection ends: gracefully, or at once with the reason (RFC 9113, sections 5.4.1 and 6.8)."""

import logging
from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, ConnectionFault

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection

log = logging.getLogger(__name__)

DRAIN_PING = b"go away!"
_MAX_DISCARDED = 1_048_576  # bytes that a peer may send after it was told why it is closed


class Ending:
    """The end of a connection, as far as it has come.

    Args:
        connection: What ends.

    Attributes:
        going: Whether a graceful end has begun: what is open may end.
        closing: Whether nothing more is handled.
    """

    __slots__ = ("_connection", "_discarded", "_last_taken", "closing", "going")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._discarded = 0
        self._last_taken: int | None = None
        self.closing = False
        self.going = False

    def begin(self, code: int) -> None:
        """Tell the peer to open no more streams; those under way are still taken until it has heard that."""
        if self.going or self.closing:
            return
        self.going = True
        self._connection.outbound.write(frames.goaway(frames.MAX_STREAM_ID, code))
        self._connection.outbound.write(frames.ping(DRAIN_PING, ack=False))
        self._connection.vigil.drain()

    def settle(self) -> None:
        """Say which streams are taken, now that the peer has heard of the end."""
        if self.going and self._last_taken is None:
            self._last_taken = self._connection.table.last_id
            self._connection.outbound.write(frames.goaway(self._last_taken, Code.NO_ERROR))
            self.stream_ended()

    def refuses(self, stream_id: int) -> bool:
        """Tell whether a stream comes too late."""
        return self._last_taken is not None and stream_id > self._last_taken

    def stream_ended(self) -> None:
        """Close when the last stream that was taken is gone, on either side."""
        connection = self._connection
        if self._last_taken is not None and not (connection.table.open or connection.unwanted or self.closing):
            self._shut()

    def fail(self, fault: ConnectionFault) -> None:
        """End at once, and tell the peer why."""
        if self.closing:
            return
        connection = self._connection
        log.debug("closing peer=%s code=%s reason=%s", connection.peer, fault.code.name, fault)
        connection.outbound.write(frames.goaway(connection.table.last_id, fault.code))
        self._shut()

    def discard(self, size: int) -> None:
        """Take note of bytes that came too late."""
        self._discarded += size
        if self._discarded > _MAX_DISCARDED:
            self._connection.transport.abort()

    def _shut(self) -> None:
        """Send what is written, then close the socket, and don't wait for ever for a peer that does not read."""
        self.closing = True
        connection = self._connection
        connection.end_streams()
        connection.outbound.close()
        transport = connection.transport
        transport.resume_reading()
        try:
            if transport.can_write_eof():
                transport.write_eof()  # the peer can read why before it sees a reset
            else:
                transport.close()
        except OSError:  # the peer is gone already
            transport.abort()
        connection.vigil.linger()
