"""Everything `evaluate` finds out about a published model on a range of data, and its form as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact import Manifest, Metric
from mods_grpc.artifact.manifest import DAY_SECONDS
from mods_grpc.detection import Detector, Forecaster
from mods_grpc.errors import DataError
from training.data.events import Event
from training.data.series import Series
from training.data.time_range import Interval
from training.data.windows import Samples, take
from training.evaluation.baselines import Baseline, fit_baselines, make_persistence, make_seasonal
from training.evaluation.intervals import CURVE, Coverage, measure_coverage
from training.evaluation.metrics import find, geometric_mean
from training.evaluation.scoring import Findings, Replay, found_events, replay, score_forecasts
from training.evaluation.worst_hours import WorstHour, worst_hours

SCHEMA = 1
P_VALUE_BINS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A model on a range of data.

    Attributes:
        manifest: Of the model.
        interval: The range. series: The data, with what lies before the range. samples: The windows of the range.
        made: `(n, horizon, told * features)`, what was forecast: the forecasts, and their intervals where the model has them.
        detector: For intervals.
        metrics: Of the model. baselines: Metrics by name of the baseline, on the same windows.
        coverage: Of intervals at several nominal coverages.
        budget: False alarms a day that the detector was given. replay: What it said.
        events: Labelled events in the range. findings: How the episodes met them.
        hours: The worst, one step ahead.
        notes: What a reader should know.
    """

    manifest: Manifest
    interval: Interval
    series: Series
    samples: Samples
    made: NDArray[np.float64]
    detector: Detector
    metrics: tuple[Metric, ...]
    baselines: Mapping[str, tuple[Metric, ...]]
    coverage: tuple[Coverage, ...]
    budget: float
    replay: Replay
    events: tuple[Event, ...]
    findings: Findings
    hours: tuple[WorstHour, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return self.series.names

    def mean_skill(self, metrics: Sequence[Metric], step: int) -> float:
        """Return the MAE relative to no change, averaged geometrically over features; NaN where it is not defined."""
        return geometric_mean(metrics, "RELATIVE_MAE", step)

    def covered(self, feature: str, step: int, nominal: float) -> Coverage:
        """Return one measured coverage."""
        return next(c for c in self.coverage if (c.feature, c.step, c.nominal) == (feature, step, nominal))

    def tree(self) -> dict[str, Any]:
        """Make the form for JSON: numbers that are not finite are null."""
        manifest = self.manifest
        counts, edges = np.histogram(self.replay.p_values, bins=P_VALUE_BINS, range=(0, 1))
        tree = {
            "schema": SCHEMA,
            "model": manifest.name,
            "version": manifest.version,
            "architecture": manifest.architecture,
            "start": str(self.interval.start),
            "end": str(self.interval.end),
            "windows": len(self.samples),
            "notes": list(self.notes),
            "data": dataclasses.asdict(self.series.report),
            "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
            "baselines": {name: [dataclasses.asdict(m) for m in metrics] for name, metrics in self.baselines.items()},
            "relative_mae_geometric_mean": {
                name: [self.mean_skill(metrics, step + 1) for step in range(manifest.horizon)]
                for name, metrics in {"model": self.metrics, **self.baselines}.items()
            },
            "coverage": [dataclasses.asdict(entry) for entry in self.coverage],
            "detector": {
                "false_alarms_per_day": self.budget,
                "days": self.replay.days,
                "episodes": [{k: str(v) for k, v in dataclasses.asdict(e).items()} for e in self.replay.episodes],
                "episodes_per_day": self.replay.episodes_per_day,
                "p_values": {"edges": edges.tolist(), "counts": counts.tolist()},
                "events": len(self.events),
                "events_found": sum(delay is not None for delay in self.findings.delays_minutes),
                "false_episodes": self.findings.false_episodes if self.events else None,
            },
            "worst_hours": [{**dataclasses.asdict(hour), "start": str(hour.start)} for hour in self.hours],
        }
        plain: dict[str, Any] = finite(tree)
        return plain

    def text(self) -> str:
        """Write it as JSON."""
        return json.dumps(self.tree(), indent=1, allow_nan=False) + "\n"


def evaluate_model(
    manifest: Manifest,
    forecast: Forecaster,
    series: Series,
    interval: Interval,
    *,
    false_alarms_per_day: float,
    fitting: Interval | None,
    events: Sequence[Event] = (),
) -> Evaluation:
    """Evaluate a model on a range of a series.

    Args:
        manifest: Of the model.
        forecast: Its graph.
        series: Data, from before the range: the baselines take what they learn from it.
        interval: The range.
        false_alarms_per_day: Budget of the detector.
        fitting: What the baselines learn from: the model's training range and on to the end of its validation range.
            None, or a range the series does not hold, leaves out those that learn.
        events: Labelled events in the range.

    Raises:
        DataError: The data has other features than the model, or no whole window in the range.
    """
    if series.names != [feature.name for feature in manifest.features]:
        raise DataError(f"the data has the features {series.names}, the model {[f.name for f in manifest.features]}")
    part = (series.slice(interval),)
    samples = take(series, part, manifest.rows, manifest.horizon)
    if not len(samples):
        raise DataError(f"no windows without missing values in {interval}")
    made = forecast(samples.windows, samples.times)
    expected = made[..., : len(series.names)]
    unit = naive_error(manifest)
    notes: list[str] = []
    baselines = _baselines(manifest, series, fitting, notes)
    detector = Detector.from_manifest(manifest)
    replayed = replay(manifest, forecast, series, part, false_alarms_per_day)
    return Evaluation(
        manifest=manifest,
        interval=interval,
        series=series,
        samples=samples,
        made=made,
        detector=detector,
        metrics=score_forecasts(expected, samples, series, unit),
        baselines={
            str(baseline): score_forecasts(baseline.forecast(series, samples.origins), samples, series, unit)
            for baseline in baselines
        },
        coverage=measure_coverage(detector, samples.targets, made, series.names, sorted({*CURVE, 0.8, 0.95, 0.99})),
        budget=false_alarms_per_day,
        replay=replayed,
        events=tuple(events),
        findings=found_events(replayed.episodes, events, manifest.window_seconds),
        hours=worst_hours(series.times[samples.origins], samples.targets[:, 0], expected[:, 0], series.names),
        notes=tuple(notes),
    )


def naive_error(manifest: Manifest) -> list[float]:
    """Return the unit of MASE as far as the manifest's metrics tell it; NaN, so no MASE, where they do not."""
    units = []
    for feature in manifest.features:
        error, scaled = (find(manifest.metrics, metric, feature.name, 1) for metric in ("MAE", "MASE"))
        units.append(error.persistence / scaled.persistence if error and scaled and scaled.persistence else math.nan)
    return units


def _baselines(manifest: Manifest, series: Series, fitting: Interval | None, notes: list[str]) -> tuple[Baseline, ...]:
    """Fit the baselines where the series holds the range to learn from, else take those that need none."""
    try:
        if fitting is None:
            raise DataError("there is none")
        rows = series.slice(fitting)
        validation_rows = max(manifest.validation_range.rows, manifest.horizon + 1)
        cut = rows.stop - validation_rows
        train = take(series, (slice(rows.start, cut - manifest.rows - manifest.horizon),), manifest.rows, manifest.horizon)
        validation = take(series, (slice(cut, rows.stop),), manifest.rows, manifest.horizon)
        if not (len(train) and len(validation)):
            raise DataError("too few windows")
    except DataError as error:
        notes.append(f"no data of the training range ({error.message}): ridge is left out, the season is a day unchosen")
        day = max(1, DAY_SECONDS // series.slide_seconds)
        return (make_persistence(manifest.horizon), make_seasonal("day", day, manifest.horizon))
    return fit_baselines(series, train, validation)


def finite(tree: Any) -> Any:
    """Put None in place of numbers that JSON has no form for."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
