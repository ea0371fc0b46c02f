"""How far event time has come: the largest time seen, less what records may be late."""

from mods_grpc.features.options import SECOND

DEFAULT_LATENESS_SECONDS = 300
JUMP_SECONDS = 3_600
CONFIRMATIONS = 32


class Watermark:
    """Follows event time; one record from the future does not carry it away.

    A record more than an hour ahead moves it only once 32 records in all have been so far ahead: then time has moved,
    as it does after a pause, and not one clock gone wrong.

    Args:
        lateness_seconds: How much older than the newest record a record may be.
    """

    def __init__(self, lateness_seconds: float = DEFAULT_LATENESS_SECONDS) -> None:
        self._lateness_ns = round(lateness_seconds * SECOND)
        self._newest: int | None = None
        self._ahead: list[int] = []

    def observe(self, ts: int) -> None:
        """Take notice of a record's time, nanoseconds since 1970."""
        if self._newest is None:
            self._newest = ts
        elif ts - self._newest <= JUMP_SECONDS * SECOND:
            self._newest = max(self._newest, ts)
        else:
            self._ahead.append(ts)
            if len(self._ahead) >= CONFIRMATIONS:
                self._newest = min(self._ahead)
                self._ahead = [later for later in self._ahead if later - self._newest > JUMP_SECONDS * SECOND]

    @property
    def ns(self) -> int | None:
        """Return the watermark in nanoseconds since 1970; None before the first record."""
        return None if self._newest is None else self._newest - self._lateness_ns
