"""Calibration of the detector for a graph: at export, and again later for a published model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mods_grpc.artifact import Artifact, Calibration, Manifest
from mods_grpc.data.units import BYTES_PER_UNIT
from mods_grpc.detection import Forecaster, PaneSums, calibrate
from mods_grpc.errors import DataError
from training.data.pool import join_parts
from training.data.series import PartRows, Series, per_series
from training.data.source import SourceConfig, load_series
from training.data.time_range import Interval, parse_interval, to_nanoseconds
from training.data.windows import describe_range, split_series
from training.evaluation.scoring import Replay, replay_detector
from training.export.onnx_forecaster import open_model

SMALL_BYTES = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalibration:
    """A model with a new calibration.

    Attributes:
        manifest: The manifest with the new calibration and version.
        replay: The detector's alerts on the test range; None without a test range.
    """

    manifest: Manifest
    replay: Replay | None


def calibrate_parts(
    forecast: Forecaster, series: Series, training: PartRows, calibration: PartRows, *, rows: int, levels: Sequence[float] = ()
) -> Calibration:
    """Calibrate the detector of a model on a part of a series, or of each series of a pool.

    Args:
        forecast: The model; opened with intervals if it has quantiles.
        series: The data.
        training: The part that the model was fitted on.
        calibration: The part to calibrate on.
        rows: Rows of a window.
        levels: Levels of the model's quantiles, if it has any.

    Raises:
        DataError: Too little data to calibrate on.
    """
    joined = join_parts(series, training, calibration, rows)
    return calibrate(
        forecast,
        to_nanoseconds(joined.series.times),
        joined.series.rows,
        training=joined.earlier,
        calibration=joined.later,
        kinds=[feature.kind for feature in series.features],
        rows=rows,
        slide_seconds=series.slide_seconds,
        holdoff_rows=series.holdoff_rows,
        levels=levels,
        small_values=[find_small_value(feature.unit) for feature in series.features],
        members=joined.members,
        panes=PaneSums([feature.pane for feature in series.features], series.panes) if series.panes else None,
    )


def find_small_value(unit: str) -> float:
    """Return the value of a feature in this unit below which differences mean little: a kilobyte, or one of anything else."""
    return SMALL_BYTES / BYTES_PER_UNIT.get(unit, 1.0) if unit == "B" or unit in BYTES_PER_UNIT else 1.0


def recalibrate(artifact: Artifact, source: SourceConfig, *, version: int, calibration_time_range: str = "") -> Recalibration:
    """Calibrate a published model again: the same graph and the same kind of evidence, with the current calibration code.

    Args:
        artifact: The model.
        source: The data, with the options of its training run.
        version: Version of the result.
        calibration_time_range: A range after the training and validation ranges; empty for the model's own calibration range.
            The training range must be in the data in both cases.

    Raises:
        DataError: The data is not that of the training run, can't be split, or the range is not after those that were fitted on.
    """
    manifest, forecast = artifact.manifest, open_model(artifact)
    if manifest.hyper_parameters.get("refit") == "all" and not calibration_time_range:
        raise DataError("the model was refitted on its calibration range; give --calibration-time-range with a later one")
    ranges, later = source.ranges(), None
    if calibration_time_range:
        later, ranges = parse_interval(calibration_time_range), replace(ranges, test=None)
    series = load_series(source, Interval(start=ranges.span.start, end=max(ranges.span.end, later.end)) if later else ranges.span)
    parts = split_series(series, ranges, manifest.rows, manifest.horizon)
    if later:
        parts["calibration"] = per_series(series, series.slice(later))
        if parts["calibration"][0].start < parts["validation"][0].stop + manifest.rows + manifest.horizon:
            raise DataError("the calibration range must begin a window and a horizon after the ranges that were fitted on")
    elif series.digest != manifest.data_digest:
        raise DataError("the data is not that of the model's run; give --calibration-time-range to calibrate on other data")
    interval = manifest.calibration.interval
    levels = interval.levels if interval else ()
    calibration = calibrate_parts(forecast, series, parts["train"], parts["calibration"], rows=manifest.rows, levels=levels)
    calibration_range = describe_range(series, parts["calibration"])
    recalibrated = replace(manifest, version=version, calibration=calibration, calibration_range=calibration_range)
    replay = None
    if "test" in parts:
        replay = replay_detector(recalibrated, forecast, series, parts["test"], recalibrated.false_alarms_per_day)
    return Recalibration(manifest=recalibrated, replay=replay)
