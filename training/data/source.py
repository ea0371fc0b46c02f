"""The data options of a run, and the series that they select."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from mods_grpc.artifact import Manifest
from mods_grpc.data.datapool_layout import format_window_slide
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError
from training.data.datapool import read_datapool, read_pane_tables
from training.data.panes.recovery import AUTO, add_panes
from training.data.panes.tables import AlignedPanes, align_panes
from training.data.pool import join_series
from training.data.query import DEFAULT_QUERY, parse_query
from training.data.series import Series
from training.data.table import read_tables
from training.data.time_range import Interval, parse_interval, parse_intervals
from training.data.windows import SplitRanges

MAX_LISTED_SERIES = 10
"""Series that an error lists by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Data options, as text, under their names on the command line; empty text means not given.

    Attributes:
        datapool: Root of a MODS datapool. csv: A table. One of the two is given.
        series_column: Column of the table that names the series of each row. Several series form a pool, see `pool`.
        series_folders: Whether each folder in the datapool is the datapool of one series, as `mods-grpc aggregate` writes them
            by host, subnet or sensor.
        only_series: Comma-separated names of the series to read; empty for all.
        time_column: Column of times of the table; empty for the first usual name that it has. features: Columns of the table,
            comma-separated `name` or `name:kind`.
        data_select_query: What to read from the datapool, and what the table's columns mean.
        window_slide: Such as `w01h-s10m`; empty means that of all files of the datapool, or the table's own step.
        train_time_range, train_time_ranges_excluded, validation_time_range, calibration_time_range, test_time_range,
        test_time_ranges_excluded: Time ranges; see `time_range` and `windows.SplitRanges`.
        zero_fill: Features, comma-separated, whose empty cells mean "no event".
        panes: Features, comma-separated, of which a model sees the count of each window's last slide alone, see `panes`; `auto`
            for all that have it, empty for none. Without effect on windows that do not overlap.
        panes_csv: A table like `csv` in windows of one slide. Without one, and without such tables in the datapool, panes are
            recovered from the sliding windows.
        interpolate: Whether gaps of at most `interpolate_limit` rows are filled linearly. Longer ones stay missing.
    """

    datapool: str = ""
    csv: str = ""
    series_column: str = ""
    series_folders: bool = False
    only_series: str = ""
    time_column: str = ""
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
    panes: str = ""
    panes_csv: str = ""
    interpolate: bool = True
    interpolate_limit: int = 3

    def __post_init__(self) -> None:
        if bool(self.datapool) == bool(self.csv):
            raise DataError("give either --datapool or --csv")
        if self.series_column and not self.csv:
            raise DataError("series_column names a column of --csv; for a datapool of several series give --series-folders")
        if self.series_folders and not self.datapool:
            raise DataError("series_folders needs --datapool; for a table of several series give --series-column")
        if self.only_series and not (self.series_column or self.series_folders):
            raise DataError("only_series needs --series-column or --series-folders")
        if self.interpolate_limit < 0:
            raise DataError(f"interpolate_limit is {self.interpolate_limit}, expected 0 or more")

    @classmethod
    def from_manifest(cls, manifest: Manifest, options: Mapping[str, object]) -> "SourceConfig":
        """Make the options of a published model's training run, replaced by those of `options` that are not None or "".

        Which features have panes is always that of the model.

        Raises:
            DataError: The options contradict each other.
        """
        names = {field.name for field in fields(cls)}
        values: dict[str, object] = {key: value for key, value in manifest.hyper_parameters.items() if key in names}
        values |= {key: value for key, value in options.items() if key in names and value not in (None, "")}
        values["panes"] = ",".join(feature.name for feature in manifest.features if feature.pane)
        for layout, place in (("series_column", "csv"), ("series_folders", "datapool")):
            if not values.get(place):
                values.pop(layout, None)
        if values.get("datapool") and not values.get("window_slide"):
            values["window_slide"] = format_window_slide(manifest.window_seconds, manifest.slide_seconds)
        if not (values.get("series_column") or values.get("series_folders")):
            values.pop("only_series", None)
        return cls(**values)  # type: ignore[arg-type]

    def ranges(self) -> SplitRanges:
        """Parse the ranges of the parts.

        Raises:
            DataError: One is not a range.
        """
        return SplitRanges(
            train=parse_interval(self.train_time_range),
            validation=_parse_optional(self.validation_time_range),
            calibration=_parse_optional(self.calibration_time_range),
            test=_parse_optional(self.test_time_range),
            validation_share=self.validation_share,
            calibration_share=self.calibration_share,
        )

    def excluded(self) -> tuple[Interval, ...]:
        """Parse the excluded ranges.

        Raises:
            DataError: One is not a range.
        """
        return parse_intervals(self.train_time_ranges_excluded) + parse_intervals(self.test_time_ranges_excluded)


def load_series(source: SourceConfig, interval: Interval) -> Series:
    """Read a time range, fill short gaps as the options say, and mask the excluded ranges.

    Raises:
        DataError: The data can't be read as the options say.
    """
    excluded = source.excluded()
    limit = source.interpolate_limit if source.interpolate else 0
    by_name = _read_series(source, interval)
    repaired = {name: series.interpolate(limit).exclude(excluded) for name, series in by_name.items()}
    if source.panes:
        recoverable = {name: series.exclude(excluded) for name, series in by_name.items()}
        slide = next(iter(by_name.values())).slide_seconds
        start = min(series.times[0] for series in by_name.values())
        end = max(series.times[-1] for series in by_name.values()) + np.timedelta64(slide, "s")
        held_out = source.ranges().held_out_start(start, end, slide)
        known_rows = {name: int(np.searchsorted(series.times, held_out)) for name, series in by_name.items()}
        aligned = {name: align_panes(by_name[name], table) for name, table in _read_pane_tables(source, by_name).items()}
        repaired = add_panes(repaired, recoverable, source.panes, known_rows, {name: a.panes for name, a in aligned.items()})
        repaired = {name: _note_clock(series, aligned.get(name)) for name, series in repaired.items()}
    return join_series(repaired)


def _read_series(source: SourceConfig, interval: Interval) -> dict[str, Series]:
    query = parse_query(source.data_select_query)
    zero_fill = _split_list(source.zero_fill)
    if source.csv:
        tables = read_tables(
            Path(source.csv),
            source.time_column,
            _split_list(source.features),
            query,
            interval,
            series_column=source.series_column,
            window_slide=source.window_slide or None,
            zero_fill=zero_fill,
        )
        return {name: tables[name] for name in _select_names(source, list(tables))}
    folders = _list_folders(source)
    return {
        name: read_datapool(folders[name], query, interval, window_slide=source.window_slide, zero_fill=zero_fill)
        for name in _select_names(source, list(folders))
    }


def _read_pane_tables(source: SourceConfig, by_name: Mapping[str, Series]) -> dict[str, Series]:
    """Read the tables of panes of those series that have some, by name."""
    query, zero_fill = parse_query(source.data_select_query), _split_list(source.zero_fill)
    if source.csv:
        if not source.panes_csv:
            return {}
        start, end = min(s.times[0] for s in by_name.values()), max(s.times[-1] for s in by_name.values())
        day = np.timedelta64(DAY_SECONDS, "s")
        names = [name for name in next(iter(by_name.values())).names if name in source.panes.split(",") or source.panes == AUTO]
        tables = read_tables(
            Path(source.panes_csv),
            source.time_column,
            [f"{name}:sum" for name in names],
            query,
            Interval(start=start - day, end=end + 2 * day),
            series_column=source.series_column,
            zero_fill=set(zero_fill) & set(names),
        )
        return {name: table for name, table in tables.items() if name in by_name}
    folders = _list_folders(source)
    tables_or_none = {
        name: read_pane_tables(folders[name], query, series, zero_fill=zero_fill) for name, series in by_name.items()
    }
    return {name: table for name, table in tables_or_none.items() if table is not None}


def _note_clock(series: Series, aligned: AlignedPanes | None) -> Series:
    """Return a series with panes with the difference of clocks in its report, and its digest over the panes too."""
    if aligned is None or not series.panes:
        return series
    digest = hashlib.sha256(series.digest.encode() + np.where(np.isnan(series.rows), np.nan, series.rows).astype("<f8").tobytes())
    return replace(series, digest=digest.hexdigest(), report=replace(series.report, panes_behind=aligned.slides))


def _list_folders(source: SourceConfig) -> dict[str, Path]:
    """Return the folder of each series of a datapool."""
    root = Path(source.datapool)
    return {unquote(folder.name): folder for folder in _series_folders(root)} if source.series_folders else {"": root}


def _series_folders(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not folders:
        raise DataError(f"no folders of series in {root}; for the datapool of one series leave out --series-folders")
    return folders


def _select_names(source: SourceConfig, available: list[str]) -> list[str]:
    """Return the names of the series to read."""
    selected = _split_list(source.only_series) or available
    if unknown := sorted(set(selected) - set(available)):
        more = len(available) - MAX_LISTED_SERIES
        listed = ", ".join(available[:MAX_LISTED_SERIES]) + (f" and {more} more" if more > 0 else "")
        raise DataError(f"only_series: no series {', '.join(unknown)}; there are {listed}")
    return selected


def _parse_optional(text: str) -> Interval | None:
    return parse_interval(text) if text else None


def _split_list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
