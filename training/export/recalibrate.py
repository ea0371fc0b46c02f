"""Calibration of a published model made anew: the same graph, another detector."""

from dataclasses import dataclass, replace

from mods_grpc.artifact import Artifact, Manifest
from mods_grpc.errors import DataError
from training.data.series import in_each
from training.data.source import SourceConfig, load
from training.data.time_range import Interval, parse_interval
from training.data.windows import split, time_range
from training.evaluation.scoring import Replay, replay
from training.export.calibrate import calibrate_on
from training.export.onnx_forecaster import open_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalibrated:
    """A model with another calibration: its manifest, and what the detector says of the test range, None without one."""

    manifest: Manifest
    replay: Replay | None


def recalibrate(artifact: Artifact, source: SourceConfig, *, version: int, calibration_time_range: str = "") -> Recalibrated:
    """Calibrate a model with what calibration is now, by the same kind of evidence.

    Args:
        artifact: The model.
        source: Where the data of its run is, read as its run read it.
        version: Of the result.
        calibration_time_range: A range after those that were fitted on; empty for that of the model. The training range
            must be in the data either way.

    Raises:
        DataError: The data is not that of the run, can't be cut, or the range is not after those that were fitted on.
    """
    manifest, forecast = artifact.manifest, open_model(artifact)
    interval = manifest.calibration.interval
    ranges, later = source.ranges(), None
    if calibration_time_range:
        later, ranges = parse_interval(calibration_time_range), replace(ranges, test=None)
    series = load(source, Interval(start=ranges.whole.start, end=max(ranges.whole.end, later.end)) if later else ranges.whole)
    parts = split(series, ranges, manifest.rows, manifest.horizon)
    if later:
        parts["calibration"] = in_each(series, series.slice(later))
        if parts["calibration"][0].start < parts["validation"][0].stop + manifest.rows + manifest.horizon:
            raise DataError("the calibration range must begin a window and a horizon after the ranges that were fitted on")
    elif series.digest != manifest.data_digest:
        raise DataError("the data is not that of the model's run; give --calibration-time-range to calibrate on other data")
    levels = interval.levels if interval else ()
    calibration = calibrate_on(forecast, series, parts["train"], parts["calibration"], rows=manifest.rows, levels=levels)
    where = time_range(series, parts["calibration"])
    made = replace(manifest, version=version, calibration=calibration, calibration_range=where)
    replayed = replay(made, forecast, series, parts["test"], made.false_alarms_per_day) if "test" in parts else None
    return Recalibrated(manifest=made, replay=replayed)
