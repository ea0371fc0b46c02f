"""Flags that several commands share, and the client that the connection flags describe."""

import argparse
import re
import socket
from collections.abc import Sequence
from pathlib import Path

import grpc

from mods_grpc.client import Client
from mods_grpc.data.tables import DEFAULT_SERIES, TIME_COLUMNS
from mods_grpc.data.units import SECONDS_PER_UNIT
from mods_grpc.features import GroupBy
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.suppression import parse_severity

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_IMPUTE_ROWS = 6
DEFAULT_ALERTS = "stdout"
LATENESS_SECONDS = 300.0

_SPAN_UNITS = {**SECONDS_PER_UNIT, "min": SECONDS_PER_UNIT["m"]}


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.ArgumentParser:
    """Add a command; its summary stands in the list of commands and begins its own help page."""
    return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", parents=list(parents))


def connection_arguments() -> argparse.ArgumentParser:
    """Build the flags of every command that calls a server."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--address", "--server", default=DEFAULT_ADDRESS, help="server address, host:port or unix:/path (default %(default)s)"
    )
    group.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="time limit for an answer, in seconds (default 10)"
    )
    group.add_argument("--tls", action="store_true", help="use TLS and trust the certificate authorities of this system")
    group.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="use TLS and trust the certificate authorities in this PEM file"
    )
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the bearer token")
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def open_client(arguments: argparse.Namespace) -> Client:
    """Open a client as the connection flags say.

    Raises:
        OSError: The file of authorities or of the token can't be read.
    """
    credentials = None
    if arguments.tls or arguments.tls_ca is not None:
        roots = None if arguments.tls_ca is None else arguments.tls_ca.read_bytes()
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    token = None if arguments.token_file is None else arguments.token_file.read_text(encoding="utf-8").strip()
    return Client(arguments.address, credentials=credentials, token=token, timeout_seconds=arguments.timeout)


def table_arguments() -> argparse.ArgumentParser:
    """Build the flags of every command that reads a table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "file", metavar="FILE", help="TSV or CSV with a header line, gzip if it ends in .gz; - reads standard input"
    )
    group = parser.add_argument_group("model and columns")
    _add_model(group)
    group.add_argument(
        "--time-column", metavar="NAME", help=f"column that holds the time (default: the first of {', '.join(TIME_COLUMNS)})"
    )
    group.add_argument(
        "--columns",
        type=_parse_columns,
        action="append",
        default=[],
        metavar="FEATURE=COLUMN[,…]",
        help="columns of features that are named differently",
    )
    group.add_argument("--series-column", metavar="NAME", help="column that names the series of a row (default: one series)")
    group.add_argument("--series", default=DEFAULT_SERIES, help="name of the series if no column names it (default %(default)s)")
    return parser


def detection_arguments() -> argparse.ArgumentParser:
    """Build the flags of every command that detects anomalies and prints verdicts."""
    parser = argparse.ArgumentParser(add_help=False)
    group = _add_detection(parser, "; detect never adapts it")
    group.add_argument("--all", action="store_true", help="show every row, not only the anomalous ones")
    return parser


def watch_arguments() -> argparse.ArgumentParser:
    """Build the flags of every command that turns logs into alerts."""
    parser = argparse.ArgumentParser(add_help=False, parents=[connection_arguments()])
    _add_model(parser)
    parser.add_argument(
        "--sensor", default=socket.gethostname(), help="name of this sensor, shown in alerts (default: the host name)"
    )
    _add_aggregation(parser)
    _add_detection(parser)
    _add_alerts(parser)
    return parser


def parse_span(text: str) -> float:
    """Parse a time span such as 10m, 1h or 90 (seconds) and return seconds.

    Raises:
        ArgumentTypeError: It is no such span.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|d)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a span such as 30s, 10m or 1h, found {text!r}")
    return float(match[1]) * _SPAN_UNITS[match[2] or "s"]


def _add_model(group: "argparse._ActionsContainer") -> None:
    group.add_argument("--model", default="", metavar="NAME", help="name of the model (default: the only one of the server)")
    group.add_argument("--model-version", type=int, metavar="N", help="version of the model (default: the newest)")


def _add_detection(parser: argparse.ArgumentParser, level_note: str = "") -> "argparse._ArgumentGroup":
    group = parser.add_argument_group("detection")
    level = group.add_mutually_exclusive_group()
    level.add_argument(
        "--false-alarms-per-day",
        type=float,
        metavar="N",
        help="acceptable false alarms per series and day (default: the model's)",
    )
    level.add_argument(
        "--significance", type=float, metavar="P", help="report rows with a p-value of at most P, instead of a budget"
    )
    group.add_argument(
        "--fixed-level",
        action="store_true",
        help=f"do not adapt the alarm level of a series to the alarms that it raised{level_note}",
    )
    group.add_argument(
        "--impute-rows",
        type=int,
        default=DEFAULT_IMPUTE_ROWS,
        metavar="N",
        help="fill gaps of up to N rows with the forecast; start the window again after longer ones (default %(default)s)",
    )
    return group


def _add_aggregation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("aggregation")
    group.add_argument(
        "--local", nargs="+", action="extend", default=[], metavar="CIDR", help="local networks (default: the private ones)"
    )
    group.add_argument("--window", type=parse_span, metavar="SPAN", help="length of a window; must be the model's")
    group.add_argument("--slide", type=parse_span, metavar="SPAN", help="time between window starts; must be the model's")
    group.add_argument(
        "--group-by",
        type=GroupBy,
        choices=list(GroupBy),
        default=GroupBy.SITE,
        help="what a series describes (default %(default)s)",
    )
    group.add_argument(
        "--features",
        type=_parse_feature,
        action="append",
        default=[],
        metavar="NAME=PROTOCOL|COLUMN",
        help="aggregate of a feature, if the model does not name it; repeatable",
    )
    group.add_argument(
        "--lateness",
        type=parse_span,
        default=LATENESS_SECONDS,
        metavar="SPAN",
        help="how late a record may be logged and still count (default 5m)",
    )


def _add_alerts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("alerts")
    group.add_argument(
        "--alerts",
        action="append",
        default=[],
        metavar="FORMAT:DESTINATION",
        help="format: eve, zeek, zeek-json, idmef, cef or jsonl; destination: a file, - (standard output), udp://, tcp://, "
        "tls:// or https://; repeatable (default: stdout, short for jsonl:-)",
    )
    group.add_argument("--updates", action="store_true", help="report again when an episode becomes ten times less likely")
    group.add_argument("--ends", action="store_true", help="report the end of each episode")
    group.add_argument("--suppress", type=Path, metavar="FILE", help="TOML file of maintenance windows and muted series")
    group.add_argument(
        "--minimum-severity", type=_parse_severity, metavar="NAME", help="least severity to report: low, medium, high or critical"
    )
    group.add_argument("--dry-run", action="store_true", help="print alerts as plain lines; send nothing and save no state")
    group.add_argument("--tui", action="store_true", help="show a live view of each series, its forecast band and its alerts")


def _parse_columns(text: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(feature and column for feature, _, column in pairs):
        raise argparse.ArgumentTypeError(f"expected FEATURE=COLUMN, found {text!r}")
    return [(feature, column) for feature, _, column in pairs]


def _parse_feature(text: str) -> tuple[str, str]:
    feature, equals, key = text.partition("=")
    if not equals or "|" not in key:
        raise argparse.ArgumentTypeError(f"expected NAME=PROTOCOL|COLUMN, found {text!r}")
    return feature, key


def _parse_severity(text: str) -> Severity:
    try:
        return parse_severity(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
