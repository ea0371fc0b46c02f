"""Where a run's data comes from, as frozen options that can be read again."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mods_grpc.artifact import Manifest
from mods_grpc.errors import DataError
from training.datapool import read_datapool
from training.query import DEFAULT_QUERY, parse_query
from training.series import Series
from training.table import read_table
from training.timerange import Interval, parse_interval, parse_intervals
from training.windows import Ranges

DEFAULT_WINDOW_SLIDE = "w01h-s10m"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Data options, as text, under their names on the command line; empty text means not given.

    Attributes:
        datapool: Root of a MODS datapool. csv: A plain table instead; one of the two.
        time_column: Column of times of the table. features: `name` or `name:kind`, comma-separated, of the table.
        data_select_query: What is read of the datapool, and what the table's columns mean.
        window_slide: Such as `w01h-s10m`; empty means that for a datapool, and the table's own step for a table.
        train_time_range, train_time_ranges_excluded, validation_time_range, calibration_time_range, test_time_range,
        test_time_ranges_excluded: Ranges of time; see `timerange` and `windows.Ranges`.
        zero_fill: Features, comma-separated, whose empty cells mean "no event".
        interpolate: Whether gaps of at most `interpolate_limit` rows are filled linearly. Longer ones stay missing.
    """

    datapool: str = ""
    csv: str = ""
    time_column: str = "window_start"
    features: str = ""
    data_select_query: str = DEFAULT_QUERY
    window_slide: str = ""
    train_time_range: str
    train_time_ranges_excluded: str = ""
    validation_time_range: str = ""
    calibration_time_range: str = ""
    test_time_range: str = ""
    test_time_ranges_excluded: str = ""
    validation_share: float = 0.15
    calibration_share: float = 0.25
    zero_fill: str = ""
    interpolate: bool = True
    interpolate_limit: int = 3

    def __post_init__(self) -> None:
        if bool(self.datapool) == bool(self.csv):
            raise DataError("give either --datapool or --csv")
        if self.interpolate_limit < 0:
            raise DataError(f"interpolate_limit is {self.interpolate_limit}, expected 0 or more")

    @classmethod
    def of_model(cls, manifest: Manifest, options: Mapping[str, object]) -> "SourceConfig":
        """Read data as a published model's run did, with whatever `options` say otherwise; None and "" say nothing.

        Raises:
            DataError: The options contradict each other.
        """
        known = {field.name for field in fields(cls)}
        told: dict[str, object] = {key: value for key, value in manifest.hyper_parameters.items() if key in known}
        told |= {key: value for key, value in options.items() if key in known and value not in (None, "")}
        return cls(**told)  # type: ignore[arg-type]

    def ranges(self) -> Ranges:
        """Parse the ranges.

        Raises:
            DataError: One is not a range.
        """
        return Ranges(
            train=parse_interval(self.train_time_range),
            validation=_optional(self.validation_time_range),
            calibration=_optional(self.calibration_time_range),
            test=_optional(self.test_time_range),
            validation_share=self.validation_share,
            calibration_share=self.calibration_share,
        )


def load(source: SourceConfig, interval: Interval) -> Series:
    """Read a range of time, repair short gaps as the options say, and mask the excluded ranges.

    Raises:
        DataError: The data can't be read as the options say.
    """
    selection = parse_query(source.data_select_query)
    zero_fill = _list(source.zero_fill)
    if source.csv:
        series = read_table(
            Path(source.csv),
            source.time_column,
            _list(source.features),
            selection,
            interval,
            window_slide=source.window_slide or None,
            zero_fill=zero_fill,
        )
    else:
        series = read_datapool(
            Path(source.datapool),
            selection,
            interval,
            window_slide=source.window_slide or DEFAULT_WINDOW_SLIDE,
            zero_fill=zero_fill,
        )
    repaired = series.interpolate(source.interpolate_limit if source.interpolate else 0)
    excluded = parse_intervals(source.train_time_ranges_excluded) + parse_intervals(source.test_time_ranges_excluded)
    return repaired.exclude(excluded)


def _optional(text: str) -> Interval | None:
    return parse_interval(text) if text else None


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
