"""The episode rule: anomalous rows within a hold-off of each other are one episode.

An anomalous row opens an episode if none is open. The episode stays open for the hold-off after its last anomalous row. The
first row after that ends it; if that row is anomalous itself, it opens the next episode. Windows overlap, so one burst sits in
several rows; the hold-off is as long as the rows that share it.
"""

from datetime import timedelta
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Integers

Duration = TypeVar("Duration", int, timedelta)


class Phase(IntEnum):
    """The place of a row in an episode. A row that is STARTED ends an earlier episode whose hold-off is over."""

    NONE = 0
    STARTED = 1
    ONGOING = 2
    ENDED = 3


def next_phase(since_anomalous: Duration | None, holdoff: Duration, *, anomalous: bool) -> Phase:
    """Return the phase of a row.

    Args:
        since_anomalous: Time from the last anomalous row of the open episode to this row; None if no episode is open.
        holdoff: Longest time without an anomalous row inside an episode, in the same unit.
        anomalous: Whether this row is anomalous.
    """
    if since_anomalous is not None and since_anomalous <= holdoff:
        return Phase.ONGOING
    if anomalous:
        return Phase.STARTED
    return Phase.NONE if since_anomalous is None else Phase.ENDED


def next_phases(is_open: Bools, since_anomalous: Integers, holdoff: int, anomalous: Bools) -> NDArray[np.int8]:
    """Return the phases of the rows of n series, as `next_phase` does; all arrays `(n,)`.

    Args:
        is_open: Whether the series has an open episode.
        since_anomalous: As of `next_phase`, whole numbers; any value where no episode is open.
        holdoff: As of `next_phase`.
        anomalous: Whether the row is anomalous.
    """
    ongoing = is_open & (since_anomalous <= holdoff)
    other = np.where(anomalous, Phase.STARTED, np.where(is_open, Phase.ENDED, Phase.NONE))
    return np.where(ongoing, Phase.ONGOING, other).astype(np.int8)


def holdoff_rows(window_seconds: float, slide_seconds: float) -> int:
    """Return the hold-off in rows: how many windows share an event, rounded up."""
    return int(-(-window_seconds // slide_seconds))
