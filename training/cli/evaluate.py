"""The command `evaluate`: a published model on a range of data, as tables, metrics.json and report.html."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from mods_grpc.alarm_rules.adaptation import check_budget
from mods_grpc.artifact import Manifest
from mods_grpc.command_line import number, parse_optional_text, parse_text
from mods_grpc.detection import BudgetReach
from mods_grpc.errors import DataError
from training.cli.console import console, format_command, show_baselines, show_intervals, show_metrics, show_reach, show_replay
from training.cli.options import (
    MAX_BUDGET,
    add_model_version_options,
    add_source_options,
    find_model_version,
    optional,
    parse_range,
    usage_errors,
)
from training.data.events import LabelledEvent, read_events
from training.data.source import SourceConfig, load_series
from training.data.time_range import Interval, parse_interval, parse_intervals
from training.evaluation.baselines import SEASONS
from training.evaluation.evaluation import Evaluation, evaluate_model
from training.export.onnx_forecaster import open_model
from training.reporting.html_report import write_report

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    add_model_version_options(parser)
    add_source_options(parser, ranges=False)
    parser.add_argument(
        "--test-time-range", type=parse_range, metavar="RANGE", help="range to evaluate on (default: the model's test range)"
    )
    parser.add_argument(
        "--test-time-ranges-excluded",
        type=optional(parse_intervals),
        default="",
        metavar="RANGES",
        help="comma-separated ranges to exclude",
    )
    parser.add_argument(
        "--false-alarms-per-day",
        type=number(above=0, maximum=MAX_BUDGET),
        metavar="X",
        help="budget of the detector (default: the model's)",
    )
    parser.add_argument("--events", type=parse_optional_text, default="", metavar="FILE", help="events.csv with labelled events")
    parser.add_argument("--no-report", dest="report", action="store_false", help="write metrics.json only, which is much faster")
    parser.add_argument(
        "--output",
        type=parse_text,
        default="build/evaluation",
        metavar="DIR",
        help="write metrics.json and report.html here (default: %(default)s)",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Evaluate a published version, show the results and write them."""
    _, artifact = find_model_version(arguments)
    manifest = artifact.manifest
    budget = arguments.false_alarms_per_day or manifest.false_alarms_per_day
    check_budget(budget, manifest.slide_seconds)
    with usage_errors(arguments):
        source = _source_config(manifest, arguments)
        interval = parse_interval(source.test_time_range)
    fitting = Interval(start=np.datetime64(manifest.training_range.start), end=np.datetime64(manifest.validation_range.end))
    lead = np.timedelta64(max(SEASONS.values()) + manifest.rows * manifest.slide_seconds, "s")
    start = min(interval.start - lead, fitting.start) if fitting.end <= interval.start else interval.start - lead
    series = load_series(source, Interval(start=start, end=interval.end))
    if series.members:
        raise DataError(f"evaluate takes one series, the data holds {len(series.members)}; name one with --only-series")
    excluded = str(manifest.hyper_parameters.get("train_time_ranges_excluded", ""))
    series = series.exclude([part for part in parse_intervals(excluded) if part.end <= interval.start])
    evaluation = evaluate_model(
        manifest,
        open_model(artifact),
        series,
        interval,
        false_alarms_per_day=budget,
        fitting=fitting if fitting.end <= interval.start else None,
        events=_read_events(arguments.events, interval),
    )
    _show(evaluation)
    _write(Path(arguments.output), evaluation, format_command(arguments.argv), report=arguments.report)


def _show(evaluation: Evaluation) -> None:
    show_metrics(evaluation.metrics, evaluation.names, evaluation.manifest.horizon)
    show_baselines(
        {evaluation.manifest.architecture: evaluation.metrics, **evaluation.baselines},
        evaluation.names,
        evaluation.manifest.horizon,
    )
    show_intervals(evaluation)
    show_replay(evaluation.replay, evaluation.budget, evaluation.events, evaluation.manifest.window_seconds)
    show_reach(BudgetReach.of(evaluation.manifest, evaluation.budget))
    for note in evaluation.notes:
        console.print(f"note: {note}", style="yellow", highlight=False)


def _write(folder: Path, evaluation: Evaluation, command: str, *, report: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS_FILE).write_text(evaluation.to_json(), encoding="utf-8")
        if report:
            (folder / REPORT_FILE).write_text(write_report(evaluation, command=command), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write the report to {folder}: {error.strerror}") from error
    files = f"{METRICS_FILE} and {REPORT_FILE}" if report else METRICS_FILE
    console.print(f"{files} written to {folder}", highlight=False)


def _read_events(file: str, interval: Interval) -> list[LabelledEvent]:
    if not file:
        return []
    return [event for event in read_events(Path(file)) if interval.start <= event.start < interval.end]


def _source_config(manifest: Manifest, arguments: argparse.Namespace) -> SourceConfig:
    """Make the data options: those of the training run, replaced by what the command line gives."""
    source = SourceConfig.from_manifest(manifest, vars(arguments))
    if not source.test_time_range:
        raise DataError("the model has no test range; give --test-time-range")
    # The layout of the files is a matter of the command line, not of the model.
    layout = {"series_folders": bool(arguments.series_folders), "only_series": arguments.only_series}
    return dataclasses.replace(source, train_time_ranges_excluded="", series_column=arguments.series_column, **layout)
