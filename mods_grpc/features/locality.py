"""Local networks: which addresses are local, the direction of a record, and the series it counts for."""

import ipaddress
import socket
from collections.abc import Iterable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools
from mods_grpc.errors import DataError
from mods_grpc.features.records import Record

SITE = "site"
UNKNOWN_SENSOR = "unnamed"  # series of lines that do not name their sensor
# Zeek's default of what is local (Site::private_address_space).
PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)
_MAX_CACHED_ADDRESSES = 200_000
_IPV4_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_IPV4_MAPPED_BITS = 96

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class GroupBy(StrEnum):
    """What one series stands for."""

    SITE = "site"
    SUBNET = "subnet"
    HOST = "host"
    SENSOR = "sensor"


_HOST, _SITE = GroupBy.HOST, GroupBy.SITE  # looked up for every record


def parse_networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks in CIDR form; a plain address is a network of one address.

    Raises:
        DataError: One of them is not a network.
    """
    try:
        return tuple(map(_parse_network, cidrs))
    except ValueError as error:
        raise DataError(f"not a network: {error}") from None


def _parse_network(cidr: str) -> Network:
    address, slash, prefix = cidr.strip().partition("/")
    network = ipaddress.ip_network(address.partition("%")[0] + slash + prefix, strict=False)
    packed = network.network_address.packed
    if packed.startswith(_IPV4_MAPPED_PREFIX) and network.prefixlen >= _IPV4_MAPPED_BITS:
        return ipaddress.IPv4Network((packed[12:], network.prefixlen - _IPV4_MAPPED_BITS))
    return network


def address_bytes(address: str) -> bytes | None:
    """Return the bytes of an address: 4 for IPv4, also when written as an IPv4-mapped IPv6 address, 16 for IPv6.

    A zone, as in `fe80::1%eth0`, is left out. None if it is not an address.
    """
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_IPV4_MAPPED_PREFIX) else packed


def canonical_address(address: str) -> str | None:
    """Return the one spelling of an address: IPv6 as RFC 5952 writes it, IPv4-mapped as IPv4, without a zone.

    None if it is not an address.
    """
    packed = address_bytes(address)
    return None if packed is None else str(ipaddress.ip_address(packed))


class Locality:
    """Determines the direction and the series of records.

    If networks are configured, they alone decide what is local. Otherwise the log's own `local_orig` and `local_resp` do, and
    for lines without these the private address space.

    A subnet is the smallest configured network that contains the address; if none is configured, its /24 or /64.

    Args:
        networks: Local networks in CIDR form; empty for none configured.
        group_by: What a series stands for.

    Raises:
        DataError: One of the networks is not a network.
    """

    def __init__(self, networks: Iterable[str] = (), group_by: GroupBy | str = GroupBy.SITE) -> None:
        self.group_by = GroupBy(group_by)
        self.networks = parse_networks(networks)
        ordered = sorted(self.networks or parse_networks(PRIVATE_NETWORKS), key=lambda network: -network.prefixlen)
        self._masks = {
            family: [(int(n.netmask), int(n.network_address), n) for n in ordered if n.version == version]
            for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6))
        }
        self._network_cache: dict[str, Network | None] = {}

    def network_of(self, address: str) -> Network | None:
        """Return the smallest local network that contains an address; None if it is remote or not an address."""
        try:
            return self._network_cache[address]
        except KeyError:
            network = None
        if (packed := address_bytes(address)) is not None:
            family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
            number = int.from_bytes(packed)
            network = next((network for mask, base, network in self._masks[family] if number & mask == base), None)
        if len(self._network_cache) >= _MAX_CACHED_ADDRESSES:  # bounds the cache when a scan names many addresses
            self._network_cache.clear()
        self._network_cache[address] = network
        return network

    def contains_ipv4(self, numbers: NDArray[np.uint32]) -> Bools:
        """Return which of n IPv4 addresses, given as numbers `(n,)`, are in a local network, `(n,)`."""
        contained = np.zeros(len(numbers), dtype=np.bool_)
        for mask, base, _ in self._masks[socket.AF_INET]:
            contained |= numbers & np.uint32(mask) == np.uint32(base)
        return contained

    def direction(self, record: Record) -> str | None:
        """Return `in` (responder local), `out` (originator local), `internal` (both local), or None if neither is local."""
        orig, resp = record.local_orig, record.local_resp
        if self.networks or orig is None or resp is None:
            orig, resp = self.network_of(record.orig_h) is not None, self.network_of(record.resp_h) is not None
        if resp:
            return "internal" if orig else "in"
        return "out" if orig else None

    def series_names(self, record: Record, direction: str) -> tuple[str, ...]:
        """Return the series that a record counts for: for an internal one the hosts or subnets of originator and responder."""
        group_by = self.group_by
        if group_by is _HOST and direction != "internal":  # the most frequent first
            return (record.resp_h if direction == "in" else record.orig_h,)
        if group_by is _SITE:
            return (SITE,)
        if group_by is GroupBy.SENSOR:
            return (record.sensor or UNKNOWN_SENSOR,)
        if direction != "internal":
            return (self.series_of_address(record.resp_h if direction == "in" else record.orig_h),)
        first, second = self.series_of_address(record.orig_h), self.series_of_address(record.resp_h)
        return (first,) if first == second else (first, second)

    def series_of_address(self, address: str) -> str:
        """Return the series of a local address if series are hosts or subnets."""
        return address if self.group_by is GroupBy.HOST else self._subnet(address)

    def _subnet(self, address: str) -> str:
        if self.networks and (network := self.network_of(address)):
            return str(network)
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return "unknown"
        return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))
