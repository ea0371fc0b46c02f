"""The rules on real days and attacks: no alarm where nothing happened, and as many attacks as the published rules find."""

import pytest

from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.rules.engine import RuleEngine, choose_rules
from mods_grpc.ids.rules.episodes import RuleAlertOptions
from mods_grpc.ids.sources.reader import LogReader
from tests.support.ids.placed_attacks import WORKSTATIONS, attack_uids, needs_attacks, place
from tests.support.real_data import DATA

SERVER_DAYS = DATA / "zeek-tsv"
needs_server_days = pytest.mark.skipif(not SERVER_DAYS.is_dir(), reason="no real data: zeek-tsv (set MODS_DATA)")
FINDS = {  # attack: the rules that find it; the others are too small for any published threshold
    "ssh_in_one": {"ssh-inbound"},
    "ssh_nmap_in": {"ssh-inbound"},
    "ssh_out": {"ssh-hosts"},
    "dga_simda": {"dns-nxdomain"},
    "exfil_1gb": {"bytes-out"},
    "exfil_apt29": set(),
    "c2_apt29": set(),
    "c2_njrat": set(),
}


def run(folder, local):
    """Run all rules over the logs of a folder; return the alerts and the number of late records."""
    engine = RuleEngine(choose_rules({}, ()), RuleAlertOptions(sensor="tap", local_networks=(local,)))
    watermark = Watermark()
    with LogReader(folder, protocols=engine.protocols) as reader:
        for record in reader.poll():
            for passed in watermark.hold_or_pass(record):
                engine.add(passed)
            engine.advance(watermark.value_ns - 300 * 10**9)
    for record in watermark.flush():
        engine.add(record)
    engine.flush(watermark.latest_ns)
    return engine.pending, engine.counters.late


@needs_server_days
@pytest.mark.parametrize("day", ["2024-04-19", "2024-04-20"])
def test_an_exposed_server_on_an_ordinary_day_raises_nothing(day):
    alerts, late = run(SERVER_DAYS / day, "64.225.56.201/32")
    assert alerts == []
    assert late < 100


@needs_attacks
@pytest.mark.parametrize("background", WORKSTATIONS)
def test_a_workstation_on_an_ordinary_day_raises_nothing(background, tmp_path):
    place(None, background, tmp_path)
    assert run(tmp_path, "10.66.0.5/32") == ([], 0)


@needs_attacks
@pytest.mark.parametrize("background", WORKSTATIONS)
@pytest.mark.parametrize("attack", FINDS)
def test_attacks_are_found_by_the_rules_for_them_and_by_no_other(attack, background, tmp_path):
    place(attack, background, tmp_path)
    alerts, late = run(tmp_path, "10.66.0.5/32")
    assert {alert.rule for alert in alerts} == FINDS[attack]
    assert len(alerts) == len(FINDS[attack])
    assert late == 0
    assert all(set(alert.uids) <= attack_uids(attack) for alert in alerts)
