"""Flags that watch and replay share."""

import argparse
import re
import socket
from pathlib import Path

from mods_grpc.cli.arguments import add_budget_arguments, connection_arguments
from mods_grpc.features import GroupBy
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.suppression import parse_severity

DEFAULT_ALERTS = "stdout"
LATENESS_SECONDS = 300.0
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


def watch_arguments() -> argparse.ArgumentParser:
    """Make the flags of every command that turns logs into alerts."""
    parser = argparse.ArgumentParser(add_help=False, parents=[connection_arguments()])
    parser.add_argument("--model", default="", help="name of the model (not needed when the server serves one)")
    parser.add_argument("--model-version", type=int, metavar="N", help="version of the model (default: the newest)")
    parser.add_argument("--sensor", default=socket.gethostname(), help="name of this vantage point (default: this host's)")
    _add_aggregation(parser)
    add_budget_arguments(parser)
    _add_alerts(parser)
    return parser


def parse_span(text: str) -> float:
    """Read a span of time such as 10m, 1h or 90 (seconds)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|d)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a span such as 30s, 10m or 1h, found {text!r}")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _add_aggregation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("aggregation")
    group.add_argument(
        "--local", nargs="+", action="extend", default=[], metavar="CIDR", help="our networks (default: private ones)"
    )
    group.add_argument("--window", type=parse_span, metavar="SPAN", help="length of a window; must be the model's")
    group.add_argument("--slide", type=parse_span, metavar="SPAN", help="from one window to the next; must be the model's")
    group.add_argument(
        "--group-by",
        type=GroupBy,
        choices=list(GroupBy),
        default=GroupBy.SITE,
        help="what a series is about (default %(default)s)",
    )
    group.add_argument(
        "--features",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=PROTOCOL|COLUMN",
        help="aggregate of a feature, where the model does not say it; repeatable",
    )
    group.add_argument(
        "--lateness",
        type=parse_span,
        default=LATENESS_SECONDS,
        metavar="SPAN",
        help="how much later than others a record may be logged and still count (default 5m)",
    )


def _add_alerts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("alerts")
    group.add_argument(
        "--alerts",
        action="append",
        default=[],
        metavar="FORMAT:DESTINATION",
        help="eve, zeek, zeek-json, idmef, cef or jsonl, to a file, - , udp://, tcp://, tls:// or https://; "
        "repeatable (default: stdout, which is jsonl:-)",
    )
    group.add_argument("--updates", action="store_true", help="tell again when an episode becomes ten times less likely")
    group.add_argument("--ends", action="store_true", help="tell when an episode is over")
    group.add_argument("--suppress", type=Path, metavar="FILE", help="TOML file: planned work, series to leave alone")
    group.add_argument("--minimum-severity", type=_severity, metavar="NAME", help="low, medium, high or critical")
    group.add_argument("--dry-run", action="store_true", help="print what would be told; write nothing")
    group.add_argument("--tui", action="store_true", help="show each series, its forecast band and its alarms")


def _pair(text: str) -> tuple[str, str]:
    feature, equals, key = text.partition("=")
    if not equals or "|" not in key:
        raise argparse.ArgumentTypeError(f"expected NAME=PROTOCOL|COLUMN, found {text!r}")
    return feature, key


def _severity(text: str) -> Severity:
    try:
        return parse_severity(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
