"""`mods-grpc serve` and `sign`: run the server, and sign the models that it serves."""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from mods_grpc.artifact import read_signing_key, sign_version
from mods_grpc.artifact.version_folder import VERSION_PATTERN
from mods_grpc.cli.arguments import add_command
from mods_grpc.command_line import parse_path
from mods_grpc.errors import ArtifactError
from mods_grpc.exit_codes import EXIT_OK, EXIT_USAGE, print_error
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


def add_sign_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `sign` command."""
    parser = add_command(commands, "sign", "sign a published model version (see serve --trusted-key-file)")
    parser.add_argument("version", type=parse_path, metavar="FOLDER", help="a published version, such as exported/campus/1")
    parser.add_argument("--key", type=parse_path, required=True, metavar="FILE", help="Ed25519 private key (PEM, no password)")
    parser.set_defaults(run=run_sign)


def run_sign(arguments: argparse.Namespace) -> int:
    """Sign a model version.

    Raises:
        ArtifactError: The folder is not a version, or the key can't be used.
    """
    folder: Path = arguments.version.absolute()
    if not VERSION_PATTERN.fullmatch(folder.name):
        raise ArtifactError(f"expected the folder of a model version, such as exported/campus/1, found {arguments.version}")
    signature = sign_version(folder.parent.parent, folder.parent.name, int(folder.name), read_signing_key(arguments.key))
    sys.stdout.write(f"signed {folder.parent.name}/{folder.name}: {arguments.version / signature.name}\n")
    return EXIT_OK
