"""What the aggregator gives: rows, and counters of what it took and dropped."""

from dataclasses import dataclass
from typing import NamedTuple


class AggregateRow(NamedTuple):
    """A complete window of a series.

    Attributes:
        series: What `group_by` makes of the records: `site`, a subnet, an address, a sensor.
        start_ns: Start of the window, nanoseconds since 1970.
        values: By feature key, such as `conn|in_count_uid`, in the definition's order: counts, sums and distinct values
            of nothing are 0; a mean of nothing is NaN.
    """

    series: str
    start_ns: int
    values: dict[str, float]


@dataclass(kw_only=True, slots=True)
class AggregatorCounters:
    """What became of the records given."""

    added: int = 0
    late: int = 0
    ahead: int = 0  # by more than an hour of all others to the end
    remote: int = 0  # neither end is local
    unwanted: int = 0  # of a protocol that no feature needs
    over_series_limit: int = 0
