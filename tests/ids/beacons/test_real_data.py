"""Real command and control, placed at one of two real workstations, against the ordinary traffic of both."""

import pytest

from mods_grpc.ids.beacons.contacts import Contacts
from mods_grpc.ids.beacons.ranking import Filters, rank_beacons
from mods_grpc.ids.sources.reader import LogReader
from tests.support.ids.placed_attacks import needs_attacks, place

HOSTS = {"ws-2": "10.66.0.2", "ws-3": "10.66.0.3"}


def rank(folder):
    contacts = Contacts(["10.66.0.0/24"])
    with LogReader(folder, protocols=("conn", "ssl", "http")) as reader:
        for record in reader.poll():
            contacts.add(record)
    return rank_beacons(contacts, Filters()).beacons


@needs_attacks
@pytest.mark.parametrize("infected", HOSTS)
@pytest.mark.parametrize(
    ("attack", "address", "rank_at_least"), [("c2_njrat", "41.108.179.197", 2), ("c2_apt29", "185.90.10.4", 3)]
)
def test_command_and_control_ranks_at_the_top(attack, address, rank_at_least, infected, tmp_path):
    for background, host in HOSTS.items():
        place(attack if background == infected else None, background, tmp_path, host=host)
    beacons = rank(tmp_path)
    places = [place for place, beacon in enumerate(beacons, 1) if address in beacon.contact.addresses]
    assert len(beacons) > 20
    assert places[0] <= rank_at_least, [(beacon.destination, beacon.score) for beacon in beacons[:5]]
    assert beacons[places[0] - 1].host == HOSTS[infected]
