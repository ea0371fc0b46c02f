"""Counts and logs what the direct transport ends: connections that close or are refused, streams that are reset."""

import collections
import logging
import time
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
        self._logged_at: dict[tuple[type, str], float] = {}
        self._unlogged: collections.Counter[tuple[type, str]] = collections.Counter()

    def on_close(self, peer: str, reason: CloseReason, detail: str) -> None:
        """Count and log a connection that ended or was refused."""
        self._closed[reason].inc()
        if not reason.is_ordinary and self._may_log(reason):
            logger.warning("connection_closed", extra=self._make_fields(peer, reason, detail))

    def on_reset(self, peer: str, reason: ResetReason, detail: str) -> None:
        """Count and log a stream that was reset."""
        self._reset[reason].inc()
        if not reason.is_ordinary and self._may_log(reason):
            logger.warning("stream_reset", extra=self._make_fields(peer, reason, detail))

    def _may_log(self, reason: CloseReason | ResetReason) -> bool:
        now, kind = self._clock(), (type(reason), reason)
        if now - self._logged_at.get(kind, -LOG_SECONDS) < LOG_SECONDS:
            self._unlogged[kind] += 1
            return False
        self._logged_at[kind] = now
        return True

    def _make_fields(self, peer: str, reason: CloseReason | ResetReason, detail: str) -> dict[str, object]:
        more = self._unlogged.pop((type(reason), reason), 0)
        return {"peer": peer, "reason": reason, "detail": detail, "more": more}
