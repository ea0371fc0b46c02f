"""A name server on loopback that resolves every name to one IPv4 address, which can be changed."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_TYPE_A = 1


class NameServer:
    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4_096)
            if not query:
                return
            self._socket.sendto(self._answer(query), peer)

    def _answer(self, query: bytes) -> bytes:
        """Return the answer to a query (RFC 1035, section 4.1)."""
        end = query.index(0, 12) + 5  # of the question: a name, which ends with 0, a type and a class
        question = query[12:end]
        answers = b""
        if struct.unpack("!H", question[-4:-2])[0] == _TYPE_A:
            # a pointer to the name in the question; type, class, seconds to live, length
            answers = struct.pack("!HHHIH", 0xC00C, _TYPE_A, 1, 0, 4) + socket.inet_aton(self.address)
        flags = 0x8180  # a response, without an error
        return query[:2] + struct.pack("!HHHHH", flags, 1, 1 if answers else 0, 0, 0) + question + answers


@contextlib.contextmanager
def name_server(address: str) -> Iterator[NameServer]:
    """Run a name server until the context ends."""
    server = NameServer(address)
    try:
        yield server
    finally:
        server.close()
