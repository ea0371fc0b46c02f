"""`mods-grpc detect`: detect anomalies in the rows of a file."""

import argparse
from collections.abc import Iterator

import numpy as np

from mods_grpc.cli.arguments import add_command, connection_arguments, detection_arguments, open_client, table_arguments
from mods_grpc.cli.input_rows import find_model, read_series
from mods_grpc.cli.output import detection_to_json, print_detection, write_json
from mods_grpc.client import Client, DetectResult, ModelInfo
from mods_grpc.client.codec.times import to_nanos
from mods_grpc.command_line import whole_number
from mods_grpc.data.tables import SeriesRows
from mods_grpc.exit_codes import EXIT_OK

CHUNK_ROWS = 8_192
# Rows before a chunk that are scored again with it, so that an episode across the boundary stays one.
OVERLAP_ROWS = 512


def add_detect_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `detect` command."""
    parser = add_command(
        commands,
        "detect",
        "detect anomalies in the rows of a file",
        parents=[connection_arguments(), table_arguments(), detection_arguments()],
    )
    parser.add_argument("--judge-rows", type=whole_number(1), metavar="N", help="score only the last N rows of each series")
    parser.set_defaults(run=run_detect)


def run_detect(arguments: argparse.Namespace) -> int:
    """Score the rows of a file and print the anomalous ones."""
    with open_client(arguments) as client:
        model = find_model(client, arguments)
        series = read_series(arguments, model)
        results = [result for rows in series for result in _detect_in_chunks(client, rows, model, arguments)]
    row_count = sum(len(rows.nanos) for rows in series)
    if arguments.json:
        write_json(detection_to_json(results, row_count, everything=arguments.all))
    else:
        print_detection(results, row_count, everything=arguments.all)
    return EXIT_OK


def _detect_in_chunks(
    client: Client, rows: SeriesRows, model: ModelInfo, arguments: argparse.Namespace
) -> Iterator[DetectResult]:
    """Score one series, chunk by chunk; each row is in one result only."""
    count = len(rows.nanos)
    complete = np.flatnonzero(~np.isnan(rows.values).any(axis=1))
    begin = 0 if arguments.judge_rows is None else max(0, count - arguments.judge_rows)
    for start in range(begin, count, CHUNK_ROWS):
        end = min(start + CHUNK_ROWS, count)
        # A request has to begin with a complete row.
        first = int(next(iter(complete[complete >= start - OVERLAP_ROWS - model.window_rows]), count))
        result = client.detect(
            rows.nanos[first:end],
            rows.values[first:end],
            series=rows.series,
            model=model.name,
            version=model.version,
            explain="all" if arguments.all else "anomalies",
            false_alarms_per_day=arguments.false_alarms_per_day,
            significance=arguments.significance,
            impute_rows=arguments.impute_rows,
            panes=arguments.panes,
        )
        yield _drop_rows_before(result, rows.nanos[start])


def _drop_rows_before(result: DetectResult, nanos: np.int64) -> DetectResult:
    in_chunk = result.times >= nanos.astype("datetime64[ns]")
    first = int(np.argmax(in_chunk)) if in_chunk.any() else len(in_chunk)
    return DetectResult(
        model=result.model,
        significance=result.significance,
        false_alarms_per_day=result.false_alarms_per_day,
        series=result.series,
        times=result.times[first:],
        status=result.status[first:],
        p_values=result.p_values[first:],
        anomalous=result.anomalous[first:],
        verdicts=tuple(verdict for verdict in result.verdicts if to_nanos(verdict.observe_time) >= nanos),
    )
