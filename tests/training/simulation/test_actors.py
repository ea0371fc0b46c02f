"""Simulated logs: the records that an event adds are those of its own hosts, and no others are."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.ids.sources.reader import LogReader
from training.data.events import EVENT_SHAPES, LabelledEvent, inject_events
from training.data.time_range import parse_interval
from training.simulation.actors import SCANNED_PORTS, TUNNEL_DOMAIN
from training.simulation.aggregates import FEATURES, SimulationConfig, simulate
from training.simulation.zeek_logs import LogOptions, write_logs

SCALE = 0.05
START, END = (np.datetime64(f"2026-01-05T{hour}", "s") for hour in ("01:00", "02:00"))


def records_with(folder, kind, strength=1.0):
    """Return the records of three hours of logs with an event in the second, and its expected number of connections."""
    quiet = simulate(SimulationConfig(interval=parse_interval("<2026-01-05,2026-01-05T03:00:00)")))
    shape = EVENT_SHAPES[kind]
    event = LabelledEvent(kind=kind, start=START, end=END, strength=strength, features=tuple(shape.added))
    times = quiet.times[0] + np.arange(len(quiet.slides)) * np.timedelta64(600, "s")
    slides = inject_events(times, quiet.slides, FEATURES, [event], np.random.default_rng(1))
    write_logs(folder, replace(quiet, slides=slides, events=(event,)), LogOptions(scale=SCALE))
    with LogReader(folder) as reader:
        records = list(reader.poll())
    return records, {name: amount * strength * 6 for name, amount in shape.added.items()}


def during(record):
    return START <= np.datetime64(record.ts, "ns") < END


def by_type(records, name):
    return [record for record in records if type(record).__name__.lower() == name]


def test_a_scan_has_one_source_that_many_hosts_do_not_answer(tmp_path):
    records, added = records_with(tmp_path / "logs", "port_scan")
    scans = [record for record in by_type(records, "conn") if record.conn_state == "S0"]
    assert len(scans) == pytest.approx(SCALE * added["conn_in"], rel=0.05)
    assert all(map(during, scans))
    assert {record.orig_h for record in scans} == {"203.0.113.1"}
    assert {record.resp_p for record in scans} == set(SCANNED_PORTS)
    assert len({record.resp_h for record in scans}) > 0.9 * len(scans)
    assert sum(record.orig_h == "203.0.113.1" for record in records) == len(scans)


def test_a_brute_force_has_four_sources_and_one_target(tmp_path):
    records, added = records_with(tmp_path / "logs", "ssh_brute_force")
    guesses = [record for record in by_type(records, "ssh") if record.orig_h.startswith("192.0.2.")]
    assert len(guesses) == pytest.approx(SCALE * added["ssh_in"], rel=0.2)
    assert all(map(during, guesses))
    assert len({record.orig_h for record in guesses}) == 4
    assert {(record.resp_h, record.client) for record in guesses} == {("10.20.9.1", "SSH-2.0-libssh2_1.11.0")}
    assert {record.failed for record in guesses} == {True}
    assert {record.failed for record in by_type(records, "ssh") if record not in guesses} == {False}
    connections = Counter(record.orig_h for record in by_type(records, "conn") if record.orig_h.startswith("192.0.2."))
    assert connections == Counter(record.orig_h for record in guesses)


def test_a_tunnel_asks_one_resolver_for_names_below_one_domain(tmp_path):
    records, added = records_with(tmp_path / "logs", "dns_tunnel")
    asked = [record for record in by_type(records, "dns") if record.asked.endswith(f".{TUNNEL_DOMAIN}")]
    assert len(asked) == added["dns_in_distinct"]
    assert all(map(during, asked))
    assert {(record.orig_h, record.resp_h) for record in asked} == {("203.0.113.1", "10.20.9.1")}
    assert max(Counter(record.asked for record in asked).values()) <= 6  # once in ten minutes


def test_an_exfiltration_sends_to_one_host_from_one(tmp_path):
    records, added = records_with(tmp_path / "logs", "exfiltration", strength=0.6)
    sent = [record for record in by_type(records, "conn") if record.resp_h == "203.0.113.1"]
    assert len(sent) == pytest.approx(SCALE * added["conn_out"], rel=0.1)
    assert {record.orig_h for record in sent} == {"10.20.9.1"}
    assert np.median([record.orig_bytes for record in sent]) > 100_000


@pytest.mark.parametrize("kind", ["outage", "slow_drift"])
def test_nobody_is_behind_an_outage_or_a_drift(tmp_path, kind):
    records, _ = records_with(tmp_path / "logs", kind)
    assert records
    hosts = {host for record in records for host in (record.orig_h, record.resp_h)}
    assert not any(host.startswith(("203.0.113.", "192.0.2.")) for host in hosts)
