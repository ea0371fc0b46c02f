"""The command `evaluate`: a published model on any range of data, as tables, metrics.json and report.html."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from mods_grpc.artifact import Artifact, Manifest, read_artifact
from mods_grpc.errors import DataError
from training.cli.console import console, show_baselines, show_metrics, show_replay
from training.cli.redacted_command import tell
from training.data.events import Event, read_events
from training.data.source import SourceConfig, load
from training.data.time_range import Interval, parse_interval, parse_intervals
from training.evaluation.baselines import SEASONS
from training.evaluation.evaluation import Evaluation, evaluate_model
from training.export.onnx_forecaster import open_model
from training.reporting.html_report import write_report

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Evaluate a published version, show what was found and write it."""
    artifact = read_version(Path(arguments.model))
    manifest = artifact.manifest
    source = _source_of(manifest, arguments)
    interval = parse_interval(source.test_time_range)
    fitting = Interval(start=np.datetime64(manifest.training_range.start), end=np.datetime64(manifest.validation_range.end))
    lead = np.timedelta64(max(SEASONS.values()) + manifest.rows * manifest.slide_seconds, "s")
    start = min(interval.start - lead, fitting.start) if fitting.end <= interval.start else interval.start - lead
    series = load(source, Interval(start=start, end=interval.end))
    if series.members:
        raise DataError(f"evaluate looks at one series, the data holds {len(series.members)}; name one with --only-series")
    excluded = str(manifest.hyper_parameters.get("train_time_ranges_excluded", ""))
    series = series.exclude([part for part in parse_intervals(excluded) if part.end <= interval.start])
    evaluation = evaluate_model(
        manifest,
        open_model(artifact),
        series,
        interval,
        false_alarms_per_day=arguments.false_alarms_per_day or manifest.false_alarms_per_day,
        fitting=fitting if fitting.end <= interval.start else None,
        events=_events(arguments.events, interval),
    )
    _show(evaluation)
    _write(Path(arguments.output), evaluation, tell(arguments.argv))


def _show(evaluation: Evaluation) -> None:
    show_metrics(evaluation.metrics, evaluation.names, evaluation.manifest.horizon)
    show_baselines(
        {evaluation.manifest.architecture: evaluation.metrics, **evaluation.baselines},
        evaluation.names,
        evaluation.manifest.horizon,
    )
    show_replay(evaluation.replay, evaluation.budget, evaluation.events, evaluation.manifest.window_seconds)
    for note in evaluation.notes:
        console.print(f"note: {note}", style="yellow", highlight=False)


def _write(folder: Path, evaluation: Evaluation, command: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS_FILE).write_text(evaluation.text(), encoding="utf-8")
        (folder / REPORT_FILE).write_text(write_report(evaluation, command=command), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write the report to {folder}: {error.strerror}") from error
    console.print(f"{METRICS_FILE} and {REPORT_FILE} written to {folder}", highlight=False)


def _events(file: str, interval: Interval) -> list[Event]:
    if not file:
        return []
    return [event for event in read_events(Path(file)) if interval.start <= event.start < interval.end]


def _source_of(manifest: Manifest, arguments: argparse.Namespace) -> SourceConfig:
    """Read data as the model's run did, with whatever the command line says otherwise."""
    source = SourceConfig.of_model(manifest, vars(arguments))
    if not source.test_time_range:
        raise DataError("the model has no test range; give --test-time-range")
    # how the files are laid out is not the model's
    layout = {"series_folders": bool(arguments.series_folders), "only_series": arguments.only_series}
    return dataclasses.replace(source, train_time_ranges_excluded="", series_column=arguments.series_column, **layout)


def read_version(folder: Path) -> Artifact:
    """Read the published version at REPOSITORY/NAME/VERSION.

    Raises:
        DataError: Not the folder of a version.
        ArtifactError: It can't be read.
    """
    if not folder.name.isdigit():
        raise DataError(f"--model is {str(folder)!r}, expected REPOSITORY/NAME/VERSION")
    return read_artifact(folder.parent.parent, folder.parent.name, int(folder.name))
