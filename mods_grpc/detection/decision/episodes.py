"""Episodes: consecutive anomalous rows within a hold-off are one alarm with a start, a peak and an end.

Windows overlap, so one burst sits in several rows; the hold-off is the number of rows that share it.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable


class Phase(IntEnum):
    """Where an observation stands in an episode."""

    NONE = 0
    STARTED = 1
    ONGOING = 2
    ENDED = 3


class Episode(NamedTuple):
    """The open episode of a series: its first and last anomalous row and that of the highest score, nanoseconds; that score.

    NOT_OPEN where there is none.
    """

    start: int
    last: int
    peak_time: int
    peak: float


NOT_OPEN = Episode(NO_TIME, NO_TIME, NO_TIME, 0.0)


def follow(before: Episode, time: int, score: float, *, anomalous: bool, holdoff: int) -> tuple[Phase, Episode, Episode]:
    """Take one scored row into account.

    Args:
        before: The episode of its series.
        time: The row's time in nanoseconds, after that of every row before.
        score: -log10 of its p-value.
        anomalous: Whether it is anomalous.
        holdoff: Nanoseconds without an anomalous row that end an episode.

    Returns:
        Phase, the episode the row belongs to or ends, and the one that is open afterwards.
    """
    is_open = before.start != NO_TIME
    over = is_open and time - before.last > holdoff
    if not anomalous:
        if not is_open:
            return Phase.NONE, NOT_OPEN, NOT_OPEN
        return (Phase.ENDED, before, NOT_OPEN) if over else (Phase.ONGOING, before, before)
    if not is_open or over:
        begun = Episode(time, time, time, score)
        return Phase.STARTED, begun, begun
    peak = (time, score) if score > before.peak else (before.peak_time, before.peak)
    now = Episode(before.start, time, *peak)
    return Phase.ONGOING, now, now


def episode_of(table: SeriesTable, slot: int) -> Episode:
    """Return the episode of a series as the table holds it."""
    return Episode(
        table.episode_start.item(slot),
        table.episode_last.item(slot),
        table.episode_peak_time.item(slot),
        table.episode_peak.item(slot),
    )


def keep_episode(table: SeriesTable, slot: int, episode: Episode) -> None:
    """Write the episode of a series into the table."""
    table.episode_start[slot], table.episode_last[slot], table.episode_peak_time[slot], table.episode_peak[slot] = episode


def advance(
    table: SeriesTable, slot: int, time: int, score: float, *, anomalous: bool, holdoff: int
) -> tuple[Phase, int, int, float]:
    """Take one scored row of a series into account, as `follow` does; the table is changed.

    Returns:
        Phase, and of the episode the row belongs to or ends: start time, peak time (nanoseconds) and peak score.
    """
    phase, told, after = follow(episode_of(table, slot), time, score, anomalous=anomalous, holdoff=holdoff)
    if phase != Phase.NONE:
        keep_episode(table, slot, after)
    return phase, told.start, told.peak_time, told.peak


def advance_each(
    table: SeriesTable, slots: NDArray[np.intp], times: NDArray[np.int64], scores: Floats, anomalous: Bools, holdoff: int
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64], Floats]:
    """Take a row of each of n different series into account, as `advance` does, all arguments and results `(n,)`."""
    start, last = table.episode_start[slots], table.episode_last[slots]
    peak_time, peak = table.episode_peak_time[slots], table.episode_peak[slots]
    is_open = start != NO_TIME
    over = is_open & (times - last > holdoff)
    ends, begins = over & ~anomalous, anomalous & (over | ~is_open)
    higher = begins | (anomalous & (scores > peak))
    start, last = np.where(begins, times, start), np.where(anomalous, times, last)
    peak_time, peak = np.where(higher, times, peak_time), np.where(higher, scores, peak)
    table.episode_start[slots], table.episode_last[slots] = np.where(ends, NO_TIME, start), np.where(ends, NO_TIME, last)
    table.episode_peak_time[slots], table.episode_peak[slots] = np.where(ends, NO_TIME, peak_time), np.where(ends, 0.0, peak)
    phase = np.where(begins, Phase.STARTED, np.where(ends, Phase.ENDED, np.where(anomalous | is_open, Phase.ONGOING, Phase.NONE)))
    return phase.astype(np.int8), start, peak_time, peak
