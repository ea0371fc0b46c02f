"""Simulated logs: Zeek's form, and the aggregates of the simulation they were written from."""

import numpy as np
import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import Aggregator, AggregatorOptions, Definition
from mods_grpc.ids.sources.reader import LogReader
from training.cli.main import main
from training.data.events import read_events
from training.data.time_range import parse_interval
from training.simulation.aggregates import COLUMNS, SimulationConfig, simulate
from training.simulation.zeek_logs import LOCAL_NETWORK, LogOptions, write_logs

KEYS = [f"{protocol}|{column}" for protocol, column in COLUMNS]


def aggregates(folder, simulation, **options):
    """Return the windows that lie within the interval, as the simulation makes them and as the logs give them."""
    begin, end = (int(at.astype("datetime64[ns]").astype(np.int64)) for at in (simulation.times[0], simulation.times[-1]))
    end += 600 * 10**9
    aggregator = Aggregator(Definition.of(KEYS), AggregatorOptions(local_networks=(LOCAL_NETWORK,), begin_ns=begin, **options))
    with LogReader(folder) as reader:
        aggregator.add_many(reader.poll())
    assert reader.counters.rejected == 0
    assert aggregator.counters.late == aggregator.counters.remote == 0
    rows = list(aggregator.flush(end))
    aggregated = np.array([[row.values[key] for key in KEYS] for row in rows])
    return simulation.counts[: len(aggregated)], aggregated


@pytest.mark.parametrize("form", ["tsv", pytest.param("json", marks=pytest.mark.slow)])
def test_at_full_scale_the_logs_hold_what_was_simulated(tmp_path, form):
    simulation = simulate(SimulationConfig(interval=parse_interval("<2026-01-05T02:00:00,2026-01-05T03:10:00)")))
    written = write_logs(tmp_path / "logs", simulation, LogOptions(format=form, scale=1.0))
    expected, aggregated = aggregates(tmp_path / "logs", simulation)
    assert len(aggregated) == 2
    counted = [0, 1, 3]
    np.testing.assert_array_equal(aggregated[:, counted], expected[:, counted])
    np.testing.assert_allclose(aggregated[:, 2], expected[:, 2], rtol=0.25)
    assert written["conn"] == simulation.slides[:7, :2].sum()


@pytest.mark.slow
def test_at_a_small_scale_the_course_of_the_days_stays(tmp_path):
    events = parse_interval("<2026-01-07,2026-01-26)")
    simulation = simulate(SimulationConfig(interval=parse_interval("<2026-01-05,2026-01-26)"), events_interval=events))
    write_logs(tmp_path / "logs", simulation, LogOptions(scale=0.001))
    expected, aggregated = aggregates(tmp_path / "logs", simulation)
    assert len(aggregated) == len(simulation.counts) - 5
    np.testing.assert_allclose(aggregated[:, [0, 1, 3]].mean(axis=0), 0.001 * expected[:, [0, 1, 3]].mean(axis=0), rtol=0.05)
    assert aggregated[:, 2].mean() == pytest.approx(expected[:, 2].mean(), rel=0.05)
    assert np.corrcoef(aggregated[:, 0], expected[:, 0])[0, 1] > 0.75  # some forty connections an hour are left
    assert np.corrcoef(aggregated[:, 2], expected[:, 2])[0, 1] > 0.9
    assert read_events(tmp_path / "logs" / "events.csv") == list(simulation.events)
    day = tmp_path / "logs" / "2026-01-05"
    assert {log.name.split(".")[0] for log in day.iterdir()} == {"conn", "dns", "ssh"}
    assert (day / "conn.09:00:00-10:00:00.log.gz").exists()


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    simulation = simulate(SimulationConfig(interval=parse_interval("<2026-01-05,2026-01-05T03:00:00)")))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_logs(tmp_path / name, simulation, LogOptions(seed=seed))
    first, again, other = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.gz")} for name in ("a", "b", "c"))
    assert first == again
    assert first != other


def test_the_command_writes_logs_and_refuses_a_scale_that_is_none(tmp_path, capsys):
    arguments = ["simulate", "--logs", "--time-range", "<2026-01-05,2026-01-05T02:00:00)"]
    assert main([*arguments, "--output", str(tmp_path / "logs"), "--log-format", "json"]) == 0
    assert "lines of conn" in capsys.readouterr().out
    assert main([*arguments, "--output", str(tmp_path / "logs")]) == 1
    with pytest.raises(SystemExit):
        main([*arguments, "--output", str(tmp_path / "more"), "--log-scale", "0"])
    with pytest.raises(DataError, match="format"):
        LogOptions(format="xml")
