"""Rows of one series whose times repeat: put in order and merged."""

from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats, Times


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DistinctRows:
    """Rows with distinct, ascending times.

    Attributes:
        times: `(n,)`.
        values: `(n, features)`, NaN where missing.
        duplicates: How many rows were merged into another without a contradiction.
        contradictions: How many rows held a value that differed from an earlier row's at the same time.
        repeated: The times that more than one row had, ascending.
    """

    times: Times
    values: Floats
    duplicates: int
    contradictions: int
    repeated: Times


def merge_duplicates(times: Times, values: Floats) -> DistinctRows:
    """Sort rows by time and merge those of the same time.

    A missing cell is completed from the other rows. Cells that contradict each other become missing, because it is not clear
    which of them is right.

    Args:
        times: `(n,)` in any unit and order.
        values: `(n, features)`, NaN where missing.
    """
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    first = np.ones(len(times), dtype=np.bool_)
    first[1:] = times[1:] != times[:-1]
    merged = values[first].copy()
    merged_row = np.cumsum(first) - 1
    contradictory = np.zeros_like(merged, dtype=np.bool_)
    duplicates = contradictions = 0
    for row in np.flatnonzero(~first):
        target = merged_row[row]
        earlier, later = merged[target], values[row]
        differs = np.isfinite(earlier) & np.isfinite(later) & (earlier != later)
        contradictions += bool(differs.any())
        duplicates += not differs.any()
        contradictory[target] |= differs
        merged[target] = np.where(np.isfinite(earlier), earlier, later)
    merged[contradictory] = np.nan
    return DistinctRows(
        times=times[first],
        values=merged,
        duplicates=duplicates,
        contradictions=contradictions,
        repeated=np.unique(times[~first]),
    )
