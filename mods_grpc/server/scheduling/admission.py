"""Admission control: a rate limit per caller and a bounded queue of offloaded work."""

import time
from collections import OrderedDict

from mods_grpc.errors import DeadlineError, QuotaError, Reason

MAX_IDENTITIES = 10_000
BURST_SECONDS = 2.0
RETRY_SECONDS = 0.1
SMOOTHING = 0.2  # weight of the newest duration in the running mean


class RateLimiter:
    """A token bucket per caller.

    Args:
        per_second: Messages per second and caller; 0 for no limit. A burst may use up to BURST_SECONDS worth of messages.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, identity: str) -> None:
        """Take one token from the bucket of `identity`.

        Raises:
            QuotaError: RATE_LIMIT, with the seconds until the next token.
        """
        if not self._per_second:
            return
        now = time.monotonic()
        tokens, refilled_at = self._buckets.pop(identity, (self._burst, now))
        tokens = min(self._burst, tokens + (now - refilled_at) * self._per_second)
        if tokens < 1:
            self._buckets[identity] = (tokens, now)
            message = f"more than {self._per_second:g} messages per second"
            wait = (1 - tokens) / self._per_second
            raise QuotaError(Reason.RATE_LIMIT, message, limit=f"{self._per_second:g}", retry_seconds=wait)
        self._buckets[identity] = (tokens - 1, now)
        while len(self._buckets) > MAX_IDENTITIES:
            self._buckets.popitem(last=False)


class AdmissionQueue:
    """Bounds the jobs that wait for a pool thread or run on one, and estimates their wait.

    Args:
        max_pending: Maximum number of jobs that wait or run.
        threads: Number of pool threads.

    Attributes:
        pending: Jobs that wait or run.
    """

    def __init__(self, max_pending: int, threads: int) -> None:
        self.pending = 0
        self._max_pending = max_pending
        self._threads = threads
        self._mean_seconds = 0.0

    def admit(self, seconds_left: float | None) -> None:
        """Admit one job.

        Args:
            seconds_left: Time until the caller's deadline; None without a deadline.

        Raises:
            QuotaError: OVERLOADED, the queue is full.
            DeadlineError: DEADLINE_TOO_SHORT, the job is not expected to finish in time.
        """
        if self.pending >= self._max_pending:
            message = f"{self.pending} requests wait or run, which is the limit"
            raise QuotaError(
                Reason.OVERLOADED, message, limit=self._max_pending, actual=self.pending, retry_seconds=RETRY_SECONDS
            )
        expected = self._mean_seconds * (1 + self.pending / self._threads)
        if seconds_left is not None and seconds_left < expected:
            message = f"the response takes about {expected:.3f} s, the deadline leaves {max(0.0, seconds_left):.3f} s"
            self._mean_seconds *= 1 - SMOOTHING  # otherwise one slow job could reject all later ones forever
            raise DeadlineError(Reason.DEADLINE_TOO_SHORT, message, limit=f"{expected:.3f}", actual=f"{seconds_left:.3f}")
        self.pending += 1

    def done(self, seconds: float | None) -> None:
        """Record that a job ended; `seconds` is its run time, None if it never ran."""
        self.pending -= 1
        if seconds is not None:
            weight = SMOOTHING if self._mean_seconds else 1.0
            self._mean_seconds += weight * (seconds - self._mean_seconds)
