"""Scoring: metrics of aligned forecasts, and a replay of a series through the detector that the server runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Floats
from mods_grpc.artifact import Manifest, Metric
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.detection import Detector, Forecaster, Monitor, Phase, Verdicts, significance_from_budget
from training.data.events import LabelledEvent
from training.data.series import PartRows, Series
from training.data.time_range import DateTimes, to_nanoseconds
from training.data.windows import Samples
from training.evaluation.metrics import compute_metrics

IMPUTE_ROWS = 3
CHUNK_ROWS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayedEpisode:
    """An episode of anomalous rows.

    Attributes:
        start: Start of the first window. peak_time: Start of the strongest window. end: Start of the last window.
        score: -log10 of the smallest p-value.
        reason: The feature with most of the evidence at the peak, and whether it was too high or too low.
    """

    start: np.datetime64
    peak_time: np.datetime64
    end: np.datetime64
    score: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The detector's results on a part of a series.

    Attributes:
        scored: Number of scored rows.
        days: Scored rows in days.
        p_values: `(scored,)`.
        episodes: The episodes.
    """

    scored: int
    days: float
    p_values: Floats
    episodes: tuple[ReplayedEpisode, ...]

    @property
    def episodes_per_day(self) -> float:
        """Episodes per day of scored rows."""
        return len(self.episodes) / self.days if self.days else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EventMatches:
    """How episodes match labelled events.

    Attributes:
        delays_minutes: By event, minutes from its start to the end of the first window of a matching episode; None if no
            episode matches.
        false_episodes: Number of episodes that match no event.
    """

    delays_minutes: tuple[int | None, ...]
    false_episodes: int


def match_events(episodes: Sequence[ReplayedEpisode], events: Sequence[LabelledEvent], window_seconds: int) -> EventMatches:
    """Match episodes with events: a match if the first window of the episode overlaps the event.

    A window that starts before an event holds part of it, and the drop when the event leaves the window counts too, so an
    episode that starts within a window's length after the event's end matches. An episode whose first window ended before
    the event began does not: it had another cause.
    """
    window = np.timedelta64(window_seconds, "s")
    delays: list[int | None] = []
    met: set[int] = set()
    for event in events:
        hits = [i for i, e in enumerate(episodes) if e.start + window > event.start and e.start < event.end + window]
        met |= set(hits)
        first = min((episodes[i].start for i in hits), default=None)
        delays.append(None if first is None else max(0, int((first + window - event.start) / np.timedelta64(1, "m"))))
    return EventMatches(delays_minutes=tuple(delays), false_episodes=len(episodes) - len(met))


def score_model(forecast: Forecaster, samples: Samples, series: Series, naive_error: Sequence[float]) -> tuple[Metric, ...]:
    """Compute the metrics of a model on samples, with persistence and the value one day before as references.

    Args:
        forecast: The model, with or without intervals.
        samples: The samples.
        series: The series that the samples are from.
        naive_error: MAE of persistence over one step on the training rows, by feature.
    """
    return score_forecasts(forecast(samples.windows, samples.times)[..., : len(series.names)], samples, series, naive_error)


def score_forecasts(forecasts: Floats, samples: Samples, series: Series, naive_error: Sequence[float]) -> tuple[Metric, ...]:
    """Compute the metrics of forecasts `(n, horizon, features)` of samples; the other arguments as for `score_model`."""
    season = DAY_SECONDS // series.slide_seconds
    seasonal = None
    if season * series.slide_seconds == DAY_SECONDS and season >= samples.targets.shape[1]:
        rows = samples.origins[:, None] + np.arange(samples.targets.shape[1]) - season
        seasonal = np.where((rows >= 0)[..., None], series.values[np.maximum(rows, 0)], np.nan)
    return compute_metrics(
        samples.targets,
        forecasts,
        samples.last,
        series.names,
        naive_error=np.asarray(naive_error, dtype=np.float64),
        seasonal=seasonal,
    )


def replay_detector(
    manifest: Manifest, forecast: Forecaster, series: Series, part: PartRows, false_alarms_per_day: float
) -> Replay:
    """Run the server's detector over a part as a stream with this budget does, warmed up with the rows before the part.

    The series of a pool are replayed one after another.

    Args:
        manifest: The model's manifest.
        forecast: The model.
        series: Raw values, NaN where missing.
        part: Rows to score.
        false_alarms_per_day: The budget.
    """
    detector = Detector.from_manifest(manifest)
    table = detector.table(manifest.rows)
    monitor = Monitor(
        detector,
        forecast,
        table,
        slide_seconds=manifest.slide_seconds,
        holdoff_rows=manifest.calibration.holdoff_rows,
        adapt=True,
    )
    level = significance_from_budget(false_alarms_per_day, manifest.slide_seconds, manifest.calibration)
    p_values: list[Floats] = []
    episodes: list[ReplayedEpisode] = []
    for cut in part:
        slot, first = table.allocate(), max(cut.start - manifest.rows, 0)
        present = np.flatnonzero(np.isfinite(series.rows[first : cut.stop]).any(axis=1)) + first
        for begin in range(0, len(present), CHUNK_ROWS):
            rows = present[begin : begin + CHUNK_ROWS]
            verdicts = monitor.observe(
                np.full(len(rows), slot, dtype=np.intp),
                to_nanoseconds(series.times[rows]),
                series.rows[rows],
                reported=rows >= cut.start,
                significance=level,
                impute_rows=IMPUTE_ROWS,
            )
            p_values.append(verdicts.p_value[np.isfinite(verdicts.p_value)])
            _collect_episodes(episodes, series.times[rows], verdicts, series.names)
    scored = np.concatenate(p_values) if p_values else np.empty(0)
    days = len(scored) * manifest.slide_seconds / DAY_SECONDS
    return Replay(scored=len(scored), days=days, p_values=scored, episodes=tuple(episodes))


def _collect_episodes(episodes: list[ReplayedEpisode], times: DateTimes, verdicts: Verdicts, names: Sequence[str]) -> None:
    """Append the episodes that start, and extend the open one."""
    for row in np.flatnonzero(verdicts.phase != Phase.NONE):
        open_episode = episodes.pop() if verdicts.phase[row] != Phase.STARTED and episodes else None
        peak_time = np.datetime64(int(verdicts.peak_time[row]) // NANOS_PER_SECOND, "s")
        reason = (
            open_episode.reason if open_episode and open_episode.peak_time == peak_time else _main_reason(verdicts, row, names)
        )
        episodes.append(
            ReplayedEpisode(
                start=open_episode.start if open_episode else times[row],
                peak_time=peak_time,
                end=times[row],
                score=float(verdicts.peak[row]),
                reason=reason,
            )
        )


def _main_reason(verdicts: Verdicts, row: np.intp, names: Sequence[str]) -> str:
    explanation = verdicts.explain(np.array([row]))
    first = int(np.argmax(np.nan_to_num(explanation.share[0])))
    direction = {1: " too high", -1: " too low"}.get(int(explanation.direction[0, first]), "")
    return names[first] + direction
