"""The commands that talk to a server: models, forecast, detect and stream."""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import grpc
import numpy as np

from mods_grpc.cli import output as cli_output
from mods_grpc.cli.arguments import connection_arguments, judgement_arguments, table_arguments
from mods_grpc.client import Client, DetectResult, ModelInfo, Observation
from mods_grpc.client.codec.times import nanos_of
from mods_grpc.data.tables import SeriesRows, TableLayout, TableRow, group_by_series, read_rows
from mods_grpc.errors import DataError

STANDARD_INPUT = "-"
FOLLOW_SECONDS = 0.2
CHUNK_ROWS = 8_192
# Rows that are judged twice where a long file is cut, so that an episode which spans the cut stays one.
OVERLAP_ROWS = 512


def add_client_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that talk to a server."""
    models = commands.add_parser("models", help="list what the server serves", parents=[connection_arguments()])
    models.set_defaults(run=run_models)

    shared = [connection_arguments(), table_arguments()]
    forecast = commands.add_parser("forecast", help="forecast what comes after the last rows of a file", parents=shared)
    forecast.add_argument("--steps", type=int, help="steps to forecast (default: as many as the model can)")
    forecast.add_argument(
        "--coverage", type=float, action="append", default=[], metavar="P", help="prediction interval, such as 0.95; repeatable"
    )
    forecast.set_defaults(run=run_forecast)

    shared = [connection_arguments(), table_arguments(), judgement_arguments()]
    detect = commands.add_parser("detect", help="judge the rows of a file", parents=shared)
    detect.add_argument("--judge-rows", type=int, metavar="N", help="judge only the last N rows of each series")
    detect.set_defaults(run=run_detect)

    stream = commands.add_parser("stream", help="judge rows as they come, from a file or standard input", parents=shared)
    stream.add_argument("--sensor", help="name under which the server keeps the series (default: the name of this host)")
    stream.add_argument("--follow", action="store_true", help="wait for more rows at the end of the file")
    stream.add_argument(
        "--own-scales", action="store_true", help="let each series move from the scales of the model's calibration to its own"
    )
    stream.set_defaults(run=run_stream)


def run_models(arguments: argparse.Namespace) -> int:
    """List the models."""
    with open_client(arguments) as client:
        models = client.models()
    if arguments.json:
        cli_output.write_json(models)
    else:
        cli_output.print_models(models)
    return 0


def run_forecast(arguments: argparse.Namespace) -> int:
    """Forecast what comes after the last rows of every series of a file."""
    with open_client(arguments) as client:
        model = client.model(arguments.model, arguments.model_version)
        forecasts = []
        for table in _tables(arguments, model):
            start, window = _last_window(table, model)
            result = client.forecast(
                window,
                start,
                model=model.name,
                version=model.version,
                horizon=arguments.steps,
                coverages=arguments.coverage,
            )
            forecasts.append((table.series, result))
    if arguments.json:
        cli_output.write_json([cli_output.forecast_object(*forecast) for forecast in forecasts])
    else:
        for forecast in forecasts:
            cli_output.print_forecast(*forecast)
    return 0


def run_detect(arguments: argparse.Namespace) -> int:
    """Judge the rows of a file."""
    with open_client(arguments) as client:
        model = client.model(arguments.model, arguments.model_version)
        tables = _tables(arguments, model)
        results = [result for table in tables for result in _detect(client, table, model, arguments)]
    rows = sum(len(table.nanos) for table in tables)
    if arguments.json:
        cli_output.write_json(cli_output.detection_object(results, rows, everything=arguments.all))
    else:
        cli_output.print_detection(results, rows, everything=arguments.all)
    return 0


def run_stream(arguments: argparse.Namespace) -> int:
    """Judge rows as they come."""
    with open_client(arguments) as client:
        model = client.model(arguments.model, arguments.model_version)
        with _lines(arguments.file, follow=arguments.follow) as lines:
            stream = client.stream_detect(
                (Observation(row.series, row.nanos, row.values) for row in _rows(lines, arguments, model)),
                model=model.name,
                version=arguments.model_version,
                sensor=arguments.sensor,
                explain="all" if arguments.all else "anomalies",
                fixed_level=arguments.fixed_level,
                own_scales=arguments.own_scales,
                **_judgement(arguments),
            )
            with stream:
                for verdict in stream:
                    if not (arguments.all or cli_output.is_alert(verdict)):
                        continue
                    if arguments.json:
                        cli_output.write_json(verdict, indent=None)
                    else:
                        cli_output.print_verdict(verdict)
    return 0


def _detect(client: Client, table: SeriesRows, model: ModelInfo, arguments: argparse.Namespace) -> Iterator[DetectResult]:
    """Judge one series, in pieces where it is long; every row is told once."""
    count = len(table.nanos)
    complete = np.flatnonzero(~np.isnan(table.values).any(axis=1))
    begin = 0 if arguments.judge_rows is None else max(0, count - arguments.judge_rows)
    for start in range(begin, count, CHUNK_ROWS):
        end = min(start + CHUNK_ROWS, count)
        # what is sent has to begin with a complete row
        first = int(next(iter(complete[complete >= start - OVERLAP_ROWS - model.window_rows]), count))
        result = client.detect(
            table.nanos[first:end],
            table.values[first:end],
            series=table.series,
            model=model.name,
            version=model.version,
            explain="all" if arguments.all else "anomalies",
            **_judgement(arguments),
        )
        yield _from_time(result, table.nanos[start])


def _from_time(result: DetectResult, nanos: np.int64) -> DetectResult:
    """Leave out the rows before a time."""
    kept = result.times >= nanos.astype("datetime64[ns]")
    first = int(np.argmax(kept)) if kept.any() else len(kept)
    return DetectResult(
        model=result.model,
        significance=result.significance,
        series=result.series,
        times=result.times[first:],
        status=result.status[first:],
        p_values=result.p_values[first:],
        anomalous=result.anomalous[first:],
        verdicts=tuple(verdict for verdict in result.verdicts if nanos_of(verdict.observe_time) >= nanos),
    )


def _last_window(table: SeriesRows, model: ModelInfo) -> tuple[int, Any]:
    rows = model.window_rows
    if len(table.nanos) < rows:
        raise DataError(f"{table.series}: the model's window takes {rows} rows, found {len(table.nanos)}")
    nanos = table.nanos[-rows:]
    uneven = np.flatnonzero(np.diff(nanos) != round(model.slide_seconds * 1e9))
    if uneven.size:
        around = [cli_output.iso(np.datetime64(int(nanos[uneven[0] + i]), "ns")) for i in (0, 1)]
        raise DataError(
            f"{table.series}: expected the last {rows} rows {model.slide_seconds:g} s apart, found {around[0]} before {around[1]}"
        )
    return int(nanos[0]), table.values[-rows:]


def _tables(arguments: argparse.Namespace, model: ModelInfo) -> list[SeriesRows]:
    with _lines(arguments.file, follow=False) as lines:
        tables = group_by_series(_rows(lines, arguments, model))
    if not tables:
        raise DataError(f"{_name(arguments.file)}: holds no rows")
    return tables


def _rows(lines: Iterator[str], arguments: argparse.Namespace, model: ModelInfo) -> Iterator[TableRow]:
    """Read the rows of a file. One without any value is left out: to the server it is a gap like a row that is not there."""
    for row in read_rows(lines, _layout(arguments, model), _name(arguments.file)):
        if not all(map(math.isnan, row.values)):
            yield row


def _layout(arguments: argparse.Namespace, model: ModelInfo) -> TableLayout:
    columns = dict(pair for group in arguments.columns for pair in group)
    if unknown := columns.keys() - set(model.feature_names):
        listed = ", ".join(model.feature_names)
        raise DataError(f"--columns: {model.name} has no feature {', '.join(sorted(unknown))}; its features are {listed}")
    return TableLayout(
        features=model.feature_names,
        columns=columns,
        time_column=arguments.time_column,
        series_column=arguments.series_column,
        series=arguments.series,
    )


@contextmanager
def _lines(file: str, *, follow: bool) -> Iterator[Iterator[str]]:
    if file == STANDARD_INPUT:
        yield iter(sys.stdin)
        return
    with Path(file).open(encoding="utf-8", newline="") as source:
        yield _followed(source) if follow else iter(source)


def _followed(source: TextIO) -> Iterator[str]:
    """Read whole lines for ever, waiting at the end of the file."""
    begun = ""
    while True:
        begun += source.readline()
        if begun.endswith("\n"):
            yield begun
            begun = ""
        else:
            time.sleep(FOLLOW_SECONDS)


def _name(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file


def _judgement(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "false_alarms_per_day": arguments.false_alarms_per_day,
        "significance": arguments.significance,
        "impute_rows": arguments.impute_rows,
    }


def open_client(arguments: argparse.Namespace) -> Client:
    """Make the client that the connection flags ask for."""
    credentials = None
    if arguments.tls or arguments.tls_ca is not None:
        roots = None if arguments.tls_ca is None else arguments.tls_ca.read_bytes()
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    token = None if arguments.token_file is None else arguments.token_file.read_text(encoding="utf-8").strip()
    return Client(arguments.address, credentials=credentials, token=token, timeout_seconds=arguments.timeout)
