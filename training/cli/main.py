"""`python -m training simulate | fit | export | evaluate | recalibrate | compare | search`."""

import argparse
import sys
from collections.abc import Sequence

from mods_grpc.errors import ModsError
from training.cli.options import add_model_options, add_source_options

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. What is wrong with data, options or a model is one line on standard error and exit status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = make_parser().parse_args(words)
    arguments.argv = words
    try:
        _run(arguments)
    except ModsError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train, evaluate and export forecasting models.")
    commands = parser.add_subparsers(dest="command", required=True)
    _simulate(commands.add_parser("simulate", help="make labelled, simulated traffic as a datapool"))
    _fit(commands.add_parser("fit", help="fit a model and write its run directory"))
    _export(commands.add_parser("export", help="export a run and publish it in a model repository"))
    _evaluate(
        commands.add_parser("evaluate", help="evaluate a published model on a range of data, read as its run did unless told")
    )
    _recalibrate(commands.add_parser("recalibrate", help="calibrate a published model anew, as a version of its own"))
    _compare(commands.add_parser("compare", help="fit, export and measure every architecture on the same data"))
    _search(commands.add_parser("search", help="search window length, width and learning rate on the validation range"))
    _select_features(commands.add_parser("select-features", help="examine columns: which are worth forecasting"))
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "simulate":
        from training.cli.simulate import simulate_command  # noqa: PLC0415  # without TensorFlow

        simulate_command(arguments)
        return
    if arguments.command == "evaluate":
        from training.cli.evaluate import evaluate_command  # noqa: PLC0415

        evaluate_command(arguments)
        return
    if arguments.command == "select-features":
        from training.cli.select_features import select_features_command  # noqa: PLC0415

        select_features_command(arguments)
        return
    from training.cli import fit_export_evaluate as commands  # noqa: PLC0415
    from training.cli.compare import compare_command  # noqa: PLC0415
    from training.cli.recalibrate import recalibrate_command  # noqa: PLC0415
    from training.cli.search import search_command  # noqa: PLC0415

    functions = {
        "fit": commands.fit_command,
        "export": commands.export_command,
        "recalibrate": recalibrate_command,
        "compare": compare_command,
        "search": search_command,
    }
    functions[arguments.command](arguments)


def _simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder for the datapool and events.csv")
    parser.add_argument("--time-range", default="<2026-01-05,2026-03-09)", metavar="RANGE", help="(default: %(default)s)")
    parser.add_argument("--events-time-range", default="", metavar="RANGE", help="where events may lie (default: no events)")
    parser.add_argument(
        "--events-per-kind", type=int, default=1, metavar="N", help="of each kind and strength (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--logs", action="store_true", help="write Zeek logs of conn, dns and ssh instead of a datapool")
    parser.add_argument("--log-format", choices=("tsv", "json"), default="tsv", help="of the logs (default: %(default)s)")
    parser.add_argument(
        "--log-scale", type=float, default=0.05, metavar="X", help="share of connections that is written (default: %(default)s)"
    )


def _fit(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    add_model_options(parser)
    parser.add_argument("--run", default="build/run", metavar="DIR", help="where the run is written (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on after the last epoch of a fit that was interrupted")
    parser.add_argument("--tensorboard", default="", metavar="DIR", help="write the losses as TensorBoard logs")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", default="build/run", metavar="DIR", help="a run directory (default: %(default)s)")
    parser.add_argument("--repository", default="exported", metavar="DIR", help="model repository (default: %(default)s)")
    parser.add_argument("--name", "--model-name", required=True, metavar="NAME", help="name of the model")
    parser.add_argument("--version", type=int, default=0, metavar="N", help="default: the one after the highest published")
    parser.add_argument(
        "--false-alarms-per-day", type=float, default=1.0, metavar="X", help="default budget (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-graph", action="store_true", help="add a second graph for large batches where that gives the same bits (LSTM)"
    )
    parser.add_argument("--title", default="", metavar="TEXT", help="a line for the model card on what the data is")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="a published version, such as exported/campus/1")
    add_source_options(parser, ranges=False)
    parser.add_argument(
        "--test-time-range", default="", metavar="RANGE", help="range to evaluate on (default: the model's test range)"
    )
    parser.add_argument("--test-time-ranges-excluded", default="", metavar="RANGES", help="comma-separated ranges to leave out")
    parser.add_argument("--false-alarms-per-day", type=float, default=0.0, metavar="X", help="budget (default: the model's)")
    parser.add_argument("--events", default="", metavar="FILE", help="events.csv of labelled events")
    parser.add_argument(
        "--output", default="build/evaluation", metavar="DIR", help="gets metrics.json and report.html (default: %(default)s)"
    )


def _recalibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="a published version, such as exported/campus/1")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--datapool", default="", metavar="DIR", help="the data of the model's run, its options as in the run")
    place.add_argument("--csv", default="", metavar="FILE", help="the same as a table")
    parser.add_argument(
        "--calibration-time-range", default="", metavar="RANGE", help="a later range to calibrate on (default: the model's)"
    )
    parser.add_argument("--repository", default="", metavar="DIR", help="model repository (default: that of the model)")
    parser.add_argument("--version", type=int, default=0, metavar="N", help="default: the one after the highest published")


def _compare(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    add_model_options(parser)
    parser.add_argument("--name", default="compare", metavar="NAME", help="prefix of the models' names (default: %(default)s)")
    parser.add_argument("--repository", default="", metavar="DIR", help="publish every model here")
    parser.add_argument("--models", default="", metavar="A,B", help="architectures (default: all)")
    parser.add_argument(
        "--apart-time-range", default="", metavar="RANGE", help="score a further range too, apart from the test range"
    )
    parser.add_argument(
        "--output", default="build/comparison", metavar="DIR", help="gets compare.tsv, .json and .png (default: %(default)s)"
    )


def _search(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    add_model_options(parser)
    group = parser.add_argument_group("search")
    group.add_argument(
        "--trials", type=int, default=20, metavar="N", help="sets of options that are tried (default: %(default)s)"
    )
    group.add_argument("--sequence-lens", default="12,24,36,72", metavar="N,N", help="(default: %(default)s)")
    group.add_argument("--widths", default="16,32,64,128", metavar="N,N", help="of --blocks (default: %(default)s)")
    group.add_argument("--learning-rates", default="3e-4,1e-2", metavar="X,X", help="least and greatest (default: %(default)s)")
    group.add_argument("--output", default="build/search.json", metavar="FILE", help="every trial (default: %(default)s)")


def _select_features(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser, ranges=False)
    parser.add_argument(
        "--protocols", default="", metavar="A,B", help="of a datapool, all their columns (default: all; a query goes first)"
    )
    parser.add_argument("--time-range", default="<1970,2200)", metavar="RANGE", help="(default: all)")
    parser.add_argument(
        "--steps-ahead", type=int, default=1, metavar="N", help="how far ahead mutual information looks (default: %(default)s)"
    )
    parser.add_argument(
        "--output", default="build/selection", metavar="DIR", help="gets tables and pictures (default: %(default)s)"
    )
