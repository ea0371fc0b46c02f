"""Proposes local networks from the addresses that a log calls local."""

import ipaddress
from collections.abc import Iterable
from itertools import pairwise

from mods_grpc.features.locality import Network

MAX_PROPOSED = 4
_PRIVATE_IPV4 = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_PRIVATE_IPV6 = ("fc00::/7", "fe80::/10")
_SUBNET_PREFIX = {4: 24, 6: 64}
_MIN_PREFIX = {4: 16, 6: 32}
_MAX_SINGLE_HOSTS = 2  # a server with a public address or two, whose neighbours are of others


def propose_networks(public_local: Iterable[str]) -> tuple[str, ...]:
    """Return the networks to give as --local: the private ones, because --local replaces them, and those of public addresses.

    Args:
        public_local: Public addresses that the log calls local.
    """
    public = merge_networks(public_local)
    private = _PRIVATE_IPV4 + (_PRIVATE_IPV6 if any(network.version == 6 for network in public) else ())
    return (*private, *map(str, public))


def merge_networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Return up to `MAX_PROPOSED` networks of addresses; those beyond it are left out.

    One or two IPv4 addresses are networks of their own. More are of /24 or /64, merged up to /16 or /32 if there are too many.
    """
    parsed = {ipaddress.ip_address(address) for address in addresses}
    if len(parsed) <= _MAX_SINGLE_HOSTS and all(address.version == 4 for address in parsed):
        return tuple(ipaddress.ip_network(address) for address in sorted(parsed))
    networks: list[Network] = []
    for version in (4, 6):
        subnets = {
            ipaddress.ip_network((address, _SUBNET_PREFIX[version]), strict=False)
            for address in parsed
            if address.version == version
        }
        networks += _merge_closest(sorted(subnets), _MIN_PREFIX[version], MAX_PROPOSED)
    return tuple(networks[:MAX_PROPOSED])


def _merge_closest(networks: list[Network], min_prefix: int, limit: int) -> list[Network]:
    """Merge the two closest of sorted networks until there are few enough, or the merged one would be too large."""
    while len(networks) > limit:
        common = [_common_network(first, second) for first, second in pairwise(networks)]
        index = max(range(len(common)), key=lambda index: common[index].prefixlen)
        if common[index].prefixlen < min_prefix:
            break
        networks[index : index + 2] = [common[index]]
    return networks


def _common_network(first: Network, second: Network) -> Network:
    bits = first.max_prefixlen - (int(first.network_address) ^ int(second.network_address)).bit_length()
    return ipaddress.ip_network((first.network_address, min(bits, first.prefixlen, second.prefixlen)), strict=False)
