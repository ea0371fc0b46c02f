"""From options to samples: reads the data, repairs it, splits it into parts and cuts it into windows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError
from training.data.panes.recovery import AUTO
from training.data.series import PartRows, Series
from training.data.source import SourceConfig, load_series
from training.data.windows import PARTS, Samples, make_samples, split_series
from training.network.config import ModelConfig

MIN_CALIBRATION_SAMPLES = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """A series, and the rows and samples of each part, by its name in `windows.PARTS`."""

    series: Series
    parts: Mapping[str, PartRows]
    samples: Mapping[str, Samples]

    def training_values(self) -> Floats:
        """Return the values of all rows that the training windows and targets touch, `(n, features)`."""
        train = self.samples["train"]
        touched = train.origins[:, None] + np.arange(-train.windows.shape[1], train.targets.shape[1])
        return self.series.values[np.unique(touched)]


def prepare_data(source: SourceConfig, model: ModelConfig) -> TrainingData:
    """Read the data, split it and cut it into samples.

    Raises:
        DataError: The data can't be read or split as the options say, or a part holds no window without missing values.
    """
    ranges = source.ranges()
    series = load_series(source, ranges.span)
    if model.transform == "log1p":
        _refuse_negative_values(series)
    if series.panes > model.rows and source.panes == AUTO:
        series = series.without_panes()
    elif series.panes > model.rows:
        raise DataError(
            f"sequence_len is {model.sequence_len}, and a window has {series.panes} panes; lengthen it or give no panes"
        )
    parts = split_series(series, ranges, model.rows, model.steps_ahead)
    samples = {name: make_samples(series, part, model.rows, model.steps_ahead) for name, part in parts.items()}
    for name in PARTS:
        if name in samples and not len(samples[name]):
            advice = "lengthen it, shorten --sequence-len, or fill longer gaps with --interpolate-limit"
            raise DataError(f"the {name} range holds no window without missing values; {advice}")
    return TrainingData(series=series, parts=parts, samples=samples)


def _refuse_negative_values(series: Series) -> None:
    lowest = np.nanmin(series.values, axis=0, initial=0.0)
    if negative := [f"{name} (down to {low:.6g})" for name, low in zip(series.names, lowest.tolist(), strict=True) if low < 0]:
        raise DataError(
            f"--transform log1p takes no values below 0, and there are some of {', '.join(negative)}; leave "
            f"{'it' if len(negative) == 1 else 'them'} out of the features, or give --transform none, which is for all of them"
        )


def list_warnings(source: SourceConfig, data: TrainingData) -> list[str]:
    """List what a user should know before trusting the result."""
    warnings = []
    ranges = {"validation": source.validation_time_range, "calibration": source.calibration_time_range}
    if derived := [name for name, text in ranges.items() if not text]:
        warnings.append(f"{' and '.join(derived)} cut from the end of the training range")
    calibration = len(data.samples["calibration"])
    if calibration < MIN_CALIBRATION_SAMPLES:
        warnings.append(
            f"only {calibration} calibration windows: p-values can't fall below 1/{calibration + 1} and are coarse; "
            f"{MIN_CALIBRATION_SAMPLES} or more are advised, from which smaller ones are extrapolated"
        )
    if "test" not in data.samples:
        warnings.append("no test range: no metrics")
    return warnings
