"""Intermittent demand: how often a feature is not zero, how much its sizes vary, and forecasts made for such series.

The two methods stand here in their published form, since the packages that hold them bring a compiler or more with them:
Croston (1972), Forecasting and stock control for intermittent demands; Teunter, Syntetos & Babai (2011), Intermittent
demand: linking forecasting to inventory obsolescence. The classes are those of Syntetos, Boylan & Croston (2005), On the
categorization of demand patterns.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mods_grpc.array_types import Floats

DemandClass = Literal["smooth", "erratic", "intermittent", "lumpy", "none"]

SMOOTHING = 0.1
LARGEST_SMOOTH_INTERVAL = 1.32
LARGEST_SMOOTH_VARIATION = 0.49


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """How intermittent a feature is.

    Attributes:
        nonzero: Share of known values that are not 0.
        interval: Mean distance between values that are not 0, in rows; NaN without any.
        variation: Squared coefficient of variation of those values; NaN without any.
        demand: The class of Syntetos, Boylan and Croston; "none" without a value that is not 0.
    """

    nonzero: float
    interval: float
    variation: float
    demand: DemandClass


def classify(values: Floats) -> Demand:
    """Classify one feature `(rows,)`, NaN where missing."""
    known = values[np.isfinite(values)]
    sizes = known[known != 0]
    if not sizes.size:
        return Demand(nonzero=0.0, interval=float("nan"), variation=float("nan"), demand="none")
    interval = known.size / sizes.size
    mean = float(sizes.mean())
    variation = float(sizes.var() / mean**2) if mean else float("inf")
    frequent, even = interval <= LARGEST_SMOOTH_INTERVAL, variation <= LARGEST_SMOOTH_VARIATION
    demand: DemandClass = ("smooth" if even else "erratic") if frequent else ("intermittent" if even else "lumpy")
    return Demand(nonzero=sizes.size / known.size, interval=interval, variation=variation, demand=demand)


def croston(values: Floats, smoothing: float = SMOOTHING) -> Floats:
    """Forecast every row from those before it by Croston's method.

    Sizes and intervals of demands are smoothed apart, both at a demand only; the forecast is size over interval.

    Args:
        values: `(rows, features)`, NaN where missing: such a row changes nothing.
        smoothing: Weight of the newest, above 0 to 1.

    Returns:
        `(rows, features)`; NaN up to and with the first demand.
    """
    made = np.full(values.shape, np.nan)
    size, interval = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    waited = np.zeros(values.shape[1])
    for row, value in enumerate(values):
        made[row] = size / interval
        waited += np.isfinite(value)
        hit = np.isfinite(value) & (value != 0)
        first = hit & np.isnan(size)
        size = np.where(hit, np.where(first, value, size + smoothing * (value - size)), size)
        interval = np.where(hit, np.where(first, waited, interval + smoothing * (waited - interval)), interval)
        waited[hit] = 0
    return made


def croston_tsb(values: Floats, smoothing: float = SMOOTHING, probability_smoothing: float = SMOOTHING) -> Floats:
    """Forecast every row from those before it by the method of Teunter, Syntetos and Babai.

    The probability of a demand is smoothed at every row, so that the forecast decays while nothing comes.

    Args:
        values: `(rows, features)`, NaN where missing: such a row changes nothing.
        smoothing: Weight of the newest size, above 0 to 1.
        probability_smoothing: Weight of the newest occurrence, above 0 to 1.

    Returns:
        `(rows, features)`; NaN up to and with the first demand.
    """
    made = np.full(values.shape, np.nan)
    size, probability = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    waited = np.zeros(values.shape[1])
    for row, value in enumerate(values):
        made[row] = size * probability
        known = np.isfinite(value)
        waited += known
        hit = known & (value != 0)
        first = hit & np.isnan(size)
        moved = probability + probability_smoothing * (hit - probability)
        probability = np.where(first, 1 / np.maximum(waited, 1), np.where(known, moved, probability))
        size = np.where(hit, np.where(first, value, size + smoothing * (value - size)), size)
    return made
