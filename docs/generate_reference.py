"""Writes the pages of docs/reference/ that are made from the code: command lines, server options, errors, metrics, features.

`make docs` runs it; `tests/project/test_reference_pages.py` compares the committed pages with what it makes.
"""

import argparse
import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mods_grpc.cli.main import build_parser
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import ModsError, Reason
from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.features.definitions import FEATURES, MEASURES, Feature
from mods_grpc.features.key_memory import LEARNING_SECONDS, MAX_REMEMBERED_KEYS, MEMORY_SECONDS
from mods_grpc.features.presets import PRESETS
from mods_grpc.features.presets.descriptions import DIRECTION_TEXTS, describe
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.watch.metrics import WatchCollector
from mods_grpc.ids.watch.pipeline import WatchCounters
from mods_grpc.ids.watch.review import FeedbackTracker
from mods_grpc.server.config import ENVIRONMENT_PREFIX, ServerConfig, format_default, to_flag
from mods_grpc.server.models.collector import ModelCollector
from mods_grpc.server.rpc.status import CODES, DOMAIN, NEVER_ON_THE_WIRE
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.transport.http2.errors import CloseReason, ResetReason
from training.cli.main import build_parser as build_training_parser

FOLDER = Path(__file__).parent / "reference"
SOURCE = "docs/generate_reference.py"

# What a client or operator can do about each reason. A reason without an entry fails the generator.
REMEDIES: Mapping[Reason, str] = {
    Reason.MALFORMED_REQUEST: "The bytes are not the message of this RPC. Check the stubs of the client.",
    Reason.MODEL_NAME_INVALID: "A name is 1 to 64 of a-z, 0-9, `_` and `-`, and begins with a letter or a digit.",
    Reason.MODEL_NOT_FOUND: "`mods-grpc models` lists names and versions.",
    Reason.MODEL_LOADING: "Retry after the time in RetryInfo.",
    Reason.MODEL_FAILED: "Every version was refused; `mods-grpc models` says why.",
    Reason.MODEL_RETIRED: "The model was withdrawn, or its features changed. Open a new stream.",
    Reason.MODEL_OUTPUT_INVALID: "The model forecast something that is not a finite number. Roll back.",
    Reason.CONFIG_REQUIRED: "Send `config` as the first message of a stream.",
    Reason.CONFIG_REPEATED: "Send `config` once.",
    Reason.FIELD_REQUIRED: "Set the field that the violation names.",
    Reason.FIELD_INVALID: "Correct the field that the violation names.",
    Reason.ENUM_UNKNOWN: "Use a value of the enum in `protos/`.",
    Reason.EMPTY_INPUT: "Send at least one window or observation.",
    Reason.WINDOW_TOO_SHORT: "Send as many rows as `Model.window_rows` says.",
    Reason.WINDOW_TOO_LONG: "Send fewer rows, or raise `--max-window-rows`.",
    Reason.BATCH_TOO_LARGE: "Send or ask for less in one message.",
    Reason.HORIZON_INVALID: "Ask for at least one step.",
    Reason.HORIZON_TOO_LONG: "Ask for at most `Model.horizon` steps.",
    Reason.SHAPE_MISMATCH: "Columns of one message must have the lengths that its comments in `protos/` give.",
    Reason.PANES_MISMATCH: "Set `panes` if rows hold the last slide alone of each feature that has `pane`, as the model needs, "
    "else not; or name a version that takes the rows that you have.",
    Reason.FEATURE_MISSING: "Send every feature of the model, or mark the value as missing.",
    Reason.FEATURE_UNKNOWN: "Send only the features that `Model.features` lists.",
    Reason.FEATURE_DUPLICATE: "Send each feature once.",
    Reason.VALUE_NAN: "Mark the value as missing; NaN is never accepted.",
    Reason.VALUE_INFINITE: "Mark the value as missing, or correct it.",
    Reason.VALUE_NEGATIVE: "Counts and sums are never negative. Check the aggregation.",
    Reason.TIMESTAMP_INVALID: "Send a time between 1980 and 2200.",
    Reason.TIMESTAMP_FUTURE: "Set the clock of the sensor, or raise `--max-future-seconds`.",
    Reason.TIMESTAMP_OUT_OF_ORDER: "Send the rows of a series in order of time.",
    Reason.INTERVAL_MISMATCH: "Times must lie on the model's grid, one slide apart.",
    Reason.OBSERVATION_LATE: "The row is older than the last one of its series. It changed nothing; go on.",
    Reason.DUPLICATE_CONFLICT: "The same time was sent with other values. Check whether two sensors share a name.",
    Reason.GAP: "Rows are missing in the history. Set a gap policy that fills them, or send them.",
    Reason.SEQUENCE_GAP: "Number data messages 1, 2, 3 and so on; `limit` holds the expected number.",
    Reason.SERIES_ID_INVALID: "A series name is 1 to 128 bytes of UTF-8 without control characters.",
    Reason.AUTH_REQUIRED: "Send a bearer token that the server knows, or a client certificate.",
    Reason.SCOPE_MISSING: "Give the token the scope in `limit`.",
    Reason.SERIES_QUOTA: "The sensor holds `--max-series-per-sensor` series. Check how series are named.",
    Reason.STREAM_QUOTA: "Close streams, or raise `--max-streams` or `--max-streams-per-identity`.",
    Reason.RATE_LIMIT: "Retry after the time in RetryInfo, or raise `--max-messages-per-second`.",
    Reason.OVERLOADED: "Retry after the time in RetryInfo. `--max-pending` large requests wait or run.",
    Reason.TOO_MANY_BAD_OBSERVATIONS: "`--max-bad-messages` messages in a row were refused; each answer said why.",
    Reason.DEADLINE_TOO_SHORT: "Allow more time, or send smaller batches.",
    Reason.SLOW_READER: "Read answers within `--slow-reader-seconds`.",
    Reason.STREAM_IDLE: "Send within `--stream-idle-seconds`, or open the stream again.",
    Reason.DRAINING: "The server shuts down. Reconnect; the client library does so by itself.",
    Reason.INTERNAL: "A defect of this program. Report it with the id; the server's log has the trace.",
}


def pages() -> dict[str, str]:
    """Make every page, by the name of its file in docs/reference/."""
    return {
        "cli.md": cli_page(),
        "server-options.md": server_options_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "features.md": features_page(),
    }


def cli_page() -> str:
    """Make the page of both command lines."""
    lines = _head("Command lines", "Commands, arguments and options of `mods-grpc` and `python -m training`.")
    lines += [
        "Exit status of both: 0 done, 1 failed, 2 called wrongly or refused, 130 interrupted.",
        "`mods-grpc aggregate`, `replay` and `watch`: 3 finished, but [what was read](account.md) can't be trusted.",
        "`mods-grpc serve`: 0 drained in time, 1 the grace ran out, a second signal came, the state file was not written or no",
        "model was ready, 2 could not start.",
        "",
    ]
    for parser in (build_parser(), build_training_parser()):
        lines += [f"## {parser.prog}", "", f"{parser.description}", ""]
        for name, text, command in _commands(parser):
            lines += [f"### {parser.prog} {name}", "", f"{text[:1].upper()}{text[1:]}.", ""]
            if name == "serve":
                lines += ["Arguments and options: [server options](server-options.md).", ""]
            else:
                lines += _options(command)
    return _page(lines)


def server_options_page() -> str:
    """Make the page of the server's options."""
    lines = _head("Server options", "Every option of `mods-grpc serve`.")
    lines += [
        f"A flag wins over the environment variable `{ENVIRONMENT_PREFIX}<NAME>`, which wins over the default. NAME is the",
        "flag in capitals with underscores. Nothing else reads the environment. A switch (true or false) is",
        "turned off with `no-` before its name, as in `--no-canary`.",
        "",
        "| flag | default | what it sets |",
        "|---|---|---|",
    ]
    for item in dataclasses.fields(ServerConfig):
        shown = "`REPOSITORY`" if item.name == "repository" else f"`{to_flag(item.name)}`"
        choices = item.metadata.get("choices")
        among = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        text = f"{_cell(item.metadata['help'])}{'.' if among else ''}{among}"
        lines.append(f"| {shown} | {_cell(format_default(item.default))} | {text} |")
    return _page([*lines, ""])


def errors_page() -> str:
    """Make the page of reasons and statuses."""
    lines = _head("Errors", "What each failure is called, its gRPC status, and what to do.")
    lines += [
        f"Every failure carries `google.rpc.ErrorInfo` with the domain `{DOMAIN}`, a reason, and where it helps the metadata",
        "`limit` and `actual`. Further details: BadRequest (which fields), QuotaFailure, PreconditionFailure, ResourceInfo, and",
        "RetryInfo (when a retry makes sense). On a stream, what is wrong with one observation or message is answered",
        "in-band, changes nothing, and the stream stays open.",
        "",
        "| reason | status | kind | what to do |",
        "|---|---|---|---|",
    ]
    for reason in Reason:
        for error in CODES:
            if reason in error.reasons:
                lines.append(f"| `{reason}` | {CODES[error].name} | {_first_line(error)} | {_cell(REMEDIES[reason])} |")
    unsent = ", ".join(f"`{error.__name__}`" for error in sorted(NEVER_ON_THE_WIRE, key=lambda error: error.__name__))
    return _page([*lines, "", f"Only inside the client or the command line, never on the wire: {unsent}.", ""])


def metrics_page() -> str:
    """Make the page of metrics."""
    lines = _head("Metrics", "What Prometheus reads at `--metrics-address` of `serve`, and of `watch` (`mods_watch_`).")
    lines += [
        "No label names a series, a sensor or a peer. Counters whose labels are known at the start begin at 0, so that",
        "an alert sees their first increase.",
        "",
        "| metric | type | labels | what it says |",
        "|---|---|---|---|",
    ]
    for name, kind, labels, text in sorted(_metrics()):
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {_cell(text)} |")
    lines += [
        "",
        "## Reasons of connections and streams",
        "",
        "`mods_connections_closed_total` and `mods_streams_reset_total` are those of `--transport direct`. Every connection that",
        "is ended or refused, and every stream that is reset, has one reason. GOAWAY carries it as debug data, with the limit",
        "that was exceeded. What is not marked as ordinary is also [logged](log-fields.md), at most one line of a reason in ten",
        "seconds. gRPC's own library, `--transport grpcio`, tells its application nothing about connections: over it there is",
        "neither metric nor log line. The code of `by_peer` is the usual one; the peer may choose another.",
    ]
    for metric, reasons in (("mods_connections_closed_total", CloseReason), ("mods_streams_reset_total", ResetReason)):
        lines += ["", f"| reason in `{metric}` | HTTP/2 code | ordinary | what happened |", "|---|---|---|---|"]
        for reason in reasons:
            ordinary = "yes" if reason.is_ordinary else ""
            lines.append(f"| `{reason}` | {reason.code.name} | {ordinary} | {_cell(reason.meaning)} |")
    return _page([*lines, ""])


def features_page() -> str:
    """Make the page of columns and presets."""
    lines = _head("Features", "The columns that `mods-grpc aggregate` writes and models use, and the attacks that they show.")
    lines += [
        "A column is named by its direction and what it counts, such as `out_failed`, and with its log it is the key of a",
        "feature: `conn|out_failed`. `mods-grpc features` prints the same. Where there is no attack, the column is one of the",
        "datapool of MODS, under its name there. The others differ from those in two ways: a connection counts in the window in",
        "which it *ended*, and one between local hosts counts for its originator alone.",
        "",
        "A record of ICMP is a connection of its originator in those others only if it begins with a request, such as an echo",
        "request. Errors and answers (unreachable, time exceeded, redirect, echo reply, advertisements) count for nobody,",
        "because others cause them: a scan from outside makes a server send thousands. Their host has rows all the same. ICMP",
        "has no ports, and its code is none. A request counts in `distinct_host_ports` as its responder and `icmp`, and not",
        "in `distinct_ports` and `admin`. Where the log does not say the transport protocol, or Suricata not the type",
        "(`icmp_type`), a record counts as a connection.",
        "",
        "| direction | records |",
        "|---|---|",
        *(f"| `{direction}` | {text} |" for direction, text in DIRECTION_TEXTS.items()),
        "",
        f"Columns of what is *new* compare with what the series had in the {MEMORY_SECONDS // DAY_SECONDS} days before, at most",
        f"{MAX_REMEMBERED_KEYS:,} hosts or names of each kind and direction, each with 13 bytes. They are missing in the first",
        f"{LEARNING_SECONDS // 60} minutes of the logs, and of a series that begins in that time. All that a series does is new",
        "if it begins later. How to choose: [what can be seen](../how-to/what-can-be-seen.md).",
    ]
    for protocol in MEASURES:
        lines += ["", f"## {protocol}", "", "| column | directions | counts | shows |", "|---|---|---|---|"]
        by_measure: dict[str, list[Feature]] = {}
        for feature in FEATURES:
            if feature.protocol == protocol:
                by_measure.setdefault(feature.measure.name, []).append(feature)
        for name, features in by_measure.items():
            directions = " ".join(feature.direction for feature in features)
            shown = (f"`` {name} ``" if "`" in name else f"`{name}`") if name else "(the direction alone)"
            lines.append(f"| {shown} | {directions} | {_cell(describe(features[0]))} | {features[0].measure.shows} |")
    lines += ["", "## Presets", "", "| preset | watches | columns |", "|---|---|---|"]
    for name, preset in PRESETS.items():
        keys = ", ".join(f"`{_cell(key)}`" for key in preset.keys)
        lines.append(f"| `{name}` | {preset.purpose} | {keys} |")
    return _page([*lines, ""])


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    return 0


def _head(title: str, text: str) -> list[str]:
    return [f"<!-- Generated by {SOURCE}; do not edit. Run: make docs -->", "", f"# {title}", "", text, ""]


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield name, help and parser of each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield name, texts[name].rstrip("."), command


def _options(parser: argparse.ArgumentParser) -> list[str]:
    lines: list[str] = []
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if not actions:
            continue
        title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "")
        lines += [f"| {title} | what it sets |", "|---|---|"]
        for action in actions:
            text = re.sub(r"%\((\w+)\)s", lambda match, action=action: str(getattr(action, match[1])), action.help or "")
            lines.append(f"| {_names(action)} | {_cell(text.replace('%%', '%'))} |")
        lines.append("")
    return lines


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = ""
    if action.nargs != 0:
        choices = action.choices and "|".join(str(choice) for choice in action.choices)
        value = f" {action.metavar or choices or action.dest.upper()}".replace("|", "\\|")
    return ", ".join(f"`{name}{value}`" for name in action.option_strings)


def _first_line(error: type[ModsError]) -> str:
    return _cell((error.__doc__ or "").strip().splitlines()[0].rstrip("."))


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


class _State(Enum):
    READY = 1


class _OneModel:
    """Stands for a repository with one version, so that every metric has a sample."""

    def __init__(self) -> None:
        self.load_counts: Counter[tuple[str, str]] = Counter()

    def entries(self) -> list[Any]:
        loaded = SimpleNamespace(session=SimpleNamespace(provider=""), series=())
        return [SimpleNamespace(name="", version=1, digest="", loaded=loaded, state=_State.READY)]

    def count_evictions(self) -> Counter[str]:
        return Counter()

    def count_waiting(self) -> Counter[str]:
        return Counter({"": 1})


_WATCH = SimpleNamespace(
    model=SimpleNamespace(name="", digest=""),
    counters=ReadCounters(newest_ns=1),
    feed=SimpleNamespace(aggregator=SimpleNamespace(counters=AggregatorCounters()), watermark=SimpleNamespace(pending=0)),
    pipeline=SimpleNamespace(
        counters=WatchCounters(),
        rules=None,
        suppression=Suppression(allow=("",)),
        feedback=FeedbackTracker(None, lambda _series: None, lambda: 0.0),
        open_notices=(),
        open_episodes=0,
        pending=0,
        is_connected=True,
    ),
    undelivered=lambda: {"": 0},
    saved_at=lambda: 0.0,
    polled_at=lambda: 0.0,
)
"""Stands for a watch, so that every metric has a sample."""


def _metrics() -> Iterator[tuple[str, str, list[str], str]]:
    """Yield name, type, labels and help of each metric."""
    metrics, repository = Metrics(), cast("Any", _OneModel())
    metrics.make_call_metrics("", "", "").start()
    metrics.instrument("")
    metrics.observe_connections()
    for collector in (metrics.registry, ModelCollector(repository), WatchCollector(cast("Any", _WATCH))):
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, [label for label in family.samples[0].labels if label != "le"], family.documentation


if __name__ == "__main__":
    sys.exit(main())
