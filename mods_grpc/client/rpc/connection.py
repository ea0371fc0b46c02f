"""The connection of a client to its server: one channel for all calls, and a new one when an answer is overdue.

A connection that is lost without a word, as when a router forgets it or a standby takes over the address, looks like a slow
server: nothing fails until TCP gives up after a quarter of an hour, and a channel stays with its connection until then. So an
overdue answer is taken for a lost connection: further calls use a new channel, which resolves the name and connects again. Those
in progress stay where they are, because perhaps only that one answer is late, and the old channel is closed after the last.
"""

import logging
import threading
import time

import grpc

from mods_grpc.client.rpc.channel import open_channel
from mods_grpc.client.rpc.stubs import make_inference_stub, make_model_stub
from mods_grpc.errors import ConnectionFailedError

# Bounds on the time for an attempt to connect, which is else the time for an answer: a longer one would delay an answer that is
# overdue already, and a very short one would never suffice for a handshake over a long distance.
MIN_CONNECT_SECONDS = 2.0
MAX_CONNECT_SECONDS = 5.0

logger = logging.getLogger(__name__)


class SharedChannel:
    """A channel, and what is known of its connection.

    Args:
        channel: The channel.

    Attributes:
        inference, models: The stubs of the services.
        calls: Number of calls in progress.
        opened_at: When it was opened, on the monotonic clock.
        answered_at: When the last answer came; None before the first.
        overdue_since: When the request was sent whose overdue answer had the channel replaced; None if it was not replaced.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.inference = make_inference_stub(channel)
        self.models = make_model_stub(channel)
        self.calls = 0
        self.opened_at = time.monotonic()
        self.answered_at: float | None = None
        self.overdue_since: float | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it was replaced, and nothing has come over it since the overdue answer was asked for."""
        if self.overdue_since is None:
            return False
        return self.answered_at is None or self.answered_at < self.overdue_since

    def close(self) -> None:
        """Close the connection. Calls in progress are cancelled."""
        self._channel.close()


class Connection:
    """The channel that the calls of a client share. May be used by several threads.

    Args:
        address: host:port, `unix:/path` or any other gRPC target.
        credentials: TLS credentials; None for a connection without TLS.
        answer_seconds: Time limit for an answer.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None, answer_seconds: float) -> None:
        self.address = address
        self._credentials = credentials
        self._connect_seconds = min(max(answer_seconds, MIN_CONNECT_SECONDS), MAX_CONNECT_SECONDS)
        self._lock = threading.Lock()
        self._closed = False
        self._replaced: set[SharedChannel] = set()  # with calls in progress
        self._current = self._open()

    def acquire(self) -> SharedChannel:
        """Return the channel for a call, which must be released when the call has ended.

        Raises:
            ConnectionFailedError: The client was closed.
        """
        with self._lock:
            if self._closed:
                raise ConnectionFailedError("the client was closed")
            self._current.calls += 1
            return self._current

    def release(self, channel: SharedChannel) -> None:
        """End the use of a channel by one call. Do not call it from a callback of gRPC: it may close the channel."""
        with self._lock:
            channel.calls -= 1
            if channel.calls or channel not in self._replaced:
                return
            self._replaced.remove(channel)
        channel.close()

    def replace(self, channel: SharedChannel, asked_at: float) -> None:
        """Have further calls use a new channel, unless they do already or this one is still connecting.

        Args:
            channel: The channel of the call whose answer is overdue, not yet released.
            asked_at: When the request was sent, on the monotonic clock.
        """
        with self._lock:
            if self._closed or channel is not self._current:
                return
            if channel.answered_at is None and time.monotonic() - channel.opened_at < self._connect_seconds:
                return
            channel.overdue_since = asked_at
            self._replaced.add(channel)
            self._current = self._open()
        logger.info("connection_replaced", extra={"address": self.address})

    def close(self) -> None:
        """Close all channels. Calls in progress are cancelled."""
        with self._lock:
            self._closed = True
            channels = (self._current, *self._replaced)
        for channel in channels:
            channel.close()

    def _open(self) -> SharedChannel:
        return SharedChannel(open_channel(self.address, self._credentials, self._connect_seconds))
