"""Flags that several commands share."""

import argparse
from pathlib import Path

from mods_grpc.data.tables import DEFAULT_SERIES

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_IMPUTE_ROWS = 6


def connection_arguments() -> argparse.ArgumentParser:
    """Make the flags of every command that talks to a server."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("connection")
    group.add_argument("--address", "--server", default=DEFAULT_ADDRESS, help="host:port or unix:/path (default %(default)s)")
    group.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="how long an answer may take (default 10)")
    group.add_argument("--tls", action="store_true", help="encrypt, and trust the system's authorities")
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="encrypt, and trust the authorities in this PEM file")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the bearer token")
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def table_arguments() -> argparse.ArgumentParser:
    """Make the flags of every command that reads a table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("file", metavar="FILE", help="TSV or CSV with a header line; - reads standard input")
    group = parser.add_argument_group("model and columns")
    group.add_argument("--model", default="", help="name of the model (not needed when the server serves one)")
    group.add_argument("--model-version", type=int, metavar="N", help="version of the model (default: the newest)")
    group.add_argument("--time-column", metavar="NAME", help="column of the times (default: guessed from its name)")
    group.add_argument(
        "--columns", type=_pairs, action="append", default=[], metavar="FEATURE=COLUMN[,…]", help="columns called differently"
    )
    group.add_argument("--series-column", metavar="NAME", help="column that names the series")
    group.add_argument("--series", default=DEFAULT_SERIES, help="name of the series where no column does (default %(default)s)")
    return parser


def judgement_arguments() -> argparse.ArgumentParser:
    """Make the flags of every command that judges and shows what it judged."""
    parser = argparse.ArgumentParser(add_help=False)
    group = add_budget_arguments(parser)
    group.add_argument("--all", action="store_true", help="show every row, not only what is anomalous")
    return parser


def add_budget_arguments(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Add the flags of every command that judges."""
    group = parser.add_argument_group("judgement")
    level = group.add_mutually_exclusive_group()
    level.add_argument("--false-alarms-per-day", type=float, metavar="N", help="acceptable per series (default: the model's)")
    level.add_argument("--significance", type=float, metavar="P", help="the same, said as a p-value")
    group.add_argument(
        "--fixed-level",
        action="store_true",
        help="do not let the level of a series adapt to what it raised; rows of a file judged by detect never do",
    )
    group.add_argument(
        "--impute-rows",
        type=int,
        default=DEFAULT_IMPUTE_ROWS,
        metavar="N",
        help="fill up to N missing rows with the forecast, start afresh after more (default %(default)s)",
    )
    return group


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(feature and column for feature, _, column in pairs):
        raise argparse.ArgumentTypeError(f"expected FEATURE=COLUMN, found {text!r}")
    return [(feature, column) for feature, _, column in pairs]
