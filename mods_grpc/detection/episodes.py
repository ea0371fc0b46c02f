"""Episodes: consecutive anomalous rows within a hold-off are one alarm with a start, a peak and an end.

Windows overlap, so one burst sits in several rows; the hold-off is the number of rows that share it.
"""

from enum import IntEnum

from mods_grpc.detection.series import NO_TIME, SeriesTable


class Phase(IntEnum):
    """Where an observation stands in an episode."""

    NONE = 0
    STARTED = 1
    ONGOING = 2
    ENDED = 3


def advance(
    table: SeriesTable, slot: int, time: int, score: float, *, anomalous: bool, holdoff: int
) -> tuple[Phase, int, int, float]:
    """Take one scored row into account.

    Args:
        table: State of all series; the episode of `slot` is changed.
        slot: The series.
        time: The row's time in nanoseconds, after that of every row before.
        score: -log10 of its p-value.
        anomalous: Whether it is anomalous.
        holdoff: Nanoseconds without an anomalous row that end an episode.

    Returns:
        Phase, and of the episode the row belongs to or ends: start time, peak time (nanoseconds) and peak score.
    """
    start = int(table.episode_start[slot])
    is_open = start != NO_TIME
    if not is_open and not anomalous:
        return Phase.NONE, NO_TIME, NO_TIME, 0.0
    over = is_open and time - int(table.episode_last[slot]) > holdoff
    if not anomalous:
        ended = (start, int(table.episode_peak_time[slot]), float(table.episode_peak[slot]))
        if over:
            table.episode_start[slot] = table.episode_last[slot] = table.episode_peak_time[slot] = NO_TIME
            table.episode_peak[slot] = 0.0
        return (Phase.ENDED if over else Phase.ONGOING, *ended)
    phase = Phase.ONGOING
    if not is_open or over:
        phase, start = Phase.STARTED, time
        table.episode_start[slot] = time
        table.episode_peak[slot] = -1.0
    table.episode_last[slot] = time
    if score > table.episode_peak[slot]:
        table.episode_peak[slot] = score
        table.episode_peak_time[slot] = time
    return phase, start, int(table.episode_peak_time[slot]), float(table.episode_peak[slot])
