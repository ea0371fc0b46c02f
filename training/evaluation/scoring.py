"""Evaluation: aligned metrics on a part of the data, and a replay through the detector that the server runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import Manifest, Metric
from mods_grpc.artifact.manifest import DAY_SECONDS
from mods_grpc.detection import Detector, Forecaster, Monitor, Phase, Verdicts, significance_from_budget
from training.data.events import Event
from training.data.series import Rows, Series
from training.data.time_range import DateTimes, nanoseconds
from training.data.windows import Samples
from training.evaluation.metrics import score

IMPUTE_ROWS = 3
ROWS_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """An alarm.

    Attributes:
        start: Of the first window. peak_time: Start of the strongest. end: Start of the last.
        score: -log10 of the smallest p-value.
        reason: The feature that most of the evidence at the peak comes from, and whether it was too high or too low.
    """

    start: np.datetime64
    peak_time: np.datetime64
    end: np.datetime64
    score: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What the detector says of a part of a series.

    Attributes:
        scored: Rows that were scored.
        days: What they span, in days of scored rows.
        p_values: `(scored,)`.
        episodes: The alarms.
    """

    scored: int
    days: float
    p_values: NDArray[np.float64]
    episodes: tuple[Episode, ...]

    @property
    def episodes_per_day(self) -> float:
        """Alarms per day of scored rows."""
        return len(self.episodes) / self.days if self.days else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """How episodes meet labelled events.

    Attributes:
        delays_minutes: By event, minutes from its start to the end of the first window that raised an alarm; None
            where none did.
        false_episodes: Episodes that meet no event.
    """

    delays_minutes: tuple[int | None, ...]
    false_episodes: int


def found_events(episodes: Sequence[Episode], events: Sequence[Event], window_seconds: int) -> Findings:
    """Match episodes with events. Both meet when the window that raised the episode shares time with the event.

    An hour's window that starts before an event holds part of it, and the fall when the event leaves the window is part
    of it too, so an episode that starts within a window's length after the end meets the event. One that was raised
    before the event began does not: it had another cause.
    """
    window = np.timedelta64(window_seconds, "s")
    delays: list[int | None] = []
    met: set[int] = set()
    for event in events:
        hits = [i for i, e in enumerate(episodes) if e.start + window > event.start and e.start < event.end + window]
        met |= set(hits)
        first = min((episodes[i].start for i in hits), default=None)
        delays.append(None if first is None else max(0, int((first + window - event.start) / np.timedelta64(1, "m"))))
    return Findings(delays_minutes=tuple(delays), false_episodes=len(episodes) - len(met))


def evaluate(forecast: Forecaster, samples: Samples, series: Series, naive_error: Sequence[float]) -> tuple[Metric, ...]:
    """Score forecasts of samples beside persistence, and beside the value one day before.

    Args:
        forecast: The model, with or without intervals.
        samples: Windows and what followed them.
        series: The series that the samples were taken from.
        naive_error: MAE of no change over one step on the training rows, by feature.
    """
    return score_forecasts(forecast(samples.windows, samples.times)[..., : len(series.names)], samples, series, naive_error)


def score_forecasts(
    made: NDArray[np.float64], samples: Samples, series: Series, naive_error: Sequence[float]
) -> tuple[Metric, ...]:
    """Score forecasts `(n, horizon, features)` that were made for samples; the other arguments as for `evaluate`."""
    season = DAY_SECONDS // series.slide_seconds
    seasonal = None
    if season * series.slide_seconds == DAY_SECONDS and season >= samples.targets.shape[1]:
        rows = samples.origins[:, None] + np.arange(samples.targets.shape[1]) - season
        seasonal = np.where((rows >= 0)[..., None], series.values[np.maximum(rows, 0)], np.nan)
    return score(
        samples.targets,
        made,
        samples.windows,
        series.names,
        naive_error=np.asarray(naive_error, dtype=np.float64),
        seasonal=seasonal,
    )


def replay(manifest: Manifest, forecast: Forecaster, series: Series, part: Rows, false_alarms_per_day: float) -> Replay:
    """Run the server's detector over a part, warmed up with the rows before it, as a stream with this budget does.

    The series of a pool are replayed one after another.

    Args:
        manifest: Of the model.
        forecast: The model.
        series: Raw values, NaN where missing.
        part: Rows to judge, by series.
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
    level = significance_from_budget(false_alarms_per_day, manifest.slide_seconds, manifest.calibration.extremal_index)
    p_values: list[NDArray[np.float64]] = []
    episodes: list[Episode] = []
    for cut in part:
        slot, first = table.allocate(), max(cut.start - manifest.rows, 0)
        present = np.flatnonzero(np.isfinite(series.values[first : cut.stop]).any(axis=1)) + first
        for begin in range(0, len(present), ROWS_AT_ONCE):
            rows = present[begin : begin + ROWS_AT_ONCE]
            verdicts = monitor.observe(
                np.full(len(rows), slot, dtype=np.intp),
                nanoseconds(series.times[rows]),
                series.values[rows],
                judged=rows >= cut.start,
                significance=level,
                impute_rows=IMPUTE_ROWS,
            )
            p_values.append(verdicts.p_value[np.isfinite(verdicts.p_value)])
            _collect(episodes, series.times[rows], verdicts, series.names)
    scored = np.concatenate(p_values) if p_values else np.empty(0)
    days = len(scored) * manifest.slide_seconds / DAY_SECONDS
    return Replay(scored=len(scored), days=days, p_values=scored, episodes=tuple(episodes))


def _collect(episodes: list[Episode], times: DateTimes, verdicts: Verdicts, names: Sequence[str]) -> None:
    """Append the episodes that start and extend the one that goes on."""
    for row in np.flatnonzero(verdicts.phase != Phase.NONE):
        before = episodes.pop() if verdicts.phase[row] != Phase.STARTED and episodes else None
        peak_time = np.datetime64(int(verdicts.peak_time[row]) // NANOS_PER_SECOND, "s")
        reason = before.reason if before and before.peak_time == peak_time else _reason(verdicts, row, names)
        episodes.append(
            Episode(
                start=before.start if before else times[row],
                peak_time=peak_time,
                end=times[row],
                score=float(verdicts.peak[row]),
                reason=reason,
            )
        )


def _reason(verdicts: Verdicts, row: np.intp, names: Sequence[str]) -> str:
    why = verdicts.explain(np.array([row]))
    first = int(np.argmax(np.nan_to_num(why.share[0])))
    told = {1: " too high", -1: " too low"}.get(int(why.direction[0, first]), "")
    return names[first] + told
