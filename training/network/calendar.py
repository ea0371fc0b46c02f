"""The calendar as a network sees it: time of day and day of week, each as a point on a circle.

Looked up in a table by the minute of the week rather than computed: sine and cosine of a runtime's vector units may differ
in a bit from those of another, and from those at the end of an array. The week is that of UTC; the network learns where in it
the local day lies, and an hour of summer time is an hour off.
"""

import numpy as np
from numpy.typing import NDArray

from training.network.config import CHANNELS

MINUTE = 60 * 1_000_000_000  # nanoseconds
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES


def _table() -> NDArray[np.float32]:
    minutes = np.arange(WEEK_MINUTES)
    angles = [2 * np.pi * (minutes % period) / period for period in (DAY_MINUTES, WEEK_MINUTES)]
    table = np.stack([turn(angle) for angle in angles for turn in (np.sin, np.cos)], axis=1)
    assert table.shape == (WEEK_MINUTES, CHANNELS)
    return table.astype(np.float32)


TABLE = _table()
"""`(WEEK_MINUTES, CHANNELS)`, from the start of a week of the epoch, which is a Thursday."""


def with_calendar(inputs: NDArray[np.float32], times: NDArray[np.int64]) -> NDArray[np.float32]:
    """Put the calendar beside the features of every step.

    Args:
        inputs: `(n, steps, features)`.
        times: `(n,)` times of the windows' last rows, nanoseconds since 1970.

    Returns:
        `(n, steps, features + CHANNELS)`; the calendar is the same at all steps, that of the last row.
    """
    channels = TABLE[times // MINUTE % WEEK_MINUTES]
    return np.concatenate([inputs, np.repeat(channels[:, np.newaxis], inputs.shape[1], axis=1)], axis=2)
