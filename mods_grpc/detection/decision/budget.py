"""The budget of false alarms, and the level that it asks of one row.

A budget is always the same number: false alarms per series and day, and an alarm is an episode. Only these functions convert it.
"""

from mods_grpc.artifact.calibration import Calibration
from mods_grpc.artifact.manifest import DAY_SECONDS

MAX_SIGNIFICANCE = 0.2  # p-values above it are all ordinary


def significance_from_budget(false_alarms_per_day: float, slide_seconds: int, calibration: Calibration) -> float:
    """Convert a false-alarm budget to the significance level of one row.

    Alarms are episodes. Anomalous rows come in runs, since windows overlap and evidence lasts, so a level of p yields
    extremal index * p episodes per row (Leadbetter 1983). The index is smaller at lenient levels, where runs are longer.

    Args:
        false_alarms_per_day: Episodes per series and day.
        slide_seconds: Distance between rows.
        calibration: Knows how many episodes there are at which level.

    Returns:
        The level; 1 or above if the budget is at least one episode per row.
    """
    rate = false_alarms_per_day * slide_seconds / DAY_SECONDS
    return max(rate, min(calibration.level_of(rate), MAX_SIGNIFICANCE))


def budget_from_significance(significance: float, slide_seconds: int, calibration: Calibration) -> float:
    """Convert the significance level of one row to the false alarms, which are episodes, per series and day that it has.

    The inverse of `significance_from_budget`, for levels up to MAX_SIGNIFICANCE.
    """
    return calibration.episodes_at(significance) * DAY_SECONDS / slide_seconds
