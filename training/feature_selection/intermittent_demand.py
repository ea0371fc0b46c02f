"""Intermittent demand: classes of series that are often zero, and two forecasting methods for them.

The methods are implemented here because the packages that have them depend on a compiler or more: Croston (1972), Forecasting
and stock control for intermittent demands; Teunter, Syntetos & Babai (2011), Intermittent demand: linking forecasting to
inventory obsolescence. The classes are those of Syntetos, Boylan & Croston (2005), On the categorization of demand patterns.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mods_grpc.array_types import Floats

DemandClass = Literal["smooth", "erratic", "intermittent", "lumpy", "none"]

SMOOTHING = 0.1
MAX_SMOOTH_INTERVAL = 1.32
MAX_SMOOTH_VARIATION = 0.49


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """Intermittence of a feature.

    Attributes:
        nonzero: Share of nonzero values among those that are not missing.
        interval: Mean distance between nonzero values, in rows; NaN without any.
        variation: Squared coefficient of variation of the nonzero values; NaN without any.
        demand: The class of Syntetos, Boylan and Croston; "none" without a nonzero value.
    """

    nonzero: float
    interval: float
    variation: float
    demand: DemandClass


def classify_demand(values: Floats) -> Demand:
    """Classify one feature `(rows,)`, NaN where missing."""
    finite = values[np.isfinite(values)]
    sizes = finite[finite != 0]
    if not sizes.size:
        return Demand(nonzero=0.0, interval=float("nan"), variation=float("nan"), demand="none")
    interval = finite.size / sizes.size
    mean = sizes.mean()
    variation = float(sizes.var() / np.square(mean)) if mean else float("inf")
    frequent, even = interval <= MAX_SMOOTH_INTERVAL, variation <= MAX_SMOOTH_VARIATION
    demand: DemandClass = ("smooth" if even else "erratic") if frequent else ("intermittent" if even else "lumpy")
    return Demand(nonzero=sizes.size / finite.size, interval=interval, variation=variation, demand=demand)


def croston(values: Floats, smoothing: float = SMOOTHING) -> Floats:
    """Forecast every row from the rows before it by Croston's method.

    Sizes and intervals of demands are smoothed separately, at demands only; the forecast is size over interval.

    Args:
        values: `(rows, features)`, NaN where missing; missing rows have no effect.
        smoothing: Weight of the newest demand, above 0 to 1.

    Returns:
        `(rows, features)`; NaN up to and including the first demand.
    """
    forecasts = np.full(values.shape, np.nan)
    size, interval = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    elapsed = np.zeros(values.shape[1])
    for row, value in enumerate(values):
        forecasts[row] = size / interval
        elapsed += np.isfinite(value)
        hit = np.isfinite(value) & (value != 0)
        first = hit & np.isnan(size)
        size = np.where(hit, np.where(first, value, size + smoothing * (value - size)), size)
        interval = np.where(hit, np.where(first, elapsed, interval + smoothing * (elapsed - interval)), interval)
        elapsed[hit] = 0
    return forecasts


def croston_tsb(values: Floats, smoothing: float = SMOOTHING, probability_smoothing: float = SMOOTHING) -> Floats:
    """Forecast every row from the rows before it by the method of Teunter, Syntetos and Babai.

    The probability of a demand is smoothed at every row, so that the forecast decays without demand.

    Args:
        values: `(rows, features)`, NaN where missing; missing rows have no effect.
        smoothing: Weight of the newest size, above 0 to 1.
        probability_smoothing: Weight of the newest occurrence, above 0 to 1.

    Returns:
        `(rows, features)`; NaN up to and including the first demand.
    """
    forecasts = np.full(values.shape, np.nan)
    size, probability = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    elapsed = np.zeros(values.shape[1])
    for row, value in enumerate(values):
        forecasts[row] = size * probability
        available = np.isfinite(value)
        elapsed += available
        hit = available & (value != 0)
        first = hit & np.isnan(size)
        moved = probability + probability_smoothing * (hit - probability)
        probability = np.where(first, 1 / np.maximum(elapsed, 1), np.where(available, moved, probability))
        size = np.where(hit, np.where(first, value, size + smoothing * (value - size)), size)
    return forecasts
