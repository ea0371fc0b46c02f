"""`mods-grpc forecast`: forecast the steps after the last rows of a file."""

import argparse

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Floats
from mods_grpc.cli.arguments import add_command, connection_arguments, open_client, parse_sensor, table_arguments
from mods_grpc.cli.input_rows import find_model, read_series
from mods_grpc.cli.output import forecast_to_json, format_time, print_forecast, write_json
from mods_grpc.client import ModelInfo
from mods_grpc.command_line import number, whole_number
from mods_grpc.data.tables import SeriesRows
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_OK


def add_forecast_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `forecast` command."""
    parser = add_command(
        commands,
        "forecast",
        "forecast the steps after the last rows of a file",
        parents=[connection_arguments(), table_arguments()],
    )
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="number of steps to forecast (default: the model's horizon)"
    )
    parser.add_argument(
        "--coverage",
        type=number(above=0, below=1, what="a share"),
        action="append",
        default=[],
        metavar="P",
        help="coverage of a prediction interval, such as 0.95; repeatable",
    )
    parser.add_argument(
        "--sensor",
        type=parse_sensor,
        help="sensor of a stream with --own-intervals; its series get intervals of their own (default: the calibration's)",
    )
    parser.set_defaults(run=run_forecast)


def run_forecast(arguments: argparse.Namespace) -> int:
    """Forecast the steps after the last window of each series of a file."""
    with open_client(arguments) as client:
        model = find_model(client, arguments)
        forecasts = []
        for rows in read_series(arguments, model):
            start, window = _last_window(rows, model)
            result = client.forecast(
                window,
                start,
                model=model.name,
                version=model.version,
                horizon=arguments.steps,
                coverages=arguments.coverage,
                panes=arguments.panes,
                sensor=arguments.sensor or "",
                series=[rows.series] if arguments.sensor else (),
            )
            forecasts.append((rows.series, result))
    if arguments.json:
        write_json([forecast_to_json(series, result) for series, result in forecasts])
    else:
        for series, result in forecasts:
            print_forecast(series, result)
    return EXIT_OK


def _last_window(rows: SeriesRows, model: ModelInfo) -> tuple[int, Floats]:
    """Return the start in nanoseconds and the values of a series' last window, `(window_rows, features)`."""
    count = model.window_rows
    if len(rows.nanos) < count:
        raise DataError(f"{rows.series}: the model's window takes {count} rows, found {len(rows.nanos)}")
    nanos = rows.nanos[-count:]
    uneven = np.flatnonzero(np.diff(nanos) != round(model.slide_seconds * NANOS_PER_SECOND))
    if uneven.size:
        earlier, later = (format_time(np.datetime64(int(nanos[uneven[0] + offset]), "ns")) for offset in (0, 1))
        raise DataError(
            f"{rows.series}: expected the last {count} rows {model.slide_seconds:g} s apart, found {earlier} before {later}"
        )
    return int(nanos[0]), rows.values[-count:]
