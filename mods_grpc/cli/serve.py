"""`mods-grpc serve`: run the server."""

import argparse
import importlib.util
import sys
from typing import Any

from mods_grpc.server.config import add_arguments, from_arguments

EXIT_UNUSABLE = 2


def add_serve_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `serve` command, whose flags are the fields of ServerConfig."""
    parser = commands.add_parser("serve", help="serve a model repository")
    add_arguments(parser)
    parser.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    if importlib.util.find_spec("onnxruntime") is None:
        sys.stderr.write("mods-grpc: serving needs ONNX Runtime: pip install 'mods-grpc[cpu]' (or [gpu])\n")
        return EXIT_UNUSABLE
    from mods_grpc.server.main import run  # noqa: PLC0415 - the base install has no server

    try:
        config = from_arguments(arguments)
    except ValueError as error:
        sys.stderr.write(f"mods-grpc serve: {error}\n")
        return EXIT_UNUSABLE
    return run(config)
