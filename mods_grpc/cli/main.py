"""The `mods-grpc` command line; `mods_grpc.exit_codes` says what it exits with."""

import argparse
import sys
from collections.abc import Sequence

from mods_grpc import __version__
from mods_grpc.cli.aggregate import add_aggregate_parser
from mods_grpc.cli.alerts.command import add_alerts_parser
from mods_grpc.cli.beacons import add_beacons_parser
from mods_grpc.cli.detect import add_detect_parser
from mods_grpc.cli.forecast import add_forecast_parser
from mods_grpc.cli.listings import add_features_parser, add_models_parser
from mods_grpc.cli.replay import add_replay_parser
from mods_grpc.cli.review.feedback import add_feedback_parser
from mods_grpc.cli.serve import add_serve_parser, add_sign_parser
from mods_grpc.cli.stream import add_stream_parser
from mods_grpc.cli.watch import add_watch_parser
from mods_grpc.client.rpc.errors import OTHER_NAME, OTHER_SERVICE, TLS_MISSING, TLS_UNEXPECTED, UNKNOWN_HOST, UNTRUSTED
from mods_grpc.command_line import CommandParser
from mods_grpc.errors import (
    ConnectionFailedError,
    DeadlineError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnusableError,
    ModsError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from mods_grpc.exit_codes import run_command

HINTS: tuple[tuple[type[ModsError], str, str], ...] = (
    (
        ConnectionFailedError,
        TLS_UNEXPECTED,
        "--tls, or --tls-ca with the file of its authority, makes this side use TLS too",
    ),
    (
        ConnectionFailedError,
        TLS_MISSING,
        "leave out --tls and --tls-ca, or start the server with its own --tls flags",
    ),
    (ConnectionFailedError, UNTRUSTED, "--tls-ca names the file of the authority that signed the server's certificate"),
    (ConnectionFailedError, OTHER_NAME, "give --address with a name that the server's certificate holds"),
    (ConnectionFailedError, UNKNOWN_HOST, "see whether the host in --address is right"),
    (
        ConnectionFailedError,
        OTHER_SERVICE,
        "see whether the port in --address is the server's, not that for health checks",
    ),
    (ConnectionFailedError, "", "is the server running? start it with: mods-grpc serve exported"),
    (ModelNotFoundError, "", "mods-grpc models lists what the server serves"),
    (ModelUnusableError, "", "mods-grpc models says why, and so does the log of the server"),
    (InvalidInputError, "serves no model", "its log says why; publish a model in its repository, or start it with another"),
    (InvalidInputError, "model.name", "mods-grpc models lists what the server serves; --model chooses one of them"),
    (UnauthenticatedError, "", "--token-file names the file that holds a token of this server"),
    (PermissionDeniedError, "", "the token needs this scope in the token file of the server"),
    (DeadlineError, "", "--timeout allows more time"),
)
"""What to do about an error: its class, what its message holds, and the advice; the first that fits."""


def advise(error: ModsError) -> str | None:
    """Return what to do about an error; None if its message says it all."""
    return next((hint for kind, phrase, hint in HINTS if isinstance(error, kind) and phrase in error.message), None)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser: argparse.ArgumentParser = CommandParser(
        prog="mods-grpc",
        description="Forecast network-monitoring time series and report anomalies with calibrated false-alarm rates.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_serve_parser(commands)
    add_sign_parser(commands)
    add_models_parser(commands)
    add_forecast_parser(commands)
    add_detect_parser(commands)
    add_stream_parser(commands)
    add_features_parser(commands)
    add_aggregate_parser(commands)
    add_beacons_parser(commands)
    add_watch_parser(commands)
    add_replay_parser(commands)
    add_alerts_parser(commands)
    add_feedback_parser(commands)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        words: The command and its arguments; None for those of the process.
    """
    arguments = build_parser().parse_args(words)
    return run_command(lambda: int(arguments.run(arguments)), advise)


if __name__ == "__main__":
    sys.exit(main())
