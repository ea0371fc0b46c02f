"""What a person sees: progress bars and tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mods_grpc.artifact import Metric
from training.data.events import Event
from training.evaluation.metrics import find, geometric_mean
from training.evaluation.scoring import Replay, found_events
from training.export.model_card import milestones
from training.fitting.prepare import Prepared

WIDTH_OF_FILES = 200
"""Characters of a line where output is no terminal, which would be taken for 80 and crowd the widest table."""


def _open_console(*, stderr: bool = False) -> Console:
    opened = Console(stderr=stderr)
    return opened if opened.is_terminal else Console(stderr=stderr, width=WIDTH_OF_FILES)


console = _open_console()
errors = _open_console(stderr=True)

Listener = Callable[[int, Mapping[str, float]], None]


@contextmanager
def epoch_progress(epochs: int) -> Iterator[Callable[[str], Listener]]:
    """Show a bar over epochs; yields what starts it afresh under a title and returns the listener that moves it."""
    told = TextColumn("{task.fields[told]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), told, TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def listener_of(title: str) -> Listener:
            task = progress.add_task(title, total=epochs, told="")

            def listener(epoch: int, losses: Mapping[str, float]) -> None:
                losses_now = f"loss {losses['loss']:.4f}  validation {losses['val_loss']:.4f}"
                progress.update(task, completed=epoch, told=losses_now)

            return listener

        yield listener_of


def show_data(prepared: Prepared, warnings: Sequence[str]) -> None:
    """Show what was read and how it was cut."""
    series, report = prepared.series, prepared.series.report
    table = Table("part", "from", "to", "rows", "windows", title="data")
    for name, part in prepared.parts.items():
        first = part[0]
        rows = sum(cut.stop - cut.start for cut in part)
        start, end = str(series.times[first.start]), str(series.times[first.stop - 1])
        table.add_row(name, start, end, str(rows), str(len(prepared.samples[name])))
    console.print(table)
    console.print(
        f"{report.rows} rows of {report.series} series read, {report.duplicates} duplicates, "
        f"{report.contradictions} contradictions, {report.off_grid} off the grid, "
        f"{report.inserted} missing rows inserted, {report.holes} holes (the longest of {report.longest_hole} rows), "
        f"{report.clock_changes} changes of the clock, {sum(report.missing.values())} values missing, "
        f"{sum(report.interpolated.values())} interpolated, {sum(report.zero_filled.values())} read as no event, "
        f"{report.excluded} rows excluded",
        highlight=False,
    )
    for warning in warnings:
        console.print(f"note: {warning}", style="yellow", highlight=False)


def show_metrics(metrics: Sequence[Metric], names: Sequence[str], horizon: int) -> None:
    """Show the main metrics beside those of persistence."""
    table = Table(
        "feature", "k", "MAE", "SMAPE %", "R2", "MAE / no change", "MAE / day before", title="test range (no change in brackets)"
    )
    for name in names:
        for step in milestones(horizon):
            found = {metric: find(metrics, metric, name, step) for metric in ("MAE", "SMAPE", "R2")}
            cells = [f"{m.value:.4g} ({m.persistence:.4g})" if m else "-" for m in found.values()]
            relative = [find(metrics, metric, name, step) for metric in ("RELATIVE_MAE", "RELATIVE_MAE_SEASONAL")]
            table.add_row(name, str(step), *cells, *(f"{m.value:.3f}" if m else "-" for m in relative))
    console.print(table)


def show_baselines(scored: Mapping[str, Sequence[Metric]], names: Sequence[str], horizon: int) -> None:
    """Show the MAE relative to no change of a model and of the baselines beside it."""
    table = Table("model", "k", *names, "geometric mean", title="MAE / no change")
    for step in milestones(horizon):
        for model, metrics in scored.items():
            found = [find(metrics, "RELATIVE_MAE", name, step) for name in names]
            mean = geometric_mean(metrics, "RELATIVE_MAE", step)
            table.add_row(model, str(step), *(f"{m.value:.3f}" if m else "-" for m in found), f"{mean:.3f}")
    console.print(table)


def show_replay(replay: Replay, budget: float, events: Sequence[Event], window_seconds: int) -> None:
    """Show what the detector said, and which labelled events it found."""
    console.print(
        f"detector at {budget:g} false alarms a day: {len(replay.episodes)} episodes in {replay.days:.1f} days, "
        f"{replay.episodes_per_day:.2f} a day",
        highlight=False,
    )
    if not events:
        return
    found = found_events(replay.episodes, events, window_seconds)
    table = Table("event", "strength", "start", "end", "found", "after min", title="labelled events")
    for event, delay in zip(events, found.delays_minutes, strict=True):
        hit = "no" if delay is None else "yes"
        table.add_row(
            event.kind, f"{event.strength:g}", str(event.start), str(event.end), hit, "" if delay is None else str(delay)
        )
    console.print(table)
    console.print(
        f"{sum(delay is not None for delay in found.delays_minutes)} of {len(events)} events found, "
        f"{found.false_episodes} episodes beside them: {found.false_episodes / replay.days:.2f} a day",
        highlight=False,
    )
