"""Options of the aggregator, shared by batch and live."""

from dataclasses import dataclass
from math import gcd
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features.distinct_count import DEFAULT_EXACT_LIMIT
from mods_grpc.features.locality import GroupBy, parse_networks


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregatorOptions:
    """Windows, series and limits.

    A window is `[start, start + window)` of event time; starts lie on the multiples of the slide since 1970.

    Attributes:
        window_seconds: Length of a window.
        slide_seconds: From one window's start to the next; at most the window.
        group_by: What a series stands for.
        local_networks: Local networks in CIDR form; if empty, the log's own flags decide, then the private address space.
        begin_ns: Records before it are dropped, and no window starts earlier; None for the time of the earliest record.
        idle_timeout_seconds: A series without a record in this time before a window's end has no row for the window: it is
            missing, not zero. The length of a window is the minimum.
        distinct_limit: Number of different values per pane and per window that is counted exactly; beyond it is estimated.
        max_series: Limit on the number of series; records of further series are dropped and counted.
        with_panes: Whether rows have the panes of their additive features too.
    """

    window_seconds: int = 3600
    slide_seconds: int = 600
    group_by: GroupBy = GroupBy.SITE
    local_networks: tuple[str, ...] = ()
    begin_ns: int | None = None
    idle_timeout_seconds: int = 86_400
    distinct_limit: int = DEFAULT_EXACT_LIMIT
    max_series: int = 100_000
    with_panes: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.slide_seconds <= self.window_seconds:
            raise DataError(
                f"the slide of {self.slide_seconds} s must be above 0 and not above the window of {self.window_seconds} s"
            )
        parse_networks(self.local_networks)

    @property
    def pane_ns(self) -> int:
        """Length of a pane in nanoseconds: the greatest common divisor of window and slide."""
        return gcd(self.window_seconds, self.slide_seconds) * NANOS_PER_SECOND

    @property
    def window_panes(self) -> int:
        """Panes per window."""
        return self.window_seconds * NANOS_PER_SECOND // self.pane_ns

    @property
    def slide_panes(self) -> int:
        """Panes per slide."""
        return self.slide_seconds * NANOS_PER_SECOND // self.pane_ns

    @property
    def has_panes(self) -> bool:
        """Whether rows have panes: they are wanted, and a window is two slides or more, without remainder."""
        return self.with_panes and self.window_seconds > self.slide_seconds and self.window_seconds % self.slide_seconds == 0

    @property
    def idle_timeout_panes(self) -> int:
        """Panes without a record after which a series is missing."""
        return -(-max(self.idle_timeout_seconds, self.window_seconds) * NANOS_PER_SECOND // self.pane_ns)

    @property
    def state_key(self) -> dict[str, Any]:
        """The options that a saved state depends on, as values for JSON."""
        return {
            "window_seconds": self.window_seconds,
            "slide_seconds": self.slide_seconds,
            "group_by": str(self.group_by),
            "local_networks": list(self.local_networks),
            "distinct_limit": self.distinct_limit,
        }
