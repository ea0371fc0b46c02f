"""Puts together what watch and replay need, from what the user asked for and what the model says."""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mods_grpc.cli import output as cli_output
from mods_grpc.client import Client, ModelInfo, ModelState, Verdict
from mods_grpc.errors import ConnectionFailedError, DataError, ModelUnavailableError, ModelUnusableError, Reason
from mods_grpc.features import Aggregator, AggregatorOptions
from mods_grpc.ids.alerts.alert import Alert, headline
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from mods_grpc.ids.alerts.sinks.sink import Sink
from mods_grpc.ids.alerts.suppression import Suppression, read_suppression
from mods_grpc.ids.watch.scoring_client import Judge, JudgeOptions
from mods_grpc.ids.watch.watch import Watch
from mods_grpc.ids.windows.window import Columns

Observer = Callable[[list[Verdict], list[Alert]], None]


class DrySink:
    """Prints a line for people instead of writing an alert."""

    def mark(self) -> None:
        """Return nothing."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def write(self, alert: Alert) -> None:
        """Print an alert."""
        sys.stdout.write(
            f"{cli_output.iso(alert.window_start)}  {alert.severity.name.lower():8}  {alert.phase:6}  {_plain(alert)}\n"
        )
        sys.stdout.flush()

    def close(self) -> None:
        """Do nothing."""


def ready_model(client: Client, arguments: argparse.Namespace) -> ModelInfo:
    """Ask the server for the model, which says nothing of itself before it is loaded.

    Raises:
        ModelUnavailableError: It is still loading.
        ModelUnusableError: It can't be loaded, or was withdrawn.
    """
    model = client.model(arguments.model, arguments.model_version)
    if model.state is ModelState.LOADING:
        raise ModelUnavailableError(Reason.MODEL_LOADING, f"{model.name} {model.version} is still loading", retry_seconds=1.0)
    if model.state is not ModelState.READY:
        raise ModelUnusableError(Reason.MODEL_FAILED, f"{model.name} {model.version} is {model.state.lower()}: {model.failure}")
    return model


def check_windows(arguments: argparse.Namespace, model: ModelInfo) -> None:
    """Compare the windows asked for with the model's.

    Raises:
        DataError: They differ.
    """
    for name, asked, have in (
        ("window", arguments.window, model.window_seconds),
        ("slide", arguments.slide, model.slide_seconds),
    ):
        if asked is not None and asked != have:
            raise DataError(f"--{name}: {model.name} was trained with {have:g} s, found {asked:g} s; leave the flag out")


def make_columns(arguments: argparse.Namespace, model: ModelInfo) -> Columns:
    """Find the model's features among the aggregates."""
    return Columns(model.features, dict(arguments.features))


def make_aggregator(arguments: argparse.Namespace, model: ModelInfo, columns: Columns) -> Aggregator:
    """Make the aggregator of the model's features."""
    options = AggregatorOptions(
        window_seconds=round(model.window_seconds),
        slide_seconds=round(model.slide_seconds),
        group_by=arguments.group_by,
        local_networks=tuple(arguments.local),
    )
    return Aggregator(columns.definition, options)


def make_sink(arguments: argparse.Namespace, state: Path | None) -> Sink:
    """Open the sinks."""
    if arguments.dry_run:
        return DrySink()
    return open_sinks(arguments.alerts or ["stdout"], state)


def make_watch(
    arguments: argparse.Namespace,
    client: Client,
    model: ModelInfo,
    namespace: str,
    sink: Sink,
    *,
    wait: Callable[[int, ConnectionFailedError], None] | None = None,
    observe: Observer | None = None,
) -> Watch:
    """Make the watch; `Watch.open` connects it."""
    judge = Judge(
        client,
        model,
        JudgeOptions(
            model=model.name,
            version=arguments.model_version,
            namespace=namespace,
            false_alarms_per_day=budget_of(arguments, model),
            significance=arguments.significance,
            impute_rows=arguments.impute_rows,
            explain="all" if arguments.tui else "anomalies",
            fixed_level=arguments.fixed_level,
        ),
        wait,
    )
    options = AlertOptions(
        sensor=arguments.sensor,
        window_seconds=model.window_seconds,
        slide_seconds=model.slide_seconds,
        significance=arguments.significance or 1.0,  # of a budget the server says it when the stream opens
        false_alarms_per_day=budget_of(arguments, model),
        updates=arguments.updates,
        ends=arguments.ends,
        suppression=_suppression(arguments),
    )
    return Watch(judge, Episodes(options), sink, observe)


def budget_of(arguments: argparse.Namespace, model: ModelInfo) -> float | None:
    """Return the false alarms per series and day that are acceptable; None where a significance level was given."""
    if arguments.significance is not None:
        return None
    asked: float | None = arguments.false_alarms_per_day
    return model.default_false_alarms_per_day if asked is None else asked


def _suppression(arguments: argparse.Namespace) -> Suppression:
    found = Suppression() if arguments.suppress is None else read_suppression(arguments.suppress)
    if arguments.minimum_severity is None:
        return found
    return dataclasses.replace(found, minimum_severity=arguments.minimum_severity)


def _plain(alert: Alert) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in headline(alert))
