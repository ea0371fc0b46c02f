"""From p-values to alarms: the level that adapts to a series, the drift flag, and episodes.

The level moves (see `mods_grpc.alarm_rules.adaptation`) so that a series starts as many episodes as the budget allows, even if
its evidence isn't distributed as in calibration. It is bounded: every step towards a stricter level costs an attacker an alarm,
and MIN_FACTOR is the strictest.

The drift flag is that of a conformal test martingale (Volkhonskiy et al. 2017, "Inductive conformal martingales for
change-point detection"): a bet that p-values are too small, whose wealth never falls below its start. Very small p-values are
anomalies, not drift, so none counts as less than MIN_BET_P. Rows that belong to one event count as one.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.adaptation import Adaptation
from mods_grpc.alarm_rules.episode_rule import Phase
from mods_grpc.array_types import Bools, Floats, Indices, Times
from mods_grpc.detection.decision.episodes import advance, advance_each, episode_of, store_episode, update
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable

BET = 0.7  # power of the martingale: increments log(BET) + (BET - 1) log(p)
_LOG_BET = math.log(BET)
MIN_BET_P = 0.01
DRIFT_WEALTH = math.log(1e6)  # without drift, a bet wins a millionfold at most once in a million rows


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmRule:
    """When rows raise an alarm.

    Attributes:
        significance: A row is anomalous if its p-value is at or below this level, before adaptation.
        extremal_index: Episodes per anomalous row.
        holdoff: Nanoseconds without an anomalous row that end an episode.
        adaptation: How the level adapts to the series; None for a fixed level.
    """

    significance: float
    extremal_index: float
    holdoff: int
    adaptation: Adaptation | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRows:
    """n rows in order, all `(n,)`: `slots` of the series (may repeat), `times` in nanoseconds, `p_value`."""

    slots: Indices
    times: Times
    p_value: Floats


class Alarm(NamedTuple):
    """The alarm state after one row; fields as in Alarms."""

    score: float
    anomalous: bool
    drift: bool
    phase: int
    start: int
    peak_time: int
    peak: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """The alarm state after each of n rows, all `(n,)`.

    Attributes:
        score: -log10 of the p-value.
        anomalous: Whether the p-value is at or below the level of the series. drift: Whether the drift flag is up.
        phase: Phase of the row. start, peak_time: Nanoseconds, of the episode it belongs to or ends; NO_TIME if none.
        peak: Highest score of that episode; 0 if none.
    """

    score: Floats
    anomalous: Bools
    drift: Bools
    phase: NDArray[np.int8]
    start: Times
    peak_time: Times
    peak: Floats


def raise_alarms(table: SeriesTable, rows: ScoredRows, rule: AlarmRule) -> Alarms:
    """Apply scored rows in order: updates factor, wealth and episode of their series in the table."""
    n = len(rows.slots)
    alarms = Alarms(
        score=-np.log10(rows.p_value),
        anomalous=np.zeros(n, np.bool_),
        drift=np.zeros(n, np.bool_),
        phase=np.zeros(n, np.int8),
        start=np.full(n, NO_TIME),
        peak_time=np.full(n, NO_TIME),
        peak=np.zeros(n),
    )
    log_odds = _LOG_BET + (BET - 1) * np.log(np.fmax(np.fmin(rows.p_value, 1.0), MIN_BET_P))
    distinct = n == 1 or bool((np.diff(np.sort(rows.slots)) != 0).all())
    (_vectorised if distinct else _sequential)(table, rows, rule, rule.extremal_index * log_odds, alarms)
    return alarms


def _vectorised(table: SeriesTable, rows: ScoredRows, rule: AlarmRule, bets: Floats, alarms: Alarms) -> None:
    """Apply one row of each of n different series."""
    slots, factor = rows.slots, table.factor[rows.slots]
    alarms.anomalous[:] = rows.p_value <= (rule.significance * factor if rule.adaptation else rule.significance)
    wealth = np.maximum(table.wealth[slots] + bets, 0.0)
    alarms.drift[:] = wealth > DRIFT_WEALTH
    table.wealth[slots] = np.minimum(wealth, 2 * DRIFT_WEALTH)
    at = np.flatnonzero(alarms.anomalous | (table.episode_start[slots] != NO_TIME))
    if at.size:
        episodes = advance_each(table, slots[at], rows.times[at], alarms.score[at], alarms.anomalous[at], rule.holdoff)
        alarms.phase[at], alarms.start[at], alarms.peak_time[at], alarms.peak[at] = episodes
    if rule.adaptation:
        table.factor[slots] = rule.adaptation.next_factors(factor, alarms.phase)


def _sequential(table: SeriesTable, rows: ScoredRows, rule: AlarmRule, bets: Floats, alarms: Alarms) -> None:
    """Apply rows of series of which some have several: series by series, row by row."""
    order = np.argsort(rows.slots, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(rows.slots[order])) + 1):
        _single_series(table, int(rows.slots[at[0]]), at, rows, rule, bets, alarms)


def _single_series(
    table: SeriesTable, slot: int, at: Indices, rows: ScoredRows, rule: AlarmRule, bets: Floats, alarms: Alarms
) -> None:
    """Apply the rows `at`, `(k,)`, of one series, with the same operations on the same numbers as `_vectorised`."""
    adaptation, holdoff, level = rule.adaptation, rule.holdoff, rule.significance
    factor, wealth, episode = table.factor.item(slot), table.wealth.item(slot), episode_of(table, slot)
    columns = (at, rows.times[at], rows.p_value[at], alarms.score[at], bets[at])
    anomalous_rows, drift_rows = [], []
    for i, time, p_value, score, bet in zip(*(column.tolist() for column in columns), strict=True):
        anomalous = p_value <= (level * factor if adaptation else level)
        wealth = max(wealth + bet, 0.0)
        anomalous_rows.append(anomalous)
        drift_rows.append(wealth > DRIFT_WEALTH)
        wealth = min(wealth, 2 * DRIFT_WEALTH)
        phase = Phase.NONE
        if anomalous or episode.start != NO_TIME:
            phase, current, episode = update(episode, time, score, anomalous=anomalous, holdoff=holdoff)
            alarms.phase[i], alarms.start[i] = phase, current.start
            alarms.peak_time[i], alarms.peak[i] = current.peak_time, current.peak
        if adaptation:
            factor = adaptation.next_factor(factor, phase)
    alarms.anomalous[at], alarms.drift[at] = anomalous_rows, drift_rows
    table.factor[slot], table.wealth[slot] = factor, wealth
    store_episode(table, slot, episode)


def raise_alarm(table: SeriesTable, slot: int, time: int, p_value: float, rule: AlarmRule) -> Alarm:
    """Apply one scored row, as `raise_alarms` does. numpy's scalar logarithms may differ in the last bit from those of arrays."""
    log = np.log(max(min(p_value, 1.0), MIN_BET_P))
    bet = rule.extremal_index * (_LOG_BET + (BET - 1) * float(log))
    score, adaptation, factor = -float(np.log10(p_value)), rule.adaptation, table.factor.item(slot)
    anomalous = p_value <= (rule.significance * factor if adaptation else rule.significance)
    wealth = max(table.wealth.item(slot) + bet, 0.0)
    table.wealth[slot] = min(wealth, 2 * DRIFT_WEALTH)
    drift = wealth > DRIFT_WEALTH
    if not anomalous and table.episode_start.item(slot) == NO_TIME:
        if adaptation:
            table.factor[slot] = adaptation.next_factor(factor, Phase.NONE)
        return Alarm(score, False, drift, Phase.NONE, NO_TIME, NO_TIME, 0.0)
    episode = advance(table, slot, time, score, anomalous=anomalous, holdoff=rule.holdoff)
    if adaptation and episode[0] == Phase.STARTED:
        table.factor[slot] = adaptation.next_factor(factor, Phase.STARTED)
    return Alarm(score, anomalous, drift, *episode)
