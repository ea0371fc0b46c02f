from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.errors import DataError
from training.data.datapool import read_datapool
from training.data.events import EVENT_SHAPES, STRENGTHS
from training.data.query import DEFAULT_QUERY, parse_query
from training.data.time_range import parse_interval
from training.simulation.aggregates import FEATURES, SimulationConfig, simulate, write_datapool

WEEK = parse_interval("<2026-01-05,2026-01-12)")
EVENTS = parse_interval("<2026-01-12,2026-01-26)")


def test_the_same_seed_gives_the_same_traffic_and_another_seed_other_traffic() -> None:
    first, again, other = (simulate(SimulationConfig(interval=WEEK, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.counts, again.counts)
    assert (first.counts != other.counts).any()


def test_days_and_nights_differ_and_so_do_sundays() -> None:
    counts = simulate(SimulationConfig(interval=WEEK)).counts[:, 0].reshape(7, 144)
    noon, night = counts[:5, 60:96].mean(), counts[:5, 18:30].mean()
    assert noon > 1.3 * night
    assert counts[6, 60:96].mean() < 0.8 * noon


def test_neighbouring_windows_share_five_sixths_of_their_counts() -> None:
    counts = simulate(SimulationConfig(interval=WEEK)).counts[:, 3]
    changes = {k: np.abs(counts[k:] - counts[:-k]).mean() for k in (1, 6)}
    assert changes[6] > 1.5 * changes[1]
    assert (counts == np.floor(counts)).all()
    assert (counts >= 0).all()


def test_every_kind_of_event_occurs_at_every_strength_apart_from_each_other() -> None:
    simulation = simulate(SimulationConfig(interval=parse_interval("<2026-01-05,2026-01-26)"), events_interval=EVENTS))
    assert sorted((e.kind, e.strength) for e in simulation.events) == sorted((k, s) for k in EVENT_SHAPES for s in STRENGTHS)
    assert all(EVENTS.start <= event.start < event.end <= EVENTS.end for event in simulation.events)
    for before, after in pairwise(simulation.events):
        assert after.start - before.end >= np.timedelta64(6, "h")


def test_events_change_only_their_own_features_and_windows_that_touch_them() -> None:
    interval = parse_interval("<2026-01-05,2026-01-26)")
    simulation = simulate(SimulationConfig(interval=interval, events_interval=EVENTS))
    scan = next(e for e in simulation.events if e.kind == "port_scan" and e.strength == 1)
    row = int(np.searchsorted(simulation.times, scan.start))
    conn_in = simulation.counts[:, FEATURES.index("conn_in")]
    assert conn_in[row - 2] > conn_in[row - 12] + 14_000  # hourly windows hold it from an hour before


def test_the_reader_reads_what_was_written(tmp_path: Path) -> None:
    simulation = simulate(SimulationConfig(interval=parse_interval("<2026-01-05,2026-01-07)")))
    files = write_datapool(tmp_path / "pool", simulation)
    assert files == 6 + 6  # of two days and three protocols; the panes of two protocols end on a third day
    series = read_datapool(tmp_path / "pool", parse_query(DEFAULT_QUERY), parse_interval("2026"))
    np.testing.assert_array_equal(series.values, simulation.counts)
    np.testing.assert_array_equal(series.times, simulation.times)
    assert "Simulated" in (tmp_path / "pool" / "SIMULATED.txt").read_text()


def test_windows_are_the_sums_of_the_panes_that_are_written_beside_them(tmp_path: Path) -> None:
    simulation = simulate(SimulationConfig(interval=parse_interval("<2026-01-05,2026-01-07)")))
    write_datapool(tmp_path / "pool", simulation)
    query, names = parse_query("conn|in_count_uid~conn_in;ssh|in~ssh_in#window_start"), ["conn_in", "ssh_in"]
    windows = read_datapool(tmp_path / "pool", query, parse_interval("2026"))
    panes = read_datapool(tmp_path / "pool", query, parse_interval("2026"), window_slide="w10m-s10m")
    np.testing.assert_array_equal(panes.times, windows.times + np.timedelta64(50, "m"))
    sums = sum(panes.values[back : len(panes.values) - 5 + back] for back in range(6))
    np.testing.assert_array_equal(windows.values[5:], sums)
    np.testing.assert_array_equal(windows.values, simulation.counts[:, [FEATURES.index(name) for name in names]])


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="is not empty"):
        write_datapool(tmp_path, simulate(SimulationConfig(interval=parse_interval("2026-01-05"))))


def test_a_range_without_room_for_the_events_is_refused() -> None:
    with pytest.raises(DataError, match="no room for 18 events"):
        simulate(SimulationConfig(interval=WEEK, events_interval=parse_interval("2026-01-06")))
