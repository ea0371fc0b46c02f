"""The command `simulate`: labelled, simulated traffic as a datapool or as Zeek logs."""

import argparse
from pathlib import Path

from mods_grpc.command_line import number, parse_text, whole_number
from training.cli.console import console
from training.cli.options import MAX_SEED, optional, parse_range, usage_errors
from training.data.time_range import parse_interval
from training.simulation.aggregates import NOTICE, SimulationConfig, simulate, write_datapool
from training.simulation.zeek_logs import FORMATS, LOCAL_NETWORK, LogOptions, write_logs


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `simulate`."""
    logs = LogOptions()
    parser.add_argument(
        "--output", type=parse_text, required=True, metavar="DIR", help="new folder for the datapool or logs, and events.csv"
    )
    parser.add_argument(
        "--time-range",
        type=parse_range,
        default="<2026-01-05,2026-03-09)",
        metavar="RANGE",
        help="range to simulate (default: %(default)s)",
    )
    parser.add_argument(
        "--events-time-range",
        type=optional(parse_interval),
        default="",
        metavar="RANGE",
        help="range that events may lie in (default: no events)",
    )
    parser.add_argument(
        "--events-per-kind",
        type=whole_number(1, 1_000),
        default=1,
        metavar="N",
        help="events of each kind and strength (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0, MAX_SEED), default=1, metavar="N", help="seed of traffic and events (default: %(default)s)"
    )
    parser.add_argument("--logs", action="store_true", help="write Zeek logs of conn, dns and ssh instead of a datapool")
    parser.add_argument("--log-format", choices=FORMATS, default=logs.format, help="format of the logs (default: %(default)s)")
    parser.add_argument(
        "--log-scale",
        type=number(above=0, maximum=1, what="a share"),
        default=logs.scale,
        metavar="X",
        help="share of connections to write (default: %(default)s)",
    )


def run_command(arguments: argparse.Namespace) -> None:
    """Write simulated traffic."""
    with usage_errors(arguments):
        config = SimulationConfig(
            interval=parse_interval(arguments.time_range),
            events_interval=parse_interval(arguments.events_time_range) if arguments.events_time_range else None,
            events_per_kind=arguments.events_per_kind,
            seed=arguments.seed,
        )
        options = LogOptions(format=arguments.log_format, scale=arguments.log_scale, seed=arguments.seed)
    simulation = simulate(config)
    if arguments.logs:
        lines_by_log = write_logs(Path(arguments.output), simulation, options)
        lines = ", ".join(f"{count} lines of {log}" for log, count in lines_by_log.items())
        console.print(NOTICE, highlight=False)
        console.print(
            f"{lines}, {len(simulation.events)} labelled events in {arguments.output}; the local network is {LOCAL_NETWORK}",
            highlight=False,
        )
        return
    files = write_datapool(Path(arguments.output), simulation)
    console.print(NOTICE, highlight=False)
    console.print(
        f"{files} files, {len(simulation.times)} rows, {len(simulation.events)} labelled events in {arguments.output}",
        highlight=False,
    )
