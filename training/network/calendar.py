"""The calendar input of a network: time of day and day of week, each as a point on a circle.

The values are looked up in a table by the minute of the week, not computed: vectorised sine and cosine may differ in a bit
between runtimes, and between the middle and the end of an array. The week is that of UTC. The network learns where the local
day lies in it; in summer time it is off by an hour.
"""

import numpy as np

from mods_grpc.array_types import Singles, Times
from training.network.config import CALENDAR_CHANNELS

MINUTE_NANOS = 60 * 1_000_000_000  # nanoseconds
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES


def _make_table() -> Singles:
    minutes = np.arange(WEEK_MINUTES)
    angles = [2 * np.pi * (minutes % period) / period for period in (DAY_MINUTES, WEEK_MINUTES)]
    table = np.stack([turn(angle) for angle in angles for turn in (np.sin, np.cos)], axis=1)
    assert table.shape == (WEEK_MINUTES, CALENDAR_CHANNELS)
    return table.astype(np.float32)


CALENDAR_TABLE = _make_table()
"""`(WEEK_MINUTES, CALENDAR_CHANNELS)`. The week starts like the epoch, on a Thursday."""


def append_calendar(inputs: Singles, times: Times) -> Singles:
    """Append the calendar channels to the features of every step.

    Args:
        inputs: `(n, steps, features)`.
        times: `(n,)`, times of the windows' last rows, nanoseconds since 1970.

    Returns:
        `(n, steps, features + CALENDAR_CHANNELS)`. All steps have the calendar of the window's last row.
    """
    channels = CALENDAR_TABLE[times // MINUTE_NANOS % WEEK_MINUTES]
    return np.concatenate([inputs, np.repeat(channels[:, np.newaxis], inputs.shape[1], axis=1)], axis=2)
