"""Which addresses are ours, which way a record goes, and whose series it belongs to."""

import ipaddress
import socket
from collections.abc import Iterable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from mods_grpc.features.records import Record

SITE = "site"
UNNAMED = "unnamed"  # what wrote a line that does not name its sensor
# What Zeek takes as local where nobody says otherwise (Site::private_address_space).
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
_REMEMBERED = 200_000
_MAPPED = bytes(10) + b"\xff\xff"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class GroupBy(StrEnum):
    """What one series is about."""

    SITE = "site"
    SUBNET = "subnet"
    HOST = "host"
    SENSOR = "sensor"


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks in CIDR form; a plain address is a network of one.

    Raises:
        DataError: Not a network.
    """
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise DataError(f"not a network: {error}") from None


def pack(address: str) -> bytes | None:
    """Return the 4 or 16 bytes of an address, 4 for an IPv4 address in IPv6 clothes; None if it is no address."""
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


class Locality:
    """Tells direction and series of records.

    Where networks are configured they alone decide what is local. Where none are, the log's own `local_orig` and
    `local_resp` decide, and for lines without them the private address space.

    A subnet is the smallest configured network that holds the address; where none is configured, its /24 or /64.
    """

    def __init__(self, networks: Iterable[str] = (), group_by: GroupBy | str = GroupBy.SITE) -> None:
        self.group_by = GroupBy(group_by)
        self.networks = parse_networks(networks)
        ordered = sorted(self.networks or parse_networks(PRIVATE_NETWORKS), key=lambda network: -network.prefixlen)
        self._masks = {
            family: [(int(n.netmask), int(n.network_address), n) for n in ordered if n.version == version]
            for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6))
        }
        self._known: dict[str, Network | None] = {}

    def network_of(self, address: str) -> Network | None:
        """Return the smallest local network that holds an address, None if it is remote or no address."""
        if address in self._known:
            return self._known[address]
        found = None
        if (packed := pack(address)) is not None:
            family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
            number = int.from_bytes(packed)
            found = next((network for mask, base, network in self._masks[family] if number & mask == base), None)
        if len(self._known) >= _REMEMBERED:  # a scan over many addresses must not grow this without end
            self._known.clear()
        self._known[address] = found
        return found

    def hold_ipv4(self, numbers: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Tell of many IPv4 addresses at once, given as numbers, whether a local network holds them."""
        held = np.zeros(len(numbers), dtype=np.bool_)
        for mask, base, _ in self._masks[socket.AF_INET]:
            held |= numbers & np.uint32(mask) == np.uint32(base)
        return held

    def direction(self, record: Record) -> str | None:
        """Return in (responder local), out (originator local), internal (both), or None for neither."""
        orig, resp = record.local_orig, record.local_resp
        if self.networks or orig is None or resp is None:
            orig, resp = self.network_of(record.orig_h) is not None, self.network_of(record.resp_h) is not None
        if resp:
            return "internal" if orig else "in"
        return "out" if orig else None

    def series(self, record: Record, direction: str) -> tuple[str, ...]:
        """Return the series a record counts in: an internal one counts for the hosts or subnets at both its ends."""
        if self.group_by is GroupBy.SITE:
            return (SITE,)
        if self.group_by is GroupBy.SENSOR:
            return (record.sensor or UNNAMED,)
        ends = {"in": (record.resp_h,), "out": (record.orig_h,), "internal": (record.orig_h, record.resp_h)}[direction]
        names = tuple(map(self.series_of, ends))
        return names if len(names) == 1 or names[0] != names[1] else names[:1]

    def series_of(self, address: str) -> str:
        """Return the series of a local address, where series are hosts or subnets."""
        return address if self.group_by is GroupBy.HOST else self._subnet(address)

    def _subnet(self, address: str) -> str:
        if self.networks and (found := self.network_of(address)):
            return str(found)
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return "unknown"
        return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))
