"""The entry point of `python -m training`: parses the command line and runs one command."""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module

from mods_grpc.command_line import CommandParser
from mods_grpc.exit_codes import EXIT_OK, run_command

COMMANDS: Mapping[str, str] = {
    "simulate": "write labelled, simulated traffic as a datapool or as Zeek logs",
    "fit": "fit a model and write its run directory",
    "export": "export a run and publish it in a model repository",
    "evaluate": "evaluate a published model; data options default to those of its training run",
    "recalibrate": "calibrate a published model again and publish the result as a new version",
    "compare": "fit, export and measure every architecture on the same data",
    "search": "search window length, width and learning rate on the validation range",
    "select-features": "analyze columns: which are worth forecasting",
}
"""Help line by command. The module of command `a-b` is `training.cli.a_b`, with `add_options` and `run_command`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; see `mods_grpc.exit_codes`.

    Raises:
        SystemExit: The command line is wrong (exit code 2), or asks for help.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(words))


def build_parser(complete: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Build the parser of all commands.

    Args:
        complete: Commands whose options are added. This imports their modules, which takes seconds where TensorFlow is needed.
    """
    parser: argparse.ArgumentParser = CommandParser(
        prog="python -m training", description="Train, evaluate and export forecasting models."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name in complete:
            module = import_module(f"training.cli.{name.replace('-', '_')}")
            module.add_options(command)
            command.set_defaults(run_command=module.run_command, usage_error=command.error)
    return parser


def _run(words: list[str]) -> int:
    arguments = build_parser(words[:1]).parse_args(words)
    arguments.argv = words
    arguments.run_command(arguments)
    return EXIT_OK
