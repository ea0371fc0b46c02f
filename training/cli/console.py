"""Terminal output of the commands: progress bars, tables, and command lines to print."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mods_grpc.artifact import Metric
from mods_grpc.detection import BudgetReach
from training.data.events import LabelledEvent
from training.data.panes.recovery import describe_panes
from training.evaluation.evaluation import Evaluation
from training.evaluation.intervals import REPORTED_COVERAGES
from training.evaluation.metrics import find_metric, geometric_mean
from training.evaluation.scoring import Replay, match_events
from training.export.model_card import reported_steps
from training.fitting.checkpoint import EpochListener
from training.fitting.prepare import TrainingData

FILE_WIDTH = 200
"""Characters per line if the output is not a terminal. The default of 80 would crowd the widest table."""


def _open_console() -> Console:
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=FILE_WIDTH)


console = _open_console()


@contextmanager
def epoch_progress(epochs: int) -> Iterator[Callable[[str], EpochListener]]:
    """Show progress bars over epochs; yields a function that adds a bar with a title and returns the listener that moves it."""
    losses_column = TextColumn("{task.fields[losses]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), losses_column, TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def make_listener(title: str) -> EpochListener:
            task = progress.add_task(title, total=epochs, losses="")

            def listener(epoch: int, losses: Mapping[str, float]) -> None:
                text = f"loss {losses['loss']:.4f}  validation {losses['val_loss']:.4f}"
                progress.update(task, completed=epoch, losses=text)

            return listener

        yield make_listener


def show_data(data: TrainingData, warnings: Sequence[str]) -> None:
    """Show what was read, and how it is split."""
    series, report = data.series, data.series.report
    table = Table("part", "from", "to", "rows", "windows", title="data")
    for name, part in data.parts.items():
        first = part[0]
        rows = sum(cut.stop - cut.start for cut in part)
        start, end = str(series.times[first.start]), str(series.times[first.stop - 1])
        table.add_row(name, start, end, str(rows), str(len(data.samples[name])))
    console.print(table)
    console.print(
        f"{report.rows} rows of {report.series} series read, {report.duplicates} duplicates, "
        f"{report.contradictions} contradictions, {report.off_grid} off the grid, "
        f"{report.inserted} missing rows inserted, {report.holes} gaps (the longest of {report.longest_hole} rows), "
        f"{report.clock_changes} clock changes, {sum(report.missing.values())} values missing, "
        f"{sum(report.interpolated.values())} interpolated, {sum(report.zero_filled.values())} empty cells read as 0, "
        f"{report.excluded} rows excluded",
        highlight=False,
    )
    if panes := describe_panes(report):
        console.print(f"rows hold panes, by feature: {panes}", highlight=False)
    for warning in warnings:
        console.print(f"note: {warning}", style="yellow", highlight=False)


def show_metrics(metrics: Sequence[Metric], names: Sequence[str], horizon: int) -> None:
    """Show the main metrics, with those of persistence in brackets."""
    table = Table(
        "feature", "k", "MAE", "SMAPE %", "R2", "MAE / no change", "MAE / day before", title="test range (no change in brackets)"
    )
    for name in names:
        for step in reported_steps(horizon):
            by_metric = {metric: find_metric(metrics, metric, name, step) for metric in ("MAE", "SMAPE", "R2")}
            cells = [f"{m.value:.4g} ({m.persistence:.4g})" if m else "-" for m in by_metric.values()]
            relative = [find_metric(metrics, metric, name, step) for metric in ("RELATIVE_MAE", "RELATIVE_MAE_SEASONAL")]
            table.add_row(name, str(step), *cells, *(f"{m.value:.3f}" if m else "-" for m in relative))
    console.print(table)


def show_baselines(scored: Mapping[str, Sequence[Metric]], names: Sequence[str], horizon: int) -> None:
    """Show the MAE relative to persistence of a model and of the baselines."""
    table = Table("model", "k", *names, "geometric mean", title="MAE / no change")
    for step in reported_steps(horizon):
        for model, metrics in scored.items():
            relative = [find_metric(metrics, "RELATIVE_MAE", name, step) for name in names]
            mean = geometric_mean(metrics, "RELATIVE_MAE", step)
            table.add_row(model, str(step), *(f"{m.value:.3f}" if m else "-" for m in relative), f"{mean:.3f}")
    console.print(table)


def show_intervals(evaluation: Evaluation) -> None:
    """Show how often the calibration's intervals and the series' own cover, and their CRPS."""
    labels = [f"in {nominal:.0%}" for nominal in REPORTED_COVERAGES]
    table = Table(
        "feature", "k", *labels, "CRPS", title="intervals: the calibration's / the series' own; CRPS / MAE of no change"
    )
    for entry in evaluation.crps:
        pairs = [
            [
                f"{of(entry.feature, entry.step, nominal).realised:.1%}"
                for of in (evaluation.coverage_of, evaluation.own_coverage_of)
            ]
            for nominal in REPORTED_COVERAGES
        ]
        cells = [" / ".join(pair) for pair in pairs]
        table.add_row(entry.feature, str(entry.step), *cells, f"{entry.calibration:.3f} / {entry.own:.3f}")
    console.print(table)


def show_reach(reach: BudgetReach) -> None:
    """Show what a user of the budget should know."""
    for warning in reach.warnings():
        console.print(f"warning: {warning}", style="yellow", highlight=False)


def show_replay(replay: Replay, budget: float, events: Sequence[LabelledEvent], window_seconds: int) -> None:
    """Show the alerts of the detector, and which labelled events it detected."""
    console.print(
        f"detector at {budget:g} false alarms per day: {len(replay.episodes)} episodes in {replay.days:.1f} days, "
        f"{replay.episodes_per_day:.2f} per day",
        highlight=False,
    )
    if not events:
        return
    matches = match_events(replay.episodes, events, window_seconds)
    table = Table("event", "strength", "start", "end", "detected", "after min", title="labelled events")
    for event, delay in zip(events, matches.delays_minutes, strict=True):
        detected = "no" if delay is None else "yes"
        table.add_row(
            event.kind, f"{event.strength:g}", str(event.start), str(event.end), detected, "" if delay is None else str(delay)
        )
    console.print(table)
    console.print(
        f"{sum(delay is not None for delay in matches.delays_minutes)} of {len(events)} events detected, "
        f"{matches.false_episodes} episodes without an event: {matches.false_episodes / replay.days:.2f} per day",
        highlight=False,
    )


def format_command(words: Sequence[str]) -> str:
    """Write a command line of `python -m training` for cards and reports, without the folders of this machine.

    An absolute path becomes relative to the current folder, or the file's name if it lies elsewhere.

    Args:
        words: Command and options, such as `["fit", "--csv", "/home/me/traffic.tsv"]`.
    """
    return shlex.join(["python", "-m", "training", *map(_strip_directories, words)])


def _strip_directories(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = Path(value).expanduser()
    if not path.is_absolute():
        return word
    current = Path.cwd()
    return option + equals + (str(path.relative_to(current)) if path.is_relative_to(current) else path.name)
