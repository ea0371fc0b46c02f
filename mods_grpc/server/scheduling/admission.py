"""What the server takes on: messages per second and identity, and a bounded amount of work that waits for a thread."""

import time
from collections import OrderedDict

from mods_grpc.errors import DeadlineError, QuotaError, Reason

MAX_IDENTITIES = 10_000
BURST_SECONDS = 2.0
RETRY_SECONDS = 0.1
SMOOTHING = 0.2  # of the running mean of how long a piece of work takes


class RateLimiter:
    """A token bucket for every identity.

    Args:
        per_second: Messages an identity may send; 0 for no limit. It may be ahead by as many as fit in BURST_SECONDS.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, identity: str) -> None:
        """Count a message.

        Raises:
            QuotaError: RATE_LIMIT, with the time to wait.
        """
        if not self._per_second:
            return
        now = time.monotonic()
        left, since = self._buckets.pop(identity, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        if left < 1:
            self._buckets[identity] = (left, now)
            text = f"more than {self._per_second:g} messages a second"
            wait = (1 - left) / self._per_second
            raise QuotaError(Reason.RATE_LIMIT, text, limit=f"{self._per_second:g}", retry_seconds=wait)
        self._buckets[identity] = (left - 1, now)
        while len(self._buckets) > MAX_IDENTITIES:
            self._buckets.popitem(last=False)


class AdmissionQueue:
    """Work that waits for a thread, and how long it is likely to wait.

    Args:
        most: Pieces that may wait or run.
        threads: Threads that run them.

    Attributes:
        pending: Pieces that wait or run.
    """

    def __init__(self, max_pending: int, threads: int) -> None:
        self.pending = 0
        self._max_pending = max_pending
        self._threads = threads
        self._mean_seconds = 0.0

    def admit(self, seconds_left: float | None) -> None:
        """Take a piece of work on.

        Args:
            seconds_left: Time until the caller's deadline; None where there is none.

        Raises:
            QuotaError: OVERLOADED, too much waits already.
            DeadlineError: DEADLINE_TOO_SHORT, it would not be done in time.
        """
        if self.pending >= self._max_pending:
            text = f"{self.pending} requests wait or run, the most allowed"
            raise QuotaError(Reason.OVERLOADED, text, limit=self._max_pending, actual=self.pending, retry_seconds=RETRY_SECONDS)
        expected = self._mean_seconds * (1 + self.pending / self._threads)
        if seconds_left is not None and seconds_left < expected:
            text = f"the answer takes about {expected:.3f} s, the deadline leaves {max(0.0, seconds_left):.3f} s"
            self._mean_seconds *= 1 - SMOOTHING  # or one slow piece would keep all others out for good
            raise DeadlineError(Reason.DEADLINE_TOO_SHORT, text, limit=f"{expected:.3f}", actual=f"{seconds_left:.3f}")
        self.pending += 1

    def done(self, seconds: float | None) -> None:
        """Note that a piece ended; `seconds` is how long it ran, None where it did not run."""
        self.pending -= 1
        if seconds is not None:
            share = SMOOTHING if self._mean_seconds else 1.0
            self._mean_seconds += share * (seconds - self._mean_seconds)
