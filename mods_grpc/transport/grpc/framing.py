"""Length-prefixed messages: a flag, four bytes of length, the message."""

import grpc

from mods_grpc.transport.grpc.request_metadata import RejectedRequestError

PREFIX_BYTES = 5


class MessageBuffer:
    """Received bytes of a stream that were not read yet; they are split into messages on demand.

    Args:
        limit: Largest accepted message, bytes.
        encoding: grpc-encoding of the request; None if the client named none.
    """

    __slots__ = ("_bytes", "_encoding", "_limit")

    def __init__(self, limit: int, encoding: str | None) -> None:
        self._limit = limit
        self._encoding = encoding
        self._bytes = bytearray()

    def __len__(self) -> int:
        """Return the number of buffered bytes."""
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """Append received bytes."""
        self._bytes += data

    def clear(self) -> None:
        """Drop all bytes."""
        self._bytes.clear()

    def single_message(self, data: bytes) -> bytes | None:
        """Return the message if `data` is exactly one and nothing is buffered; None otherwise."""
        if not self._bytes and len(data) >= PREFIX_BYTES and not data[0]:
            length = int.from_bytes(data[1:PREFIX_BYTES])
            if length + PREFIX_BYTES == len(data) and length <= self._limit:
                return data[PREFIX_BYTES:]
        return None

    def peek_end(self) -> int | None:
        """Return where the next message ends in the buffer; None before its prefix is complete.

        Raises:
            RejectedRequestError: It exceeds the limit, or is compressed.
        """
        buffered = self._bytes
        if len(buffered) < PREFIX_BYTES:
            return None
        if buffered[0]:
            raise self._compressed(buffered[0])
        length = int.from_bytes(buffered[1:PREFIX_BYTES])
        if length > self._limit:
            details = f"received a message of {length} bytes, expected at most {self._limit}"
            raise RejectedRequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
        return PREFIX_BYTES + length

    def pop(self) -> bytes | None:
        """Remove and return the next message; None if it is not complete.

        Raises:
            RejectedRequestError: As `peek_end`.
        """
        buffered, end = self._bytes, self.peek_end()
        if end is None or len(buffered) < end:
            return None
        with memoryview(buffered) as view:
            message = bytes(view[PREFIX_BYTES:end])
        del buffered[:end]
        return message

    def _compressed(self, flag: int) -> RejectedRequestError:
        if flag != 1 or self._encoding is None:
            details = "a message is marked as compressed, but there is no grpc-encoding"
            return RejectedRequestError(grpc.StatusCode.INTERNAL, details)
        return RejectedRequestError(grpc.StatusCode.UNIMPLEMENTED, "compressed messages are not supported")


def frame_message(message: bytes) -> bytes:
    """Return the message with its prefix."""
    return b"\0" + len(message).to_bytes(4) + message
