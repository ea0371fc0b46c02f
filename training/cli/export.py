"""The command `export`: a run directory in, a published model version out."""

import argparse
from pathlib import Path

from mods_grpc.alarm_rules.adaptation import check_budget
from mods_grpc.command_line import number, parse_optional_text, parse_text, whole_number
from mods_grpc.detection import BudgetReach
from training.cli.console import console, format_command, show_metrics, show_reach, show_replay
from training.cli.options import MAX_BUDGET, MAX_VERSION, parse_model_name
from training.export.versions import DEFAULT_FALSE_ALARMS_PER_DAY, next_version
from training.fitting.prepare import prepare_data
from training.fitting.run import read_run


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument(
        "--run", type=parse_text, default="build/run", metavar="DIR", help="a run directory (default: %(default)s)"
    )
    parser.add_argument(
        "--repository", type=parse_text, default="exported", metavar="DIR", help="model repository (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        "--name",
        "--model-name",
        dest="model",
        type=parse_model_name,
        required=True,
        metavar="NAME",
        help="name of the model to publish",
    )
    parser.add_argument(
        "--version",
        type=whole_number(1, MAX_VERSION),
        default=0,
        metavar="N",
        help="version to publish (default: the highest published plus 1)",
    )
    parser.add_argument(
        "--false-alarms-per-day",
        type=number(above=0, maximum=MAX_BUDGET),
        default=DEFAULT_FALSE_ALARMS_PER_DAY,
        metavar="X",
        help="default budget of the model (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-graph", action="store_true", help="add a second graph for large batches if it gives the same bits (LSTM)"
    )
    parser.add_argument(
        "--title",
        type=parse_optional_text,
        default="",
        metavar="TEXT",
        help="a line for the model card that says what the data is",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Export a run and publish it."""
    run, weights = read_run(Path(arguments.run))
    check_budget(arguments.false_alarms_per_day, run.slide_seconds)
    repository = Path(arguments.repository)
    version = arguments.version or next_version(repository, arguments.model)
    data = prepare_data(run.source, run.model)
    from training.export.publish import export_run, publish_run  # noqa: PLC0415  # TensorFlow takes seconds to load: what is wrong with options and data is said first

    exported = export_run(
        run,
        weights,
        data,
        name=arguments.model,
        version=version,
        false_alarms_per_day=arguments.false_alarms_per_day,
        batch_graph=arguments.batch_graph,
    )
    folder = publish_run(repository, run, exported, title=arguments.title, command=format_command(arguments.argv))
    if exported.manifest.metrics:
        show_metrics(exported.manifest.metrics, run.names, run.model.steps_ahead)
    if exported.replay is not None:
        show_replay(exported.replay, arguments.false_alarms_per_day, (), run.window_seconds)
    show_reach(BudgetReach.of(exported.manifest, arguments.false_alarms_per_day))
    if exported.batch_graph is not None:
        speedups = ", ".join(
            f"{first / second:.2f} at {batch:,}" for batch, (first, second) in exported.batch_graph.microseconds.items()
        )
        timing = f" Speedup over the first by number of windows: {speedups}." if speedups else ""
        console.print(exported.batch_graph.note + timing, highlight=False)
    console.print(f"parity error {exported.parity_error:.1e}; published {folder}", highlight=False)
