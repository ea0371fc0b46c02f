"""The command line: `mods-grpc`. Exits with 0 when all went well, 1 when something failed, 2 when it was called wrongly."""

import argparse
import os
import sys
from collections.abc import Sequence

from mods_grpc import __version__
from mods_grpc.cli.aggregate import add_aggregate_parser
from mods_grpc.cli.client import add_client_parsers
from mods_grpc.cli.replay import add_replay_parser
from mods_grpc.cli.serve import add_serve_parser
from mods_grpc.cli.sign import add_sign_parser
from mods_grpc.cli.watch import add_watch_parser
from mods_grpc.errors import ConnectionFailedError, DeadlineError, ModelNotFoundError, ModsError

INTERRUPTED = 130

_HINTS: tuple[tuple[type[ModsError], str], ...] = (
    (ConnectionFailedError, "is the server running? start it with: mods-grpc serve exported"),
    (ModelNotFoundError, "mods-grpc models lists what the server serves"),
    (DeadlineError, "--timeout allows more time"),
)


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="mods-grpc", description="Forecasts network-monitoring time series and says when reality departs from the forecast."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_serve_parser(commands)
    add_sign_parser(commands)
    add_client_parsers(commands)
    add_aggregate_parser(commands)
    add_watch_parser(commands)
    add_replay_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except ModsError as error:
        _complain(error.message)
        for kind, hint in _HINTS:
            if isinstance(error, kind):
                sys.stderr.write(f"hint: {hint}\n")
        return 1
    except BrokenPipeError:
        # The reader of our output has left; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, UnicodeDecodeError) as error:
        _complain(f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else "expected text in UTF-8")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(message: str) -> None:
    sys.stderr.write(f"mods-grpc: {' '.join(message.split())}\n")


if __name__ == "__main__":
    sys.exit(main())
