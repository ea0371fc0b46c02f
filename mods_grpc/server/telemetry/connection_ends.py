"""Counts and logs what the direct transport ends: connections that close or are refused, streams that are reset."""

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter

from mods_grpc.transport.http2.errors import CloseReason, ResetReason

LOG_SECONDS = 10.0

logger = logging.getLogger(__name__)


class ConnectionEnds:
    """Learns of every end, see `EndObserver`.

    Each is counted by its reason. Those that do not belong to normal operation are logged, at most one of a kind in
    `LOG_SECONDS`, since a peer decides how many there are; `more` of a line says how many were left out since the last one.

    Args:
        registry: Where the counters are registered.
        clock: Returns seconds.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        closed = Counter("mods_connections_closed", "Connections ended or refused, by reason.", ("reason",), registry=registry)
        reset = Counter("mods_streams_reset", "Streams reset, by reason.", ("reason",), registry=registry)
        self._closed = {reason: closed.labels(reason) for reason in CloseReason}
        self._reset = {reason: reset.labels(reason) for reason in ResetReason}
        self._clock = clock
        self._logged_at: dict[tuple[str, str], float] = {}
        self._unlogged: Tally[tuple[str, str]] = Tally()

    def on_close(self, peer: str, reason: CloseReason, detail: str) -> None:
        """Count and log a connection that ended or was refused."""
        self._closed[reason].inc()
        if not reason.is_ordinary:
            self._log("connection_closed", peer, reason, detail)

    def on_reset(self, peer: str, reason: ResetReason, detail: str) -> None:
        """Count and log a stream that was reset."""
        self._reset[reason].inc()
        if not reason.is_ordinary:
            self._log("stream_reset", peer, reason, detail)

    def _log(self, event: str, peer: str, reason: str, detail: str) -> None:
        now, kind = self._clock(), (event, reason)
        if now - self._logged_at.get(kind, -LOG_SECONDS) < LOG_SECONDS:
            self._unlogged[kind] += 1
            return
        self._logged_at[kind] = now
        fields = {"peer": peer, "reason": reason, "detail": detail, "more": self._unlogged.pop(kind, 0)}
        logger.warning(event, extra=fields)
