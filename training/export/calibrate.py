"""Calibration of a graph on the parts of a series, or of a pool of them, for export and for doing it anew."""

from collections.abc import Sequence

from mods_grpc.artifact import Calibration
from mods_grpc.detection import Forecaster, calibrate
from training.data.pool import in_two
from training.data.series import Rows, Series
from training.data.time_range import nanoseconds


def calibrate_on(
    forecast: Forecaster, series: Series, training: Rows, calibration: Rows, *, rows: int, levels: Sequence[float] = ()
) -> Calibration:
    """Calibrate a model of windows of `rows` rows on a part of each series, knowing the part that it was fitted on.

    `levels` are those of its quantiles, where it was opened with intervals.

    Raises:
        DataError: Too little to calibrate on.
    """
    known, earlier, later = in_two(series, training, calibration, rows)
    return calibrate(
        forecast,
        nanoseconds(known.times),
        known.values,
        training=earlier,
        calibration=later,
        kinds=[feature.kind for feature in series.features],
        rows=rows,
        slide_seconds=series.slide_seconds,
        holdoff_rows=series.holdoff_rows,
        levels=levels,
    )
