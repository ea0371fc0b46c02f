"""`mods-grpc sign`: sign a published model version, for servers that require signatures of trusted keys."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mods_grpc.artifact import read_signing_key, sign_version
from mods_grpc.artifact.version_folder import VERSION_PATTERN
from mods_grpc.cli.arguments import add_command
from mods_grpc.command_line import parse_path
from mods_grpc.errors import ArtifactError
from mods_grpc.exit_codes import EXIT_OK


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
