"""`mods-grpc serve`: run the server."""

import argparse
import importlib.util
from typing import Any

from mods_grpc.cli.arguments import add_command
from mods_grpc.exit_codes import EXIT_USAGE, print_error
from mods_grpc.server.config import add_arguments, from_arguments


def add_serve_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `serve` command, whose flags are the fields of ServerConfig."""
    parser = add_command(commands, "serve", "serve a model repository")
    add_arguments(parser)
    parser.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal stops the server."""
    if importlib.util.find_spec("onnxruntime") is None:
        print_error("serve needs ONNX Runtime: pip install 'mods-grpc[cpu]' (or [gpu])")
        return EXIT_USAGE
    from mods_grpc.server.main import run  # noqa: PLC0415 - the base install has no server

    try:
        config = from_arguments(arguments)
    except ValueError as error:
        print_error(str(error))
        return EXIT_USAGE
    return run(config)
