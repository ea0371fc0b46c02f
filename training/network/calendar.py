"""The calendar input of a network: time of day and day of week, each as a point on a circle; for some also as numbers.

The values are looked up in a table by the minute of the week, not computed: vectorised sine and cosine may differ in a bit
between runtimes, and between the middle and the end of an array. The week is that of UTC. The network learns where the local
day lies in it; in summer time it is off by an hour.
"""

import numpy as np

from mods_grpc.array_types import Singles, Times
from training.network.config import CALENDAR_CHANNELS, CLOCK_CHANNELS

MINUTE_NANOS = 60 * 1_000_000_000  # nanoseconds
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
SLOT_MINUTES = 10
DAY_SLOTS = DAY_MINUTES // SLOT_MINUTES
SLOT_CHANNEL = CALENDAR_CHANNELS
"""Channel of the slot of the day, the first of the clock's."""


def _make_table() -> Singles:
    minutes = np.arange(WEEK_MINUTES)
    angles = [2 * np.pi * (minutes % period) / period for period in (DAY_MINUTES, WEEK_MINUTES)]
    circles = [turn(angle) for angle in angles for turn in (np.sin, np.cos)]
    of_day = minutes % DAY_MINUTES
    clock = [of_day // SLOT_MINUTES, of_day, minutes // DAY_MINUTES, minutes % 60]
    table = np.stack([*circles, *clock], axis=1)
    assert table.shape == (WEEK_MINUTES, CALENDAR_CHANNELS + CLOCK_CHANNELS)
    return table.astype(np.float32)


_TABLE = _make_table()
CALENDAR_TABLE = np.ascontiguousarray(_TABLE[:, :CALENDAR_CHANNELS])
"""`(WEEK_MINUTES, CALENDAR_CHANNELS)`. The week starts like the epoch, on a Thursday."""


def calendar_table(channels: int) -> Singles:
    """Return the table of the first channels, `(WEEK_MINUTES, channels)`.

    After those of the circles come those of the clock: slot of ten minutes of the day, minute of the day, day of the week from
    Thursday, minute of the hour.
    """
    return np.ascontiguousarray(_TABLE[:, :channels])


def append_calendar(inputs: Singles, times: Times, channels: int = CALENDAR_CHANNELS) -> Singles:
    """Append the calendar channels to the features of every step.

    Args:
        inputs: `(n, steps, features)`.
        times: `(n,)`, times of the windows' last rows, nanoseconds since 1970.
        channels: Number of channels; see `calendar_table`.

    Returns:
        `(n, steps, features + channels)`. All steps have the calendar of the window's last row.
    """
    rows = calendar_table(channels)[times // MINUTE_NANOS % WEEK_MINUTES]
    return np.concatenate([inputs, np.repeat(rows[:, np.newaxis], inputs.shape[1], axis=1)], axis=2)
