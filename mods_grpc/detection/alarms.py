"""From p-values to alarms: the threshold that adapts to a series, the drift flag, and episodes.

Adaptive conformal inference (Gibbs & Candes 2021) moves the level at which a series alarms, so that it starts as many
episodes as the budget says though its evidence isn't distributed as in calibration: each start makes it stricter, each
quiet row a little more lenient. It stands still while an episode is open, and never leaves a factor of LARGEST_FACTOR
either way: whoever teaches the detector to accept him raises an alarm for each step, and gets no further than that.

The drift flag is that of a conformal test martingale (Volkhonskiy et al. 2017, "Inductive conformal martingales for
change-point detection"): the bet that p-values are too small, kept at its start from below. Very small ones are
anomalies, not drift, and count no more than SMALLEST_BET; rows that say the same count as one.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection.episodes import Phase, advance
from mods_grpc.detection.series import NO_TIME, SeriesTable

Floats = NDArray[np.float64]

STRICTER = 10.0**-0.1  # at each start of an episode
LARGEST_FACTOR = 10.0
BET = 0.7  # power of the martingale: increments log(BET) + (BET - 1) log(p)
SMALLEST_BET = 0.01
DRIFT_WEALTH = math.log(1e6)  # without drift, a bet wins a millionfold once in a million rows or less often


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """What is raised at n rows: `anomalous`, `drift`, and of the episode `phase`, `start`, `peak_time`, `peak`, all `(n,)`."""

    anomalous: NDArray[np.bool_]
    drift: NDArray[np.bool_]
    phase: NDArray[np.int8]
    start: NDArray[np.int64]
    peak_time: NDArray[np.int64]
    peak: Floats


def raise_alarms(
    table: SeriesTable,
    slots: NDArray[np.intp],
    times: NDArray[np.int64],
    p_value: Floats,
    *,
    significance: float,
    extremal_index: float,
    holdoff: int,
    adapt: bool,
) -> Alarms:
    """Take scored rows into account, in order.

    Args:
        table: State of all series: factor, wealth and episode are changed.
        slots: `(n,)` the series; one may occur more than once.
        times: `(n,)` nanoseconds.
        p_value: `(n,)`.
        significance: p-value at or below which a row is anomalous, before adaptation.
        extremal_index: Episodes per anomalous row.
        holdoff: Nanoseconds without an anomalous row that end an episode.
        adapt: Whether the level adapts to the series.
    """
    n = len(slots)
    found = Alarms(
        anomalous=np.zeros(n, np.bool_),
        drift=np.zeros(n, np.bool_),
        phase=np.zeros(n, np.int8),
        start=np.full(n, NO_TIME),
        peak_time=np.full(n, NO_TIME),
        peak=np.zeros(n),
    )
    bets = extremal_index * (math.log(BET) + (BET - 1) * np.log(np.clip(np.nan_to_num(p_value, nan=1.0), SMALLEST_BET, 1.0)))
    score = -np.log10(p_value)
    lenient = STRICTER ** (-significance * extremal_index) if adapt else 1.0
    if n == 1 or np.unique(slots).size == n:
        _at_once(table, slots, times, (p_value, score, bets), found, significance, lenient, holdoff)
    else:
        _in_turn(table, slots, times, (p_value, score, bets), found, significance, lenient, holdoff)
    return found


def _at_once(
    table: SeriesTable,
    slots: NDArray[np.intp],
    times: NDArray[np.int64],
    rows: tuple[Floats, Floats, Floats],
    found: Alarms,
    significance: float,
    lenient: float,
    holdoff: int,
) -> None:
    p_value, score, bets = rows
    factor = table.factor[slots]
    found.anomalous[:] = p_value <= (significance * factor if lenient != 1.0 else significance)
    wealth = np.maximum(table.wealth[slots] + bets, 0.0)
    found.drift[:] = wealth > DRIFT_WEALTH
    table.wealth[slots] = np.minimum(wealth, 2 * DRIFT_WEALTH)
    touched = found.anomalous | (table.episode_start[slots] != NO_TIME)
    for i in np.flatnonzero(touched).tolist():
        _episode(table, slots, times, score, found, i, holdoff)
    if lenient != 1.0:
        quiet = np.minimum(factor * lenient, LARGEST_FACTOR)
        stricter = np.maximum(factor * STRICTER, 1 / LARGEST_FACTOR)
        started = found.phase == Phase.STARTED
        table.factor[slots] = np.where(started, stricter, np.where(touched, factor, quiet))


def _in_turn(
    table: SeriesTable,
    slots: NDArray[np.intp],
    times: NDArray[np.int64],
    rows: tuple[Floats, Floats, Floats],
    found: Alarms,
    significance: float,
    lenient: float,
    holdoff: int,
) -> None:
    """The same, row by row, with the same operations on the same numbers."""
    p_value, score, bets = rows
    for i, (slot, p, bet) in enumerate(zip(slots.tolist(), p_value.tolist(), bets.tolist(), strict=True)):
        factor = float(table.factor[slot])
        anomalous = p <= (significance * factor if lenient != 1.0 else significance)
        wealth = max(float(table.wealth[slot]) + bet, 0.0)
        found.anomalous[i], found.drift[i] = anomalous, wealth > DRIFT_WEALTH
        table.wealth[slot] = min(wealth, 2 * DRIFT_WEALTH)
        touched = anomalous or table.episode_start[slot] != NO_TIME
        if touched:
            _episode(table, slots, times, score, found, i, holdoff)
        if lenient == 1.0:
            continue
        if found.phase[i] == Phase.STARTED:
            table.factor[slot] = max(factor * STRICTER, 1 / LARGEST_FACTOR)
        elif not touched:
            table.factor[slot] = min(factor * lenient, LARGEST_FACTOR)


def _episode(
    table: SeriesTable,
    slots: NDArray[np.intp],
    times: NDArray[np.int64],
    score: Floats,
    found: Alarms,
    i: int,
    holdoff: int,
) -> None:
    found.phase[i], found.start[i], found.peak_time[i], found.peak[i] = advance(
        table, int(slots[i]), int(times[i]), float(score[i]), anomalous=bool(found.anomalous[i]), holdoff=holdoff
    )
