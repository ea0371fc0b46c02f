"""From options to samples: data read, repaired, cut into parts and windows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from training.data.series import Rows, Series
from training.data.source import SourceConfig, load
from training.data.windows import PARTS, Samples, split, take
from training.network.config import ModelConfig

LEAST_CALIBRATION_SAMPLES = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A series, the rows of its parts, and the samples of each, by name in `windows.PARTS`."""

    series: Series
    parts: Mapping[str, Rows]
    samples: Mapping[str, Samples]

    def training_values(self) -> NDArray[np.float64]:
        """Return all raw rows that the training windows and targets touch, `(n, features)`."""
        train = self.samples["train"]
        touched = train.origins[:, None] + np.arange(-train.windows.shape[1], train.targets.shape[1])
        return self.series.values[np.unique(touched)]


def prepare(source: SourceConfig, model: ModelConfig) -> Prepared:
    """Read data and cut it.

    Raises:
        DataError: The data can't be read or cut as the options say, or a part holds no window without missing values.
    """
    ranges = source.ranges()
    series = load(source, ranges.whole)
    if model.transform == "log1p" and bool((series.values < 0).any()):
        raise DataError("transform log1p takes no values below 0; use --transform none for this data")
    parts = split(series, ranges, model.rows, model.steps_ahead)
    samples = {name: take(series, part, model.rows, model.steps_ahead) for name, part in parts.items()}
    for name in PARTS:
        if name in samples and not len(samples[name]):
            raise DataError(f"the {name} range holds no window without missing values")
    return Prepared(series=series, parts=parts, samples=samples)


def warnings_about(source: SourceConfig, prepared: Prepared) -> list[str]:
    """Say what a user should know before believing the result."""
    told = []
    derived = [name for name, text in _derivable(source) if not text]
    if derived:
        told.append(f"{' and '.join(derived)} cut from the end of the training range")
    calibration = len(prepared.samples["calibration"])
    if calibration < LEAST_CALIBRATION_SAMPLES:
        told.append(
            f"only {calibration} calibration windows: p-values can't fall below 1/{calibration + 1} and are coarse; "
            f"{LEAST_CALIBRATION_SAMPLES} or more are advised"
        )
    if "test" not in prepared.samples:
        told.append("no test range: no metrics")
    return told


def _derivable(source: SourceConfig) -> tuple[tuple[str, str], ...]:
    return (("validation", source.validation_time_range), ("calibration", source.calibration_time_range))
