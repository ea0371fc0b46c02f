"""The command `simulate`, apart from the others so that it does not wait for TensorFlow."""

import argparse
from pathlib import Path

from training.cli.console import console
from training.data.time_range import parse_interval
from training.simulation.aggregates import NOTICE, SimulationConfig, simulate, write_datapool
from training.simulation.zeek_logs import LOCAL_NETWORK, LogOptions, write_logs


def simulate_command(arguments: argparse.Namespace) -> None:
    """Write simulated traffic."""
    config = SimulationConfig(
        interval=parse_interval(arguments.time_range),
        events_interval=parse_interval(arguments.events_time_range) if arguments.events_time_range else None,
        events_per_kind=arguments.events_per_kind,
        seed=arguments.seed,
    )
    simulation = simulate(config)
    if arguments.logs:
        options = LogOptions(format=arguments.log_format, scale=arguments.log_scale, seed=arguments.seed)
        written = write_logs(Path(arguments.output), simulation, options)
        lines = ", ".join(f"{number} lines of {log}" for log, number in written.items())
        console.print(NOTICE, highlight=False)
        console.print(
            f"{lines}, {len(simulation.events)} labelled events in {arguments.output}; our network is {LOCAL_NETWORK}",
            highlight=False,
        )
        return
    files = write_datapool(Path(arguments.output), simulation)
    console.print(NOTICE, highlight=False)
    console.print(
        f"{files} files, {len(simulation.times)} rows, {len(simulation.events)} labelled events in {arguments.output}",
        highlight=False,
    )
