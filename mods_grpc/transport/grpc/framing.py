"""Messages in the bytes of a stream: a flag, four bytes of length, the message."""

import grpc

from mods_grpc.transport.grpc.request_metadata import RefusedError

PREFIX_BYTES = 5


class MessageBuffer:
    """Bytes of a stream that were not read yet. They stay as they came until a message is asked for.

    Args:
        limit: Bytes of the largest message that is taken.
        encoding: What the client says compressed messages are; None where it says nothing.
    """

    __slots__ = ("_bytes", "_encoding", "_limit")

    def __init__(self, limit: int, encoding: str | None) -> None:
        self._limit = limit
        self._encoding = encoding
        self._bytes = bytearray()

    def __len__(self) -> int:
        """Return how many bytes are held."""
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """Take what has come."""
        self._bytes += data

    def clear(self) -> None:
        """Let go of everything that was not read."""
        self._bytes.clear()

    def only(self, data: bytes) -> bytes | None:
        """Return the message that these bytes are from end to end; None where they are not, or others came before."""
        if not self._bytes and len(data) >= PREFIX_BYTES and not data[0]:
            length = int.from_bytes(data[1:PREFIX_BYTES])
            if length + PREFIX_BYTES == len(data) and length <= self._limit:
                return data[PREFIX_BYTES:]
        return None

    def look(self) -> int | None:
        """Return where the next message ends; None where that is not known yet.

        Raises:
            RefusedError: It is larger than the limit, or compressed.
        """
        held = self._bytes
        if len(held) < PREFIX_BYTES:
            return None
        if held[0]:
            raise self._compressed(held[0])
        length = int.from_bytes(held[1:PREFIX_BYTES])
        if length > self._limit:
            text = f"received a message of {length} bytes, at most {self._limit} are taken"
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        return PREFIX_BYTES + length

    def take(self) -> bytes | None:
        """Take the next message out; None where it is not complete.

        Raises:
            RefusedError: As `look`.
        """
        held, end = self._bytes, self.look()
        if end is None or len(held) < end:
            return None
        with memoryview(held) as view:
            message = bytes(view[PREFIX_BYTES:end])
        del held[:end]
        return message

    def _compressed(self, mark: int) -> RefusedError:
        if mark != 1 or self._encoding is None:
            return RefusedError(grpc.StatusCode.INTERNAL, "a message is marked as compressed, and no grpc-encoding is named")
        return RefusedError(grpc.StatusCode.UNIMPLEMENTED, "compressed messages are not taken; send them as they are")


def framed(message: bytes) -> bytes:
    """Put the prefix before a message."""
    return b"\0" + len(message).to_bytes(4) + message
