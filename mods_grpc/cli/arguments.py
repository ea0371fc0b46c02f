"""Flags that several commands share, and the client that the connection flags describe."""

import argparse
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from mods_grpc.client import Client
from mods_grpc.command_line import name_of, number, parse_optional_text, parse_path, parse_text, refusal, whole_number
from mods_grpc.data.cells import parse_time
from mods_grpc.data.tables import DEFAULT_SERIES, TIME_COLUMNS
from mods_grpc.data.units import DAY_SECONDS, SECONDS_PER_UNIT
from mods_grpc.errors import DataError
from mods_grpc.features import GroupBy
from mods_grpc.features.locality import parse_networks
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.episodes import MAX_EPISODE_SECONDS
from mods_grpc.ids.alerts.mutes.suppression_file import parse_severity
from mods_grpc.ids.alerts.sinks.target import parse_destination
from mods_grpc.ids.rules.rule import RULE_NAMES

MIN_ANSWER_SECONDS = 0.1  # below it every call would fail, and a stream would connect again and again
DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_IMPUTE_ROWS = 6
DEFAULT_STATE = Path("mods-watch-state")
DEFAULT_ALERTS = "stdout"
DEFAULT_STATE = Path("mods-watch-state")
LATENESS_SECONDS = 300.0
EVE_LATENESS_SECONDS = 900.0  # above the longest default of Suricata's flow-timeouts
MAX_SPAN_SECONDS = 366 * DAY_SECONDS
MAX_BUDGET = float(DAY_SECONDS)
"""False alarms per series and day: one for each window, if windows start each second."""
MAX_TOTAL_BUDGET = 1e6
ALL_RULES = "all"
MAX_RULE_THRESHOLD = 10**15
MAX_SENSOR_BYTES = 112
"""Of the 128 bytes that a namespace on the server may have; the watch adds to the name of the sensor."""

_SPAN_UNITS = {**SECONDS_PER_UNIT, "min": SECONDS_PER_UNIT["m"]}
_SPAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(s|m|min|h|d)?")
_OTHER_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|xds|passthrough):.+")  # schemes of gRPC's names


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
        "--address",
        "--server",
        type=parse_address,
        default=DEFAULT_ADDRESS,
        help="server address, host:port or unix:/path (default %(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=number(minimum=MIN_ANSWER_SECONDS, maximum=DAY_SECONDS, what="seconds"),
        default=10.0,
        metavar="SECONDS",
        help="time limit for an answer, at least 0.1 seconds (default 10)",
    )
    group.add_argument("--tls", action="store_true", help="use TLS and trust the certificate authorities of this system")
    group.add_argument(
        "--tls-ca", type=parse_path, metavar="FILE", help="use TLS and trust the certificate authorities in this PEM file"
    )
    group.add_argument("--token-file", type=parse_path, metavar="FILE", help="file that holds the bearer token")
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def open_client(arguments: argparse.Namespace) -> Client:
    """Open a client as the connection flags say.

    Raises:
        DataError: The file of authorities or of the token is not one.
        OSError: It can't be read.
    """
    credentials = None
    if arguments.tls or arguments.tls_ca is not None:
        roots = None if arguments.tls_ca is None else _read_authorities(arguments.tls_ca)
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    token = None if arguments.token_file is None else read_token(arguments.token_file)
    return Client(arguments.address, credentials=credentials, token=token, timeout_seconds=arguments.timeout)


def read_token(file: Path) -> str:
    """Read a bearer token.

    Raises:
        DataError: The file holds something else than one line of visible ASCII characters.
        OSError: It can't be read.
    """
    token = file.read_bytes().strip()
    if not re.fullmatch(rb"[!-~]{1,4096}", token):
        raise DataError(f"{file}: expected the bearer token and nothing else, on one line")
    return token.decode()


def _read_authorities(file: Path) -> bytes:
    content = file.read_bytes()
    try:
        ssl.create_default_context(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise DataError(
            f"{file}: expected certificates in PEM, such as the file of the authority that signed the server's"
        ) from error
    return content


def table_arguments() -> argparse.ArgumentParser:
    """Build the flags of every command that reads a table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "file",
        type=parse_text,
        metavar="FILE",
        help="TSV or CSV with a header line, gzip if it ends in .gz; - reads standard input",
    )
    group = parser.add_argument_group("model and columns")
    _add_model(group)
    group.add_argument(
        "--time-column",
        type=parse_text,
        metavar="NAME",
        help=f"column that holds the time (default: the first of {', '.join(TIME_COLUMNS)})",
    )
    group.add_argument(
        "--columns",
        type=_parse_columns,
        action="append",
        default=[],
        metavar="FEATURE=COLUMN[,…]",
        help="columns of features that are named differently",
    )
    group.add_argument(
        "--series-column", type=parse_text, metavar="NAME", help="column that names the series of a row (default: one series)"
    )
    group.add_argument(
        "--series", type=parse_text, default=DEFAULT_SERIES, help="name of the series if no column names it (default %(default)s)"
    )
    group.add_argument(
        "--panes",
        action="store_true",
        help="rows hold what each window's last slide counted alone, for the features of which the model takes panes (default: "
        "whole windows, for the newest version that takes them)",
    )
    return parser


def detection_arguments(*, with_total: bool = False) -> argparse.ArgumentParser:
    """Build the flags of every command that detects anomalies and prints verdicts."""
    parser = argparse.ArgumentParser(add_help=False)
    group = _add_detection(parser, "; detect never adapts it", with_total=with_total)
    group.add_argument("--all", action="store_true", help="show every row, not only the anomalous ones")
    return parser


def watch_arguments() -> argparse.ArgumentParser:
    """Build the flags of every command that turns logs into alerts."""
    parser = argparse.ArgumentParser(add_help=False, parents=[connection_arguments()])
    _add_model(parser)
    parser.add_argument(
        "--sensor",
        type=parse_sensor,
        default=socket.gethostname(),
        help="name of this sensor, shown in alerts (default: the host name)",
    )
    _add_aggregation(parser)
    _add_detection(parser, with_total=True).add_argument(
        "--own-envelope",
        action=argparse.BooleanOptionalAction,
        help="judge each series by what it usually reaches itself (default: where series are hosts or subnets)",
    )
    _add_alerts(parser)
    _add_rules(parser)
    return parser


def span(*, minimum: float = 1.0, whole: bool = False) -> Callable[[str], float]:
    """Return a type for time spans such as 30s, 10m, 1h or 2d, in seconds. The unit is required, except for 0.

    Args:
        minimum: Least span in seconds; 0 where 0 turns something off.
        whole: Whether it must be a whole number of seconds.
    """

    def parse(value: str) -> float:
        match = _SPAN.fullmatch(value)
        if match is None:
            raise refusal("a span with a unit, such as 30s, 10m, 1h or 2d", value)
        if not match[2] and float(match[1]) != 0:
            raise argparse.ArgumentTypeError(f"give a unit: {match[1]}s, {match[1]}m or {match[1]}h; found {value!r}")
        seconds = float(match[1]) * _SPAN_UNITS[match[2] or "s"]
        if whole and not seconds.is_integer():
            raise refusal("a span of whole seconds", value)
        if not minimum <= seconds <= MAX_SPAN_SECONDS:
            raise refusal(f"a span of {minimum:g}s to {MAX_SPAN_SECONDS // DAY_SECONDS}d", value)
        return seconds

    return parse


def parse_address(value: str) -> str:
    """Accept the address of a server: host:port, unix:/path, or another name that gRPC resolves."""
    host, colon, port = parse_text(value).rpartition(":")
    if _OTHER_TARGET.fullmatch(value):
        return value
    if not colon:
        raise argparse.ArgumentTypeError(f"the port is missing; expected host:port, such as {value}:50051, found {value!r}")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16 or re.search(r"[\s/]", host):
        raise refusal("host:port with a port of 1 to 65535, or unix:/path", value)
    if ":" in host and not re.fullmatch(r"\[.+\]", host):
        raise refusal("brackets around an IPv6 address, such as [::1]:50051", value)
    return value


def parse_sensor(value: str) -> str:
    """Accept the name of a sensor, as the server does."""
    if len(parse_text(value).encode()) > MAX_SENSOR_BYTES:
        raise refusal(f"at most {MAX_SENSOR_BYTES} bytes", value)
    return value


def parse_network(value: str) -> str:
    """Accept a network in CIDR form, or one address."""
    try:
        parse_networks([value])
    except DataError:
        example = "a network such as 10.0.0.0/8 or 2001:db8::/32"
        raise refusal(f"{example}; several are separated by spaces" if "," in value else example, value) from None
    return value


def parse_moment(value: str) -> int:
    """Parse a time in ISO 8601, in UTC if it names no zone, as nanoseconds since 1970."""
    try:
        return parse_time(value, "")
    except DataError:
        raise refusal("a time such as 2024-04-19T00:00 or 2024-04-19T02:00+02:00", value) from None


def _add_model(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--model",
        type=parse_optional_text,
        default="",
        metavar="NAME",
        help="name of the model (default: the only one of the server)",
    )
    group.add_argument("--model-version", type=whole_number(1), metavar="N", help="version of the model (default: the newest)")


def _add_detection(
    parser: argparse.ArgumentParser, level_note: str = "", *, with_total: bool = False
) -> "argparse._ArgumentGroup":
    group = parser.add_argument_group("detection")
    level = group.add_mutually_exclusive_group()
    level.add_argument(
        "--false-alarms-per-day",
        type=number(above=0, maximum=MAX_BUDGET),
        metavar="N",
        help="acceptable false alarms per series and day (default: the model's)",
    )
    level.add_argument(
        "--significance",
        type=number(above=0, below=1, what="a p-value"),
        metavar="P",
        help="report rows with a p-value of at most P, instead of a budget",
    )
    if with_total:
        level.add_argument(
            "--total-false-alarms-per-day",
            type=number(above=0, maximum=MAX_TOTAL_BUDGET),
            metavar="N",
            help="acceptable false alarms per day of all series together, however many there are, instead of a budget for each",
        )
    group.add_argument(
        "--fixed-level",
        action="store_true",
        help=f"do not adapt the alarm level of a series to the alarms that it raised{level_note}",
    )
    group.add_argument(
        "--impute-rows",
        type=whole_number(0),
        default=DEFAULT_IMPUTE_ROWS,
        metavar="N",
        help="fill gaps of up to N rows with the forecast; start the window again after longer ones (default %(default)s)",
    )
    return group


def add_recorded_logs(parser: argparse.ArgumentParser) -> None:
    """Add the argument of recorded logs."""
    parser.add_argument(
        "logs",
        nargs="+",
        type=parse_path,
        metavar="LOGS",
        help="log files, or folders that are searched for them; plain or compressed; - reads standard input",
    )


def add_networks(group: "argparse._ActionsContainer") -> None:
    """Add the flag of local networks."""
    group.add_argument(
        "--local",
        type=parse_network,
        nargs="+",
        action="extend",
        default=[],
        metavar="CIDR",
        help="local networks (default: the private ones)",
    )


def _add_aggregation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("aggregation")
    add_networks(group)
    group.add_argument("--window", type=span(whole=True), metavar="SPAN", help="length of a window; must be the model's")
    group.add_argument("--slide", type=span(whole=True), metavar="SPAN", help="time between window starts; must be the model's")
    group.add_argument(
        "--group-by",
        type=name_of(GroupBy),
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
        type=span(minimum=0),
        metavar="SPAN",
        help="how late a record may be logged and still count (default 5m; 15m for Suricata, whose flows come late)",
    )


def _add_alerts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("alerts")
    group.add_argument(
        "--alerts",
        type=_parse_alerts,
        action="append",
        default=[],
        metavar="FORMAT:DESTINATION",
        help="format: eve, zeek, zeek-json, idmef, cef, ecs or jsonl; destination: a file, - (standard output), udp://, "
        "tcp://, tls:// or https://; repeatable (default: stdout, short for jsonl:-)",
    )
    group.add_argument("--ends", action="store_true", help="report the end of each episode")
    group.add_argument(
        "--no-roll-up",
        dest="roll_up",
        action="store_false",
        help="raise an alert of each series, also where several have one cause",
    )
    group.add_argument(
        "--max-episode",
        type=span(minimum=21_600.0),
        default=MAX_EPISODE_SECONDS,
        metavar="SPAN",
        help="longest time of an episode, after which a series is judged relative to its new level (default 1d)",
    )
    group.add_argument("--suppress", type=parse_path, metavar="FILE", help="TOML file of maintenance windows and muted series")
    group.add_argument(
        "--minimum-severity", type=_parse_severity, metavar="NAME", help="least severity to report: low, medium, high or critical"
    )
    group.add_argument("--dry-run", action="store_true", help="print alerts as plain lines; send nothing and save no state")
    group.add_argument("--tui", action="store_true", help="show a live view of each series, its forecast band and its alerts")


def _add_rules(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("fixed rules")
    group.add_argument(
        "--no-rule",
        choices=[*RULE_NAMES, ALL_RULES],
        action="append",
        default=[],
        metavar="NAME",
        help=f"do not run a rule, or all but those of --rule: {', '.join([*RULE_NAMES, ALL_RULES])}; repeatable",
    )
    group.add_argument(
        "--rule",
        type=_parse_rule,
        action="append",
        default=[],
        metavar="NAME=N",
        help="threshold of a rule in place of the published one, such as bytes-out=2000000000; repeatable",
    )


def _parse_rule(value: str) -> tuple[str, int]:
    name, _, threshold = parse_text(value).partition("=")
    if name not in RULE_NAMES:
        raise refusal(f"NAME=N with a name of {', '.join(RULE_NAMES)}", value)
    return name, whole_number(1, MAX_RULE_THRESHOLD)(threshold)


def find_rules_off(arguments: argparse.Namespace) -> frozenset[str]:
    """Return the rules that do not run; `--no-rule all` leaves those that `--rule` names."""
    everything = set(RULE_NAMES) - dict(arguments.rule).keys() if ALL_RULES in arguments.no_rule else set()
    return frozenset(everything | set(arguments.no_rule) - {ALL_RULES})


def find_contradiction(arguments: argparse.Namespace) -> str | None:
    """Return which flags contradict each other, of those that argparse can't compare; None if none do."""
    if (contradiction := find_level_contradiction(arguments)) is not None:
        return contradiction
    thresholds: dict[str, int] = {}
    for name, threshold in arguments.rule:
        if thresholds.setdefault(name, threshold) != threshold:
            return f"--rule: expected one threshold of {name}, found {thresholds[name]} and {threshold}"
        if name in arguments.no_rule:
            return f"--rule {name}={threshold}: expected a rule that runs, found --no-rule {name}; leave one of them out"
    return None


def find_level_contradiction(arguments: argparse.Namespace) -> str | None:
    """Return which flags about the alarm level contradict each other; None if none do."""
    if arguments.total_false_alarms_per_day is not None and arguments.fixed_level:
        return "--fixed-level: expected levels that adapt to --total-false-alarms-per-day; leave one of them out"
    return None


def _parse_columns(value: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in parse_text(value).split(",")]
    if not all(feature and column for feature, _, column in pairs):
        raise refusal("FEATURE=COLUMN", value)
    return [(feature, column) for feature, _, column in pairs]


def _parse_feature(value: str) -> tuple[str, str]:
    feature, _, key = parse_text(value).partition("=")
    protocol, _, column = key.partition("|")
    if not (feature and protocol and column):
        raise refusal("NAME=PROTOCOL|COLUMN", value)
    return feature, key


def _parse_alerts(value: str) -> str:
    try:
        parse_destination(parse_text(value))
    except DataError as error:
        raise argparse.ArgumentTypeError(error.message) from error
    return value


def _parse_severity(value: str) -> Severity:
    try:
        return parse_severity(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
