"""From p-values to alarms: the threshold that adapts to a series, the drift flag, and episodes.

The level at which a series alarms moves (see `mods_grpc.alarm_rules.adaptation`) so that it starts as many episodes as the
budget says though its evidence isn't distributed as in calibration. It is bounded: whoever teaches the detector to accept him
raises an alarm for each step, and gets no further than STRICTEST.

The drift flag is that of a conformal test martingale (Volkhonskiy et al. 2017, "Inductive conformal martingales for
change-point detection"): the bet that p-values are too small, kept at its start from below. Very small ones are
anomalies, not drift, and count no more than SMALLEST_BET; rows that say the same count as one.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.adaptation import MOST_LENIENT, STRICTER, STRICTEST, Adaptation
from mods_grpc.array_types import Floats
from mods_grpc.detection.decision.episodes import Phase, advance, advance_each, episode_of, follow, keep_episode
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable

BET = 0.7  # power of the martingale: increments log(BET) + (BET - 1) log(p)
_LOG_BET = math.log(BET)
SMALLEST_BET = 0.01
DRIFT_WEALTH = math.log(1e6)  # without drift, a bet wins a millionfold once in a million rows or less often


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmRule:
    """When rows raise an alarm.

    Attributes:
        significance: p-value at or below which a row is anomalous, before adaptation.
        extremal_index: Episodes per anomalous row.
        holdoff: Nanoseconds without an anomalous row that end an episode.
        adaptation: How the level adapts to the series; None where it stays.
    """

    significance: float
    extremal_index: float
    holdoff: int
    adaptation: Adaptation | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRows:
    """n rows in order, all `(n,)`: `slots`, the series (one may occur more than once), `times` in nanoseconds, `p_value`."""

    slots: NDArray[np.intp]
    times: NDArray[np.int64]
    p_value: Floats


class Alarm(NamedTuple):
    """What is raised at one row: as Alarms."""

    score: float
    anomalous: bool
    drift: bool
    phase: int
    start: int
    peak_time: int
    peak: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """What is raised at n rows: `anomalous`, `drift`, and of the episode `phase`, `start`, `peak_time`, `peak`, all `(n,)`.

    `score` is -log10 of the p-value.
    """

    score: Floats
    anomalous: NDArray[np.bool_]
    drift: NDArray[np.bool_]
    phase: NDArray[np.int8]
    start: NDArray[np.int64]
    peak_time: NDArray[np.int64]
    peak: Floats


def raise_alarms(table: SeriesTable, rows: ScoredRows, rule: AlarmRule) -> Alarms:
    """Take scored rows into account, in order: factor, wealth and episode of their series are changed."""
    n = len(rows.slots)
    found = Alarms(
        score=-np.log10(rows.p_value),
        anomalous=np.zeros(n, np.bool_),
        drift=np.zeros(n, np.bool_),
        phase=np.zeros(n, np.int8),
        start=np.full(n, NO_TIME),
        peak_time=np.full(n, NO_TIME),
        peak=np.zeros(n),
    )
    odds = _LOG_BET + (BET - 1) * np.log(np.fmax(np.fmin(rows.p_value, 1.0), SMALLEST_BET))
    each = n == 1 or bool((np.diff(np.sort(rows.slots)) != 0).all())
    (_at_once if each else _in_turn)(table, rows, rule, rule.extremal_index * odds, found)
    return found


def _at_once(table: SeriesTable, rows: ScoredRows, rule: AlarmRule, bets: Floats, found: Alarms) -> None:
    """Take rows of as many series."""
    slots, factor = rows.slots, table.factor[rows.slots]
    found.anomalous[:] = rows.p_value <= (rule.significance * factor if rule.adaptation else rule.significance)
    wealth = np.maximum(table.wealth[slots] + bets, 0.0)
    found.drift[:] = wealth > DRIFT_WEALTH
    table.wealth[slots] = np.minimum(wealth, 2 * DRIFT_WEALTH)
    touched = found.anomalous | (table.episode_start[slots] != NO_TIME)
    at = np.flatnonzero(touched)
    if at.size:
        told = advance_each(table, slots[at], rows.times[at], found.score[at], found.anomalous[at], rule.holdoff)
        found.phase[at], found.start[at], found.peak_time[at], found.peak[at] = told
    if rule.adaptation:
        quiet = np.minimum(factor * rule.adaptation.more_lenient, MOST_LENIENT)
        stricter = np.maximum(factor * STRICTER, STRICTEST)
        started = found.phase == Phase.STARTED
        table.factor[slots] = np.where(started, stricter, np.where(touched, factor, quiet))


def _in_turn(table: SeriesTable, rows: ScoredRows, rule: AlarmRule, bets: Floats, found: Alarms) -> None:
    """The same for series some of which bring several rows: one series after the other, row by row."""
    order = np.argsort(rows.slots, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(rows.slots[order])) + 1):
        _one_series(table, int(rows.slots[at[0]]), at, rows, rule, bets, found)


def _one_series(
    table: SeriesTable, slot: int, at: NDArray[np.intp], rows: ScoredRows, rule: AlarmRule, bets: Floats, found: Alarms
) -> None:
    """Take the rows `at`, `(k,)`, of one series, with the same operations on the same numbers as `_at_once`."""
    adaptation, holdoff, level = rule.adaptation, rule.holdoff, rule.significance
    factor, wealth, episode = table.factor.item(slot), table.wealth.item(slot), episode_of(table, slot)
    columns = (at, rows.times[at], rows.p_value[at], found.score[at], bets[at])
    strange, drifting = [], []
    for i, time, p_value, score, bet in zip(*(column.tolist() for column in columns), strict=True):
        anomalous = p_value <= (level * factor if adaptation else level)
        wealth = max(wealth + bet, 0.0)
        strange.append(anomalous)
        drifting.append(wealth > DRIFT_WEALTH)
        wealth = min(wealth, 2 * DRIFT_WEALTH)
        if not anomalous and episode.start == NO_TIME:
            factor = adaptation.after_quiet(factor) if adaptation else factor
            continue
        phase, told, episode = follow(episode, time, score, anomalous=anomalous, holdoff=holdoff)
        found.phase[i], found.start[i], found.peak_time[i], found.peak[i] = phase, told.start, told.peak_time, told.peak
        if adaptation and phase == Phase.STARTED:
            factor = adaptation.after_start(factor)
    found.anomalous[at], found.drift[at] = strange, drifting
    table.factor[slot], table.wealth[slot] = factor, wealth
    keep_episode(table, slot, episode)


def raise_alarm(table: SeriesTable, slot: int, time: int, p_value: float, rule: AlarmRule) -> Alarm:
    """Take one scored row into account, as `raise_alarms` does. Logarithms are numpy's, whose last bit may differ."""
    log = np.log(max(min(p_value, 1.0), SMALLEST_BET))
    bet = rule.extremal_index * (_LOG_BET + (BET - 1) * float(log))
    score, adaptation, factor = -float(np.log10(p_value)), rule.adaptation, table.factor.item(slot)
    anomalous = p_value <= (rule.significance * factor if adaptation else rule.significance)
    wealth = max(table.wealth.item(slot) + bet, 0.0)
    table.wealth[slot] = min(wealth, 2 * DRIFT_WEALTH)
    drift = wealth > DRIFT_WEALTH
    if not anomalous and table.episode_start.item(slot) == NO_TIME:
        if adaptation:
            table.factor[slot] = adaptation.after_quiet(factor)
        return Alarm(score, False, drift, Phase.NONE, NO_TIME, NO_TIME, 0.0)
    episode = advance(table, slot, time, score, anomalous=anomalous, holdoff=rule.holdoff)
    if adaptation and episode[0] == Phase.STARTED:
        table.factor[slot] = adaptation.after_start(factor)
    return Alarm(score, anomalous, drift, *episode)
