"""The hours with the largest forecast errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats
from training.data.time_range import DateTimes


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstHour:
    """An hour of the clock and the feature with the largest relative error in it.

    Attributes:
        start: Start of the hour.
        feature: Name.
        observed: Mean over the hour's rows, raw units. forecast: Mean of their forecasts.
        times_usual: Mean absolute error of the hour over that of the whole range.
    """

    start: np.datetime64
    feature: str
    observed: float
    forecast: float
    times_usual: float


def find_worst_hours(
    times: DateTimes, observed: Floats, forecast: Floats, names: Sequence[str], count: int = 12
) -> tuple[WorstHour, ...]:
    """Find the worst hours, each with its worst feature, the worst first.

    Args:
        times: `(n,)`, starts of the forecast rows.
        observed: `(n, features)`, raw units.
        forecast: `(n, features)`, raw units.
        names: Names of the features.
        count: Maximum number of hours to return.
    """
    hours, row_hours = np.unique(times.astype("datetime64[h]"), return_inverse=True)
    rows = np.bincount(row_hours)[:, None]

    def by_hour(values: Floats) -> Floats:
        sums = np.zeros((len(hours), values.shape[1]))
        np.add.at(sums, row_hours, values)
        return sums / rows

    errors = np.abs(forecast - observed)
    usual = np.maximum(errors.mean(axis=0), np.finfo(np.float64).tiny)
    ratio = by_hour(errors) / usual
    worst = ratio.argmax(axis=1)
    chosen = np.argsort(-ratio.max(axis=1), kind="stable")[:count]
    observed_means, forecast_means = by_hour(observed), by_hour(forecast)
    return tuple(
        WorstHour(
            start=hours[i],
            feature=names[worst[i]],
            observed=float(observed_means[i, worst[i]]),
            forecast=float(forecast_means[i, worst[i]]),
            times_usual=float(ratio[i, worst[i]]),
        )
        for i in chosen
    )
