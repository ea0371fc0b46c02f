"""Local networks that are proposed from the addresses that a log calls local."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.ids.health.networks import MAX_PROPOSED, merge_networks, propose_networks

ADDRESSES = st.lists(st.ip_addresses().map(str), max_size=64)


def test_one_public_address_is_proposed_alone_with_the_private_networks():
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    assert propose_networks(["198.51.100.7"]) == (*private, "198.51.100.7/32")


def test_addresses_of_a_campus_are_proposed_as_few_networks():
    campus = [f"131.243.{third}.{fourth}" for third in range(0, 256, 16) for fourth in (1, 9)]
    networks = merge_networks([*campus, "192.0.2.1"])
    assert len(networks) <= MAX_PROPOSED
    assert all(any(ipaddress.ip_address(address) in network for network in networks) for address in campus)
    assert ipaddress.ip_network("192.0.2.0/24") in networks


def test_ipv6_addresses_are_proposed_by_their_64():
    assert propose_networks(["2001:db8::1", "2001:db8::2"])[3:] == ("fc00::/7", "fe80::/10", "2001:db8::/64")


@given(ADDRESSES)
def test_any_addresses_give_at_most_a_few_networks_that_are_not_too_large(addresses):
    networks = merge_networks(addresses)
    assert len(networks) <= MAX_PROPOSED
    assert all(network.prefixlen >= (16 if network.version == 4 else 32) for network in networks)
    assert bool(networks) == bool(addresses)
