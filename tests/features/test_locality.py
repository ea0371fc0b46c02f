"""Which addresses are local, whatever their spelling, and the series they count for."""

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import Conn
from mods_grpc.features.locality import Locality, canonical_address, parse_networks

PUBLIC = "198.51.100.7"


@pytest.mark.parametrize(
    ("cidr", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.1.2.3/8 ", "10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::FFFF:0a00:0000/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.5", "10.0.0.5/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("fe80::1%eth0/64", "fe80::/64"),
    ],
)
def test_a_network_is_one_in_every_spelling(cidr, network):
    assert [str(parsed) for parsed in parse_networks([cidr])] == [network]


@pytest.mark.parametrize("cidr", ["", "10.0.0.0/33", "::ffff:10.0.0.0/129", "lan", "10.0.0.5%eth0/8x"])
def test_what_is_no_network_is_refused(cidr):
    with pytest.raises(DataError):
        parse_networks([cidr])


@pytest.mark.parametrize("networks", [(), ("10.0.0.0/8", "fd00::/8"), ("::ffff:10.0.0.0/104", "FD00:0::/8")])
@pytest.mark.parametrize("local", ["10.0.0.5", "::ffff:10.0.0.5", "::ffff:a00:5", "fd00::1", "FD00:0:0::0001"])
def test_an_address_is_local_in_every_spelling(networks, local):
    locality = Locality(networks)
    assert locality.network_of(local) is not None
    assert locality.network_of(PUBLIC) is None
    assert locality.direction(Conn(ts=0, orig_h=local, resp_h=PUBLIC)) == "out"


@pytest.mark.parametrize(
    ("address", "subnet"), [("10.0.0.5", "10.0.0.0/24"), ("2001:db8:0:1::5", "2001:db8:0:1::/64"), ("fe80::1", "fe80::/64")]
)
def test_a_subnet_is_that_of_the_one_spelling(address, subnet):
    assert Locality(group_by="subnet").series_of_address(canonical_address(address)) == subnet


@pytest.mark.parametrize("text", ["", "10.0.0", "010.0.0.1", "10.0.0.5%eth0", "::ffff:10.0.0", "host", "%eth0"])
def test_what_is_no_address_has_no_spelling(text):
    assert canonical_address(text) is None
