"""The evaluation of a published model on a range of data, and its form as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.artifact import Manifest, Metric
from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.detection import Detector, Forecaster
from mods_grpc.errors import DataError
from training.data.events import LabelledEvent
from training.data.series import Series
from training.data.time_range import Interval
from training.data.windows import Samples, make_samples
from training.evaluation.baselines import Baseline, fit_baselines, make_persistence, make_seasonal
from training.evaluation.intervals import (
    CURVE_COVERAGES,
    Coverage,
    Crps,
    measure_coverage,
    measure_crps,
    track_quantiles,
)
from training.evaluation.metrics import find_metric, geometric_mean
from training.evaluation.scoring import EventMatches, Replay, match_events, replay_detector, score_forecasts
from training.evaluation.worst_hours import WorstHour, find_worst_hours

SCHEMA = 1
P_VALUE_BINS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A model on a range of data.

    Attributes:
        manifest: The model's manifest.
        interval: The range. series: The data, with rows before the range. samples: The samples of the range.
        forecasts: `(n, horizon, outputs * features)`: the forecast, followed by the ends of its interval if the model has one.
        detector: The model's detector, which gives the conformal intervals.
        metrics: The model's metrics. baselines: Metrics by name of the baseline, on the same samples.
        coverage: Coverage of the calibration's intervals at several nominal coverages.
        own_coverage: Coverage of the series' own intervals, at the reported ones. crps: CRPS of both.
        budget: False alarms per day that the detector was given. replay: Its alerts.
        events: Labelled events in the range. event_matches: Which episodes matched them.
        hours: The hours of the worst forecasts, one step ahead.
        notes: Remarks for the reader.
    """

    manifest: Manifest
    interval: Interval
    series: Series
    samples: Samples
    forecasts: Floats
    detector: Detector
    metrics: tuple[Metric, ...]
    baselines: Mapping[str, tuple[Metric, ...]]
    coverage: tuple[Coverage, ...]
    own_coverage: tuple[Coverage, ...]
    crps: tuple[Crps, ...]
    budget: float
    replay: Replay
    events: tuple[LabelledEvent, ...]
    event_matches: EventMatches
    hours: tuple[WorstHour, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return self.series.names

    def mean_skill(self, metrics: Sequence[Metric], step: int) -> float:
        """Return the MAE relative to persistence, averaged geometrically over features; NaN if it is not defined."""
        return geometric_mean(metrics, "RELATIVE_MAE", step)

    def coverage_of(self, feature: str, step: int, nominal: float) -> Coverage:
        """Return the coverage of one feature, step and nominal coverage."""
        return next(c for c in self.coverage if (c.feature, c.step, c.nominal) == (feature, step, nominal))

    def own_coverage_of(self, feature: str, step: int, nominal: float) -> Coverage:
        """Return the same of the series' own intervals."""
        return next(c for c in self.own_coverage if (c.feature, c.step, c.nominal) == (feature, step, nominal))

    def to_tree(self) -> dict[str, Any]:
        """Return the form for JSON. Numbers that are not finite become None."""
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
            "own_coverage": [dataclasses.asdict(entry) for entry in self.own_coverage],
            "crps": [dataclasses.asdict(entry) for entry in self.crps],
            "detector": {
                "false_alarms_per_day": self.budget,
                "days": self.replay.days,
                "episodes": [{k: str(v) for k, v in dataclasses.asdict(e).items()} for e in self.replay.episodes],
                "episodes_per_day": self.replay.episodes_per_day,
                "p_values": {"edges": edges.tolist(), "counts": counts.tolist()},
                "events": len(self.events),
                "events_found": sum(delay is not None for delay in self.event_matches.delays_minutes),
                "false_episodes": self.event_matches.false_episodes if self.events else None,
            },
            "worst_hours": [{**dataclasses.asdict(hour), "start": str(hour.start)} for hour in self.hours],
        }
        plain: dict[str, Any] = to_jsonable(tree, non_finite_as_null=True)
        return plain

    def to_json(self) -> str:
        """Return the evaluation as JSON text."""
        return json.dumps(self.to_tree(), indent=1, allow_nan=False) + "\n"


def evaluate_model(
    manifest: Manifest,
    forecast: Forecaster,
    series: Series,
    interval: Interval,
    *,
    false_alarms_per_day: float,
    fitting: Interval | None,
    events: Sequence[LabelledEvent] = (),
) -> Evaluation:
    """Evaluate a model on a range of a series.

    Args:
        manifest: The model's manifest.
        forecast: The model's graph.
        series: The data, with rows before the range for the baselines to learn from.
        interval: The range.
        false_alarms_per_day: Budget of the detector.
        fitting: Range that the baselines learn from: from the start of the model's training range to the end of its validation
            range. If None, or if the series does not hold it, baselines that learn are left out.
        events: Labelled events in the range.

    Raises:
        DataError: The data has other features than the model, or no window without missing values in the range.
    """
    if series.names != [feature.name for feature in manifest.features]:
        raise DataError(f"the data has the features {series.names}, the model {[f.name for f in manifest.features]}")
    part = (series.slice(interval),)
    samples = make_samples(series, part, manifest.rows, manifest.horizon)
    if not len(samples):
        raise DataError(f"no windows without missing values in {interval}")
    forecasts = forecast(samples.windows, samples.times)
    expected = forecasts[..., : len(series.names)]
    unit = persistence_error(manifest)
    notes: list[str] = []
    baselines = _fit_baselines(manifest, series, fitting, notes)
    detector = Detector.from_manifest(manifest)
    quantiles = track_quantiles(detector, samples.origins, samples.targets, forecasts)
    replayed = replay_detector(manifest, forecast, series, part, false_alarms_per_day)
    return Evaluation(
        manifest=manifest,
        interval=interval,
        series=series,
        samples=samples,
        forecasts=forecasts,
        detector=detector,
        metrics=score_forecasts(expected, samples, series, unit),
        baselines={
            str(baseline): score_forecasts(baseline.forecast(series, samples.origins), samples, series, unit)
            for baseline in baselines
        },
        coverage=measure_coverage(
            detector, samples.targets, forecasts, series.names, sorted({*CURVE_COVERAGES, 0.8, 0.95, 0.99})
        ),
        own_coverage=measure_coverage(detector, samples.targets, forecasts, series.names, quantiles=quantiles),
        crps=measure_crps(detector, samples.targets, forecasts, samples.last, series.names, quantiles),
        budget=false_alarms_per_day,
        replay=replayed,
        events=tuple(events),
        event_matches=match_events(replayed.episodes, events, manifest.window_seconds),
        hours=find_worst_hours(series.times[samples.origins], samples.targets[:, 0], expected[:, 0], series.names),
        notes=tuple(notes),
    )


def persistence_error(manifest: Manifest) -> list[float]:
    """Return the unit of MASE by feature, derived from the manifest's metrics; NaN, so that there is no MASE, without them."""
    units = []
    for feature in manifest.features:
        error, scaled = (find_metric(manifest.metrics, metric, feature.name, 1) for metric in ("MAE", "MASE"))
        units.append(error.persistence / scaled.persistence if error and scaled and scaled.persistence else math.nan)
    return units


def _fit_baselines(manifest: Manifest, series: Series, fitting: Interval | None, notes: list[str]) -> tuple[Baseline, ...]:
    """Fit the baselines if the series holds the range to learn from, else return those that don't learn and add a note."""
    try:
        if fitting is None:
            raise DataError("none given")
        rows = series.slice(fitting)
        validation_rows = max(manifest.validation_range.rows, manifest.horizon + 1)
        cut = rows.stop - validation_rows
        train = make_samples(
            series, (slice(rows.start, cut - manifest.rows - manifest.horizon),), manifest.rows, manifest.horizon
        )
        validation = make_samples(series, (slice(cut, rows.stop),), manifest.rows, manifest.horizon)
        if not (len(train) and len(validation)):
            raise DataError("too few windows")
    except DataError as error:
        notes.append(f"no data of the training range ({error.message}): ridge is left out, the season is a day by default")
        day = max(1, DAY_SECONDS // series.slide_seconds)
        return (make_persistence(manifest.horizon), make_seasonal("day", day, manifest.horizon))
    return fit_baselines(series, train, validation)
