"""The open episodes of the series of a table: their start and peak, updated row by row by the episode rule."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.episode_rule import Phase, next_phase, next_phases
from mods_grpc.array_types import Bools, Floats, Indices, Times
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable


class Episode(NamedTuple):
    """The open episode of a series; NOT_OPEN if there is none.

    `start`, `last` and `peak_time` are the times of its first and last anomalous row and of the row of the highest score, in
    nanoseconds; `peak` is that score.
    """

    start: int
    last: int
    peak_time: int
    peak: float


NOT_OPEN = Episode(NO_TIME, NO_TIME, NO_TIME, 0.0)


def update(episode: Episode, time: int, score: float, *, anomalous: bool, holdoff: int) -> tuple[Phase, Episode, Episode]:
    """Apply one scored row to the episode of its series.

    Args:
        episode: The open episode of the series, or NOT_OPEN.
        time: Time of the row in nanoseconds, later than every row before.
        score: -log10 of its p-value.
        anomalous: Whether the row is anomalous.
        holdoff: Nanoseconds without an anomalous row that end an episode.

    Returns:
        The phase, the episode that the row belongs to or ends, and the episode that is open afterwards.
    """
    since_anomalous = None if episode.start == NO_TIME else time - episode.last
    phase = next_phase(since_anomalous, holdoff, anomalous=anomalous)
    if phase == Phase.STARTED:
        started = Episode(time, time, time, score)
        return phase, started, started
    if phase == Phase.ENDED:
        return phase, episode, NOT_OPEN
    if not anomalous:
        return phase, episode, episode
    peak = (time, score) if score > episode.peak else (episode.peak_time, episode.peak)
    ongoing = Episode(episode.start, time, *peak)
    return phase, ongoing, ongoing


def episode_of(table: SeriesTable, slot: int) -> Episode:
    """Return the episode of a series from the table."""
    return Episode(
        table.episode_start.item(slot),
        table.episode_last.item(slot),
        table.episode_peak_time.item(slot),
        table.episode_peak.item(slot),
    )


def store_episode(table: SeriesTable, slot: int, episode: Episode) -> None:
    """Write the episode of a series to the table."""
    table.episode_start[slot], table.episode_last[slot], table.episode_peak_time[slot], table.episode_peak[slot] = episode


def advance(
    table: SeriesTable, slot: int, time: int, score: float, *, anomalous: bool, holdoff: int
) -> tuple[Phase, int, int, float]:
    """Apply one scored row to the episode of its series in the table, as `update` does.

    Returns:
        The phase, and of the episode that the row belongs to or ends: start time, peak time (nanoseconds) and peak score.
    """
    phase, current, open_episode = update(episode_of(table, slot), time, score, anomalous=anomalous, holdoff=holdoff)
    if phase != Phase.NONE:
        store_episode(table, slot, open_episode)
    return phase, current.start, current.peak_time, current.peak


def advance_each(
    table: SeriesTable, slots: Indices, times: Times, scores: Floats, anomalous: Bools, holdoff: int
) -> tuple[NDArray[np.int8], Times, Times, Floats]:
    """Apply one row of each of n different series, as `advance` does; all arguments and results `(n,)`."""
    start, last = table.episode_start[slots], table.episode_last[slots]
    peak_time, peak = table.episode_peak_time[slots], table.episode_peak[slots]
    phase = next_phases(start != NO_TIME, times - last, holdoff, anomalous)
    started, ended = phase == Phase.STARTED, phase == Phase.ENDED
    is_peak = started | (anomalous & (scores > peak))
    start, last = np.where(started, times, start), np.where(anomalous, times, last)
    peak_time, peak = np.where(is_peak, times, peak_time), np.where(is_peak, scores, peak)
    table.episode_start[slots], table.episode_last[slots] = np.where(ended, NO_TIME, start), np.where(ended, NO_TIME, last)
    table.episode_peak_time[slots], table.episode_peak[slots] = np.where(ended, NO_TIME, peak_time), np.where(ended, 0.0, peak)
    return phase, start, peak_time, peak
