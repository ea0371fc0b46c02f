"""`mods-grpc stream`: detect anomalies in rows as they arrive."""

import argparse
import sys

from mods_grpc.alarm_rules.adaptation import describe_unproven
from mods_grpc.cli.arguments import (
    add_command,
    connection_arguments,
    detection_arguments,
    find_level_contradiction,
    open_client,
    parse_sensor,
    table_arguments,
)
from mods_grpc.cli.input_rows import find_model, open_lines, read_input_rows
from mods_grpc.cli.output import is_reportable, print_verdict, write_json
from mods_grpc.client import ModelInfo, Observation
from mods_grpc.exit_codes import EXIT_OK, EXIT_USAGE, print_error


def add_stream_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `stream` command."""
    parser = add_command(
        commands,
        "stream",
        "detect anomalies in rows as they arrive, from a file or standard input",
        parents=[connection_arguments(), table_arguments(), detection_arguments(with_total=True)],
    )
    parser.add_argument("--sensor", type=parse_sensor, help="namespace of the series on the server (default: the host name)")
    parser.add_argument("--follow", action="store_true", help="wait for more rows at the end of the file")
    parser.add_argument(
        "--own-scales",
        action="store_true",
        help="adapt each series' scales from those of the model's calibration to its own values",
    )
    parser.add_argument(
        "--own-envelope",
        action="store_true",
        help="judge each series by what it usually reaches itself, as soon as it is known well enough",
    )
    parser.add_argument(
        "--own-intervals",
        action="store_true",
        help="move each series from the prediction intervals of the calibration to its own, which forecast --sensor shows",
    )
    parser.set_defaults(run=run_stream)


def run_stream(arguments: argparse.Namespace) -> int:
    """Score rows as they arrive and print the anomalous ones."""
    if (contradiction := find_level_contradiction(arguments)) is not None:
        print_error(contradiction)
        return EXIT_USAGE
    with open_client(arguments) as client:
        model = find_model(client, arguments)
        with open_lines(arguments.file, follow=arguments.follow) as lines:
            stream = client.stream_detect(
                (Observation(row.series, row.nanos, row.values) for row in read_input_rows(lines, arguments, model)),
                model=model.name,
                version=arguments.model_version,
                sensor=arguments.sensor,
                false_alarms_per_day=arguments.false_alarms_per_day,
                significance=arguments.significance,
                total_false_alarms_per_day=arguments.total_false_alarms_per_day,
                explain="all" if arguments.all else "anomalies",
                impute_rows=arguments.impute_rows,
                fixed_level=arguments.fixed_level,
                own_scales=arguments.own_scales,
                own_envelope=arguments.own_envelope,
                own_intervals=arguments.own_intervals,
                panes=arguments.panes,
            )
            with stream:
                _warn_of_unproven_budget(arguments, model)  # which the server has accepted
                for verdict in stream:
                    if not (arguments.all or is_reportable(verdict)):
                        continue
                    if arguments.json:
                        write_json(verdict, indent=None)
                    else:
                        print_verdict(verdict)
    return EXIT_OK


def _warn_of_unproven_budget(arguments: argparse.Namespace, model: ModelInfo) -> None:
    if arguments.significance is not None or arguments.total_false_alarms_per_day is not None or not model.calibration_days:
        return
    budget = arguments.false_alarms_per_day or model.default_false_alarms_per_day
    if (what := describe_unproven(budget, model.calibration_days)) is not None:
        sys.stderr.write(f"warning: {what}\n")
