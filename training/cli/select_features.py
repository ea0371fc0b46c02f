"""The command `select-features`: which columns are worth forecasting, as a table, JSON and pictures."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.progress import Progress
from rich.table import Table

from mods_grpc.artifact.strict_json import to_jsonable
from mods_grpc.command_line import parse_optional_text, parse_text, whole_number
from mods_grpc.errors import DataError
from training.cli.console import console
from training.cli.options import add_source_options, parse_range, usage_errors
from training.data.datapool import list_columns
from training.data.query import format_query
from training.data.series import Series
from training.data.source import SourceConfig, load_series
from training.data.table import list_numeric_columns
from training.data.time_range import parse_interval
from training.feature_selection.analysis import FeatureAnalysis, analyze, table_rows
from training.feature_selection.plots import draw_autocorrelation, draw_dependence, draw_intermittence
from training.reporting.figures import render_figure

TABLE_FILE, FACTS_FILE = "selection.tsv", "selection.json"
PICTURES: Mapping[str, Callable[[FeatureAnalysis], Figure]] = {
    "memory.png": draw_autocorrelation,
    "dependence.png": draw_dependence,
    "intermittence.png": draw_intermittence,
}
SHOWN_COLUMNS = ("missing", "not 0", "class", "ADF p", "MI with itself ahead", "R2 on others", "advice")
MAX_NAMED = 10
"""Features that a note lists by name."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `select-features`."""
    add_source_options(parser, ranges=False)
    parser.add_argument(
        "--protocols",
        type=parse_optional_text,
        default="",
        metavar="A,B",
        help="protocols of a datapool, all columns of each (default: all; --data-select-query takes precedence)",
    )
    parser.add_argument(
        "--time-range", type=parse_range, default="<1970,2200)", metavar="RANGE", help="rows to analyze (default: all)"
    )
    parser.add_argument(
        "--steps-ahead",
        type=whole_number(1, 1024),
        default=1,
        metavar="N",
        help="steps ahead for mutual information (default: %(default)s)",
    )
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="write the tables only, which is much faster"
    )
    parser.add_argument(
        "--output",
        type=parse_text,
        default="build/selection",
        metavar="DIR",
        help="write tables and pictures here (default: %(default)s)",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Analyze the columns, show the results and write them."""
    with usage_errors(arguments):
        interval = parse_interval(arguments.time_range)
        source = _source_config(arguments)
    source = _with_all_columns(source, arguments)
    series = load_series(source, interval)
    if series.members:
        raise DataError(f"select-features takes one series, the data holds {len(series.members)}; name one with --only-series")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("analyzing", total=len(series.names))
        analysis = analyze(series, arguments.steps_ahead, lambda name: progress.update(task, advance=1, description=name))
    _show(analysis, series)
    _write(Path(arguments.output), analysis, PICTURES if arguments.pictures else {})


def _source_config(arguments: argparse.Namespace) -> SourceConfig:
    options = {field.name: value for field in fields(SourceConfig) if (value := vars(arguments).get(field.name)) is not None}
    return SourceConfig(train_time_range=arguments.time_range, **options)


def _with_all_columns(source: SourceConfig, arguments: argparse.Namespace) -> SourceConfig:
    """Select all columns of numbers, unless the options name columns."""
    if source.csv and not source.features:
        return replace(source, features=",".join(list_numeric_columns(Path(source.csv), source.time_column)))
    if arguments.data_select_query or not source.datapool:
        return source
    available = list_columns(Path(source.datapool), source.window_slide)
    protocols = [name.strip() for name in arguments.protocols.split(",") if name.strip()] or list(available)
    if unknown := [name for name in protocols if name not in available]:
        raise DataError(f"no protocol {', '.join(unknown)}; there are {', '.join(available)}")
    return replace(source, data_select_query=format_query({name: available[name] for name in protocols}))


def _show(analysis: FeatureAnalysis, series: Series) -> None:
    rows = table_rows(analysis.statistics)
    shown = [index for index, name in enumerate(rows[0]) if name in SHOWN_COLUMNS]
    table = Table(title=f"{len(series.times)} rows, {series.times[0]} to {series.times[-1]}")
    table.add_column("feature", overflow="fold", min_width=16)
    for index in shown:
        table.add_column(rows[0][index])
    for row in rows[1:]:
        table.add_row(row[0], *(row[i] for i in shown))
    console.print(table)
    used = [f for f in analysis.statistics if f.advice.startswith("use")]
    console.print(f"{len(used)} of {len(analysis.statistics)} features are worth forecasting", highlight=False)
    if analysis.rough:
        more = len(analysis.rough) - MAX_NAMED
        names = ", ".join(analysis.rough[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        text = f"note: statistics are rough, as their arithmetic overflowed or was singular, of: {names}"
        console.print(text, style="yellow", highlight=False)


def _write(folder: Path, analysis: FeatureAnalysis, pictures: Mapping[str, Callable[[FeatureAnalysis], Figure]]) -> None:
    text = "\n".join("\t".join(row) for row in table_rows(analysis.statistics)) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TABLE_FILE).write_text(text, encoding="utf-8")
        (folder / FACTS_FILE).write_text(json.dumps(_to_tree(analysis), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for name, draw in pictures.items():
            (folder / name).write_bytes(render_figure(partial(draw, analysis)))
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from error
    console.print(f"{', '.join([TABLE_FILE, FACTS_FILE, *pictures])} written to {folder}", highlight=False)


def _to_tree(analysis: FeatureAnalysis) -> Any:
    features = [{**asdict(feature), "advice": feature.advice} for feature in analysis.statistics]
    matrices = {"correlation": analysis.correlation, "information": analysis.information}
    tree = {"schema": 1, "steps_ahead": analysis.steps, "features": features, **matrices}
    return to_jsonable(tree, non_finite_as_null=True)
