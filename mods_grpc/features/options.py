"""How records become windows: said once for batch and live."""

from dataclasses import dataclass
from math import gcd
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features.distinct_count import DEFAULT_LIMIT
from mods_grpc.features.locality import GroupBy, parse_networks


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregatorOptions:
    """Windows, series and limits.

    A window is `[start, start + window)` of event time; starts lie on the multiples of the slide since 1970.

    Attributes:
        window_seconds: Length of a window.
        slide_seconds: From one window's start to the next; at most the window.
        group_by: What a series is about.
        local_networks: Our networks in CIDR form; empty leaves it to the log's own flags, then to private addresses.
        begin_ns: Records before it are dropped as late, and no window starts earlier. None is the earliest record.
        quiet_seconds: A series without a record for so long, counted back from a window's end, has no row for that
            window: it is missing, not zero. At least the window.
        distinct_limit: Different values counted exactly, in a slide or a window; more are estimated.
        max_series: Records of series beyond these are dropped and counted.
    """

    window_seconds: int = 3600
    slide_seconds: int = 600
    group_by: GroupBy = GroupBy.SITE
    local_networks: tuple[str, ...] = ()
    begin_ns: int | None = None
    quiet_seconds: int = 86_400
    distinct_limit: int = DEFAULT_LIMIT
    max_series: int = 100_000

    def __post_init__(self) -> None:
        if not 0 < self.slide_seconds <= self.window_seconds:
            raise DataError(
                f"the slide of {self.slide_seconds} s must be above 0 and not above the window of {self.window_seconds} s"
            )
        parse_networks(self.local_networks)

    @property
    def pane_ns(self) -> int:
        """Return the length of the panes that windows are made of: what window and slide are both multiples of."""
        return gcd(self.window_seconds, self.slide_seconds) * NANOS_PER_SECOND

    @property
    def window_panes(self) -> int:
        """Return how many panes a window is."""
        return self.window_seconds * NANOS_PER_SECOND // self.pane_ns

    @property
    def slide_panes(self) -> int:
        """Return how many panes a slide is."""
        return self.slide_seconds * NANOS_PER_SECOND // self.pane_ns

    @property
    def quiet_panes(self) -> int:
        """Return after how many panes without a record a series is missing."""
        return -(-max(self.quiet_seconds, self.window_seconds) * NANOS_PER_SECOND // self.pane_ns)

    @property
    def windowing(self) -> dict[str, Any]:
        """Return what a saved state depends on, for JSON."""
        return {
            "window_seconds": self.window_seconds,
            "slide_seconds": self.slide_seconds,
            "group_by": str(self.group_by),
            "local_networks": list(self.local_networks),
            "distinct_limit": self.distinct_limit,
        }
