"""p-values of thousands of simulated series over days, which are not as uniform as a calibration promises.

Rows start each 10 minutes. In overlapping windows an event is in all rows that share it, so p-values come in runs: the p-value
of a row is that of the smallest of the last `holdoff` innovations. Six in ten series are calibrated; two in ten have ten times
too many small p-values; one in ten has three times too many by day and few by night; one in ten has a heavy tail, P(p <= a) =
a^0.6, which is 250 times too many at the smallest. Four in ten series are there for some days only, a part of all only by day.
Twice a week a burst that means nothing is in 2 % of all series. None is below MIN_P, which a finite calibration can't show.
"""

from dataclasses import dataclass

import numpy as np

ROWS_A_DAY = 144
MIN_P = 1e-6
ATTACK_DAY, ATTACKED, ATTACK_ROWS, ATTACK = 8, 200, 6, -1
CALIBRATED, OFTEN, RHYTHMIC, HEAVY = range(4)
SHARES = (0.6, 0.2, 0.1, 0.1)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """p-values `(rows, series)`, NaN where a series is not there, and of the same shape which rows have one cause in many series.

    `cause` is the number of a burst, from 1, or `ATTACK`; 0 of the other rows.
    """

    p_value: np.ndarray
    cause: np.ndarray
    holdoff: int


def simulate(rng, series, days, holdoff, shares=SHARES):
    """Return the traffic of a site with windows as long as `holdoff` slides."""
    rows = days * ROWS_A_DAY
    innovations = rng.random((rows + holdoff, series), dtype=np.float32)
    cause = np.zeros((rows, series), np.int8)
    for number, burst in enumerate(rng.choice(rows, 2 * days // 7, replace=False)):
        members = rng.choice(series, series // 50, replace=False)
        cause[max(0, burst - holdoff + 1) : burst + 1, members] = number + 1
        innovations[burst, members] = 10 ** -rng.uniform(2, 6, len(members)) / holdoff
    smallest = np.lib.stride_tricks.sliding_window_view(innovations, holdoff, axis=0)[:rows].min(axis=-1)
    uniform = -np.expm1(holdoff * np.log1p(-smallest.astype(np.float64)))
    hour = np.arange(rows) / ROWS_A_DAY * 24 % 24
    by_day = ((hour >= 8) & (hour < 18))[:, None]
    kind = rng.choice(len(shares), series, p=shares)
    p_value = np.where(kind == OFTEN, _crowd(uniform, 10.0), uniform)
    p_value = np.where((kind == RHYTHMIC) & by_day, _crowd(uniform, 3.0), p_value)
    p_value = np.where((kind == RHYTHMIC) & ~by_day, np.sqrt(uniform), p_value)
    p_value = np.where(kind == HEAVY, uniform ** (1 / 0.6), p_value)
    noon, attacked = ATTACK_DAY * ROWS_A_DAY + ROWS_A_DAY // 2, rng.choice(series, ATTACKED, replace=False)
    cause[noon : noon + ATTACK_ROWS, attacked] = ATTACK
    p_value[noon + rng.integers(0, ATTACK_ROWS, ATTACKED), attacked] = MIN_P
    first, last = rng.uniform(0, rows, (2, series))
    stays = rng.random(series) < 0.6
    first, last = np.where(stays, 0, np.minimum(first, last)), np.where(stays, rows, np.maximum(first, last))
    at = np.arange(rows)[:, None]
    is_there = (at >= first) & (at < last) & (by_day | (rng.random(series) < 0.7))
    p_value = np.where(is_there, np.maximum(p_value, MIN_P), np.nan)
    return Traffic(p_value=p_value, cause=cause, holdoff=holdoff)


def _crowd(uniform, times):
    """Return p-values of which the small ones come so many times too often."""
    return np.where(uniform < 0.01, uniform / times, uniform ** (1 + np.log(times) / np.log(100) * (1 - uniform)))
