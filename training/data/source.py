"""Where a run's data comes from, as frozen options that can be read again."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import unquote

from mods_grpc.artifact import Manifest
from mods_grpc.errors import DataError
from training.data.datapool import read_datapool
from training.data.pool import join
from training.data.query import DEFAULT_QUERY, parse_query
from training.data.series import Series
from training.data.table import read_tables
from training.data.time_range import Interval, parse_interval, parse_intervals
from training.data.windows import Ranges

DEFAULT_WINDOW_SLIDE = "w01h-s10m"
SHOWN_SERIES = 10  # in an error


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Data options, as text, under their names on the command line; empty text means not given.

    Attributes:
        datapool: Root of a MODS datapool. csv: A plain table instead; one of the two.
        series_column: Column of the table that names the series of each row: many of them are one pool, see `pool`.
        series_folders: Whether each folder in the datapool is a datapool of a series of its own, as `mods-grpc aggregate`
            writes them by host, subnet or sensor.
        only_series: Comma-separated names of the series that are read; empty for all.
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
    series_column: str = ""
    series_folders: bool = False
    only_series: str = ""
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
        if self.series_column and not self.csv:
            raise DataError("series_column names a column of --csv; of a datapool, --series-folders tells that it holds many")
        if self.series_folders and not self.datapool:
            raise DataError("series_folders goes with --datapool; of a table, --series-column tells the series")
        if self.only_series and not (self.series_column or self.series_folders):
            raise DataError("only_series needs --series-column or --series-folders")
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
        for layout, place in (("series_column", "csv"), ("series_folders", "datapool")):
            if not told.get(place):
                told.pop(layout, None)
        if not (told.get("series_column") or told.get("series_folders")):
            told.pop("only_series", None)
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
    excluded = parse_intervals(source.train_time_ranges_excluded) + parse_intervals(source.test_time_ranges_excluded)
    limit = source.interpolate_limit if source.interpolate else 0
    return join({name: series.interpolate(limit).exclude(excluded) for name, series in _read(source, interval).items()})


def _read(source: SourceConfig, interval: Interval) -> dict[str, Series]:
    selection = parse_query(source.data_select_query)
    zero_fill = _list(source.zero_fill)
    if source.csv:
        found = read_tables(
            Path(source.csv),
            source.time_column,
            _list(source.features),
            selection,
            interval,
            series_column=source.series_column,
            window_slide=source.window_slide or None,
            zero_fill=zero_fill,
        )
        return {name: found[name] for name in _chosen(source, list(found))}
    root = Path(source.datapool)
    folders = {unquote(folder.name): folder for folder in _folders(root)} if source.series_folders else {"": root}
    window_slide = source.window_slide or DEFAULT_WINDOW_SLIDE
    return {
        name: read_datapool(folders[name], selection, interval, window_slide=window_slide, zero_fill=zero_fill)
        for name in _chosen(source, list(folders))
    }


def _folders(root: Path) -> list[Path]:
    found = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not found:
        raise DataError(f"no folders of series in {root}")
    return found


def _chosen(source: SourceConfig, known: list[str]) -> list[str]:
    """Return the series to read of those that there are."""
    wanted = _list(source.only_series) or known
    if unknown := sorted(set(wanted) - set(known)):
        shown = ", ".join(known[:SHOWN_SERIES]) + (f" and {len(known) - SHOWN_SERIES} more" if len(known) > SHOWN_SERIES else "")
        raise DataError(f"only_series: no series {', '.join(unknown)}; there are {shown}")
    return wanted


def _optional(text: str) -> Interval | None:
    return parse_interval(text) if text else None


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
