"""Rows of the aggregator, and counters of the records it added and dropped."""

from dataclasses import dataclass
from typing import NamedTuple


class AggregateRow(NamedTuple):
    """A complete window of a series.

    Attributes:
        series: Name of the series: `site`, a subnet, an address or a sensor, by `group_by`.
        start_ns: Start of the window, nanoseconds since 1970.
        values: By feature key, such as `conn|in_count_uid`, in the definition's order: counts, sums and distinct values
            of nothing are 0; a mean of nothing is NaN.
    """

    series: str
    start_ns: int
    values: dict[str, float]


@dataclass(kw_only=True, slots=True)
class AggregatorCounters:
    """Numbers of records by what happened to them."""

    added: int = 0
    late: int = 0
    ahead: int = 0  # more than an hour ahead of all others until the end; never counted
    remote: int = 0  # without a local end
    unwanted: int = 0  # of a protocol that no feature uses
    over_series_limit: int = 0
