"""Finding about the level: p-values that small don't exist, so that no alert can come."""

from collections.abc import Iterator

from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.findings import Finding


class LevelFindings:
    """Compares the level that raises an alert with the smallest p-value that the model's calibration can give."""

    def __init__(self) -> None:
        self._level = self._smallest_p = 0.0

    def observe(self, level: float, smallest_p: float) -> None:
        """Take note of the level before adaptation, and of the smallest p-value; 0 if it is not known."""
        self._level, self._smallest_p = level, smallest_p

    def find(self, now_ns: int) -> Iterator[Finding]:
        """Yield the finding if no p-value reaches the level.

        Args:
            now_ns: Nanoseconds since 1970.
        """
        if self._smallest_p > self._level:
            yield Finding(
                code=NoticeCode.BUDGET_UNREACHABLE,
                since_ns=now_ns,
                message=f"an alert takes a p-value of {self._level:.2g} or less, and the smallest that the model's calibration "
                f"can give is {self._smallest_p:.2g}, but for values far above the training range",
                hint="allow more false alarms (--false-alarms-per-day), or calibrate the model on more rows",
            )
