"""How the alarm level of a series adapts to it.

Adaptive conformal inference (Gibbs & Candes 2021), on a logarithmic scale and for episodes: each start of an episode makes
the level stricter, each row outside of episodes a little more lenient. The two cancel out at the rate of episodes that the
budget allows. The level doesn't move while an episode is open, so an anomaly is learned from once, by the alarm it raised.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.episode_rule import Phase
from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError

START_MULTIPLIER = 10.0**-0.2  # of the factor, at each start of an episode
MIN_FACTOR = 0.01
MAX_FACTOR = 10.0

DAY_SECONDS = 86_400
MIN_ALLOWED = 3.0
"""False alarms that a budget must allow in a calibration range, or it is not proven: a range without any shows, at 95 %, that no
more than three were to be expected."""


def check_budget(false_alarms_per_day: float, slide_seconds: float) -> None:
    """Check a budget of false alarms per series and day.

    Args:
        false_alarms_per_day: The budget.
        slide_seconds: Time from one row to the next.

    Raises:
        DataError: It is not above 0, or allows an alarm for every row.
    """
    rows = DAY_SECONDS / slide_seconds
    if not 0 < false_alarms_per_day < rows:
        raise DataError(
            f"--false-alarms-per-day: expected a number above 0 and below {rows:g}, the windows of a day, "
            f"found {false_alarms_per_day:g}"
        )


def describe_unproven(false_alarms_per_day: float, calibration_days: float) -> str | None:
    """Return what to know of a budget that the calibration range is too short to promise; None if it is long enough.

    Args:
        false_alarms_per_day: The budget per series.
        calibration_days: Days of one series in the range.
    """
    if false_alarms_per_day * calibration_days >= MIN_ALLOWED:
        return None
    what = (
        f"{false_alarms_per_day:.3g} false alarms a day are {false_alarms_per_day * calibration_days:.2g} in the "
        f"{calibration_days:.3g} days of the calibration range, so that the budget is not proven and its level rests on few or "
        f"no alarms"
    )
    enough = MIN_ALLOWED / false_alarms_per_day
    return f"{what}; {enough:.3g} days or more would show it" if math.isfinite(enough) else what


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The adaptation rule for one budget.

    The level of a series is the budget's significance level times the factor of the series, which starts at 1 and stays in
    MIN_FACTOR to MAX_FACTOR.

    Attributes:
        rate: Episodes per row that the budget allows.
        quiet_multiplier: Multiplies the factor at each row outside of episodes; above 1.
    """

    rate: float
    quiet_multiplier: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quiet_multiplier", float(START_MULTIPLIER**-self.rate))

    def next_factor(self, factor: float, phase: Phase) -> float:
        """Return the factor after a row of this phase."""
        if phase == Phase.NONE:
            return min(factor * self.quiet_multiplier, MAX_FACTOR)
        return max(factor * START_MULTIPLIER, MIN_FACTOR) if phase == Phase.STARTED else factor

    def next_factors(self, factors: Floats, phases: NDArray[np.int8]) -> Floats:
        """Return the factors of n series after a row of each, `(n,)`, as `next_factor` does."""
        quiet = np.minimum(factors * self.quiet_multiplier, MAX_FACTOR)
        started = np.maximum(factors * START_MULTIPLIER, MIN_FACTOR)
        return np.where(phases == Phase.NONE, quiet, np.where(phases == Phase.STARTED, started, factors))
