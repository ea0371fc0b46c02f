"""How the scale of residuals changes over the day, where the data say that it does.

Traffic is quieter at night, and so are the residuals of whoever forecasts it: what is nothing in the morning's ramp may be
a lot at night. The course over the day is learnt on the range that the model was fitted on, where there is most to learn
from, and used only where it makes the sizes of residuals on the calibration range more alike.
"""

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact.calibration import DAY_PARTS, DayScale
from mods_grpc.artifact.manifest import DAY_SECONDS
from mods_grpc.detection.scores.conformal import make_curve
from mods_grpc.detection.scores.residuals import robust_scale

DAY_NANOS = DAY_SECONDS * 1_000_000_000
DAY_PART_NANOS = DAY_NANOS // DAY_PARTS
MAX_FACTOR = 4.0  # a part of the day on which nothing ever happens must not make the first event of all infinite
MIN_ROWS = 50  # of a part with its neighbours, to learn its scale from
MIN_DAYS = 3  # of a range, for its days to tell what they have in common
COMPARED_QUANTILES = (0.5, 0.9, 0.98)  # quantiles of the sizes that must be more alike
DIGITS = 4


def day_part(times: Times) -> NDArray[np.int64]:
    """Return the part of the day of each time in nanoseconds, 0 to DAY_PARTS - 1."""
    return times % DAY_NANOS // DAY_PART_NANOS


def day_part_of(time: int) -> int:
    """Return the same for one time."""
    return time % DAY_NANOS // DAY_PART_NANOS


def choose_day_scales(
    learnt_from: tuple[Times, Floats], calibration: tuple[Times, Floats], scales: Floats
) -> tuple[DayScale | None, ...]:
    """Choose by feature whether residuals of a step are measured by the time of the day.

    Args:
        learnt_from: Times, `(n,)` nanoseconds, and unscaled residuals, `(n, features)`, of the range that was fitted on.
        calibration: The same of the calibration range, which decides and from which the curves are.
        scales: `(features,)` scales of the residuals of the calibration range.
    """
    factors = learn_factors(*learnt_from)
    if factors is None:
        return (None,) * len(scales)
    times, differences = calibration
    supported = are_supported(times, differences, factors)
    sizes = np.abs(differences) / (scales * factors[day_part(times)])
    return tuple(
        DayScale(factors=tuple(factors[:, j].tolist()), curve=make_curve(column[~np.isnan(column)])) if supported[j] else None
        for j, column in enumerate(sizes.T)
    )


def learn_factors(times: Times, differences: Floats) -> Floats | None:
    """Return what the scale of residuals is multiplied by, `(DAY_PARTS, features)`: that of each part and its neighbours.

    Args:
        times: `(n,)` nanoseconds.
        differences: `(n, features)` unscaled residuals, NaN where missing.

    Returns:
        None where the rows span too few days or leave a part of the day too thin.
    """
    if not len(times) or times.max() - times.min() < MIN_DAYS * DAY_NANOS:
        return None
    away = np.abs(day_part(times) - np.arange(DAY_PARTS)[:, None])
    near = np.minimum(away, DAY_PARTS - away) <= 1
    present = ~np.isnan(differences)
    if (near.astype(np.int64) @ present.astype(np.int64)).min() < MIN_ROWS:
        return None
    factors = np.stack([robust_scale(differences[rows]) for rows in near]) / robust_scale(differences)
    return np.clip(factors, 1 / MAX_FACTOR, MAX_FACTOR).round(DIGITS)


def are_supported(times: Times, differences: Floats, factors: Floats) -> NDArray[np.bool_]:
    """Tell for which features residuals divided by their factors are more alike than they are as they stand.

    Sizes are compared as logarithms, by the pinball loss of their own quantiles (Koenker & Bassett 1978), so that every
    hour counts the same; the loss must fall at each of JUDGED_AT.

    Args:
        times: `(n,)` nanoseconds of rows that the factors were not learnt from.
        differences: `(n, features)` unscaled residuals, NaN where missing.
        factors: `(DAY_PARTS, features)`.

    Returns:
        `(features,)`, all False where the rows span too few days.
    """
    if not len(times) or times.max() - times.min() < MIN_DAYS * DAY_NANOS:
        return np.zeros(differences.shape[1], np.bool_)
    sizes = np.abs(differences)
    plain = np.log(sizes + 0.05 * robust_scale(differences))  # how close to nothing a residual is says nothing
    corrected = plain - np.log(factors)[day_part(times)]
    better = [_loss(corrected, quantile) < _loss(plain, quantile) for quantile in COMPARED_QUANTILES]
    return np.asarray(np.logical_and.reduce(better), np.bool_)


def _loss(values: Floats, quantile: float) -> Floats:
    away = values - np.nanquantile(values, quantile, axis=0)
    return np.asarray(np.nanmean(np.maximum(quantile * away, (quantile - 1) * away), axis=0), np.float64)
