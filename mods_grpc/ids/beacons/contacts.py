"""Contacts of own hosts with destinations: when each connection began and how much it sent, in bounded memory."""

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND, Floats
from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.features.locality import GroupBy, Locality, address_bytes
from mods_grpc.features.names import is_group_address, registered_domain
from mods_grpc.features.records import ICMP, Conn, Http, Record, Ssl

MAX_PAIRS = 1_000_000
MAX_CONNECTIONS = 50_000_000  # of all pairs, 16 bytes each
MAX_EXAMPLES = 4  # names, addresses and ports of a contact
MAX_CONNECTIONS_PER_PAIR = 20_000
_MAX_NAMED = 200_000  # connections whose server name is known and that did not end yet
_LEFT_SHARE = 0.75  # after the least were forgotten
_NO_SIZE = -1
_ICMP = "icmp"


class Key(StrEnum):
    """What a destination is told by."""

    NAME = "name"
    DOMAIN = "domain"
    ADDRESS = "address"


class Pair(NamedTuple):
    """An own host and a destination: a server name, a registered domain or an address."""

    host: str
    key: Key
    destination: str


class Contact:
    """The connections of an own host with a destination.

    Attributes:
        count: Their number, also of those beyond `MAX_CONNECTIONS_PER_PAIR`, which are not held.
        bytes_sent: Bytes that the host sent.
        first_ns, last_ns: When the first and the last one began, nanoseconds since 1970.
        names: Its server names, the first `MAX_EXAMPLES`.
        addresses: Its addresses, the first `MAX_EXAMPLES`.
        ports: Its ports, the first `MAX_EXAMPLES`; `icmp` of requests of ICMP, which have none.
    """

    __slots__ = ("_connections", "addresses", "bytes_sent", "count", "first_ns", "last_ns", "names", "ports")

    def __init__(self, ts: int) -> None:
        self.count, self.bytes_sent = 0, 0
        self.first_ns = self.last_ns = ts
        self.names: tuple[str, ...] = ()
        self.addresses: tuple[str, ...] = ()
        self.ports: tuple[int | str, ...] = ()
        self._connections = array("q")  # time and size of each in turn

    def add(self, record: Conn, name: str | None) -> bool:
        """Add a connection with a server of that name, if it is known; return whether it is held."""
        self.count += 1
        self.bytes_sent += record.orig_bytes or 0
        self.first_ns, self.last_ns = min(self.first_ns, record.ts), max(self.last_ns, record.ts)
        if name is not None and name not in self.names and len(self.names) < MAX_EXAMPLES:
            self.names += (name,)
        if record.resp_h not in self.addresses and len(self.addresses) < MAX_EXAMPLES:
            self.addresses += (record.resp_h,)
        port = _ICMP if record.proto in ICMP else record.resp_p
        if port is not None and port not in self.ports and len(self.ports) < MAX_EXAMPLES:
            self.ports += (port,)
        if self.held >= MAX_CONNECTIONS_PER_PAIR:
            return False
        self._connections.extend((record.ts, _NO_SIZE if record.orig_bytes is None else record.orig_bytes))
        return True

    @property
    def held(self) -> int:
        """Number of connections that are held."""
        return len(self._connections) // 2

    @property
    def times_ns(self) -> NDArray[np.int64]:
        """When the connections began, in order, `(held,)`, nanoseconds since 1970."""
        return np.sort(self._columns()[:, 0])

    @property
    def times(self) -> Floats:
        """When the connections began, in order, `(held,)`, seconds since 1970."""
        times: Floats = self.times_ns / NANOS_PER_SECOND
        return times

    @property
    def sizes(self) -> Floats:
        """Bytes that the host sent over those connections that say so, `(at most held,)`."""
        sizes = self._columns()[:, 1]
        stated_sizes: Floats = sizes[sizes != _NO_SIZE].astype(np.float64)
        return stated_sizes

    def _columns(self) -> NDArray[np.int64]:
        return np.frombuffer(self._connections, dtype=np.int64).reshape(-1, 2)


class Contacts:
    """Collects the outward connections of own hosts. Call `add` with records in the order in which they were logged.

    Errors and answers of ICMP are none, because others cause them.
    A connection counts for a pair by address and, if the TLS handshake or HTTP request gives the server's name, for one by its
    registered domain and one by the name itself, so that a server whose names or addresses change is one destination too. About
    620 bytes a pair and 16 for each connection of a pair are held, for at most `MAX_PAIRS` pairs and `MAX_CONNECTIONS` of their
    connections; of more, the pairs with the fewest connections are forgotten.

    Args:
        local_networks: Local networks in CIDR form; if empty, the log's own flags decide, then the private address space.

    Attributes:
        counters: What became of the records.
        pairs: The contacts, by own host and destination. A name that is a registered domain has a pair as a domain alone.
        hosts: Own hosts with an outward connection, each under itself, so that its pairs share one string.
        forgotten: Number of pairs that were forgotten.
        begin_ns, end_ns: Time of the first record and of the last one, nanoseconds since 1970; 0 of none.
    """

    def __init__(self, local_networks: Iterable[str] = ()) -> None:
        self.counters = AggregatorCounters()
        self.pairs: dict[Pair, Contact] = {}
        self.hosts: dict[str, str] = {}
        self.forgotten = 0
        self.begin_ns = self.end_ns = 0
        self._locality = Locality(local_networks, GroupBy.HOST)
        self._names: OrderedDict[str, str] = OrderedDict()
        self._held = 0

    def add(self, record: Record) -> None:
        """Add a record of a connection, a TLS handshake or an HTTP request."""
        direction = self._locality.direction(record)
        if direction is None:
            unflagged = not self._locality.networks and not record.has_local_flags
            self.counters.add_remote(record.protocol, unflagged=unflagged)
            return
        self.counters.added += 1
        self.counters.add_time(record.ts)
        self.begin_ns, self.end_ns = self.counters.oldest_ns, max(self.end_ns, record.ts)
        if direction != "out":
            return
        if isinstance(record, Ssl):
            self._name(record.uid, record.server_name)
        elif isinstance(record, Http):
            self._name(record.uid, record.host)
        elif isinstance(record, Conn) and not record.is_reply and not is_group_address(record.resp_h):
            self._add_connection(record)

    def _name(self, uid: str | None, name: str | None) -> None:
        if uid is None or not name or address_bytes(name.strip("[]")) is not None:
            return
        self._names.setdefault(uid, name.lower().rstrip("."))
        if len(self._names) > _MAX_NAMED:
            self._names.popitem(last=False)

    def _add_connection(self, record: Conn) -> None:
        host = self.hosts.setdefault(record.orig_h, record.orig_h)
        name = None if record.uid is None else self._names.pop(record.uid, None)
        self._add_to(Pair(host, Key.ADDRESS, record.resp_h), record, name)
        if name is not None:
            domain = registered_domain(name)
            self._add_to(Pair(host, Key.DOMAIN, domain), record, name)
            if name != domain:
                self._add_to(Pair(host, Key.NAME, name), record, name)
        if len(self.pairs) > MAX_PAIRS or self._held > MAX_CONNECTIONS:
            self._forget()

    def _add_to(self, pair: Pair, record: Conn, name: str | None) -> None:
        contact = self.pairs.get(pair)
        if contact is None:
            contact = self.pairs[pair] = Contact(record.ts)
        self._held += contact.add(record, name)

    def _forget(self) -> None:
        """Forget the pairs with the fewest connections, of these the ones that are over the longest."""
        order = sorted(self.pairs, key=lambda pair: (self.pairs[pair].count, self.pairs[pair].last_ns, pair))
        for pair in order:
            if len(self.pairs) <= _LEFT_SHARE * MAX_PAIRS and self._held <= _LEFT_SHARE * MAX_CONNECTIONS:
                return
            self._held -= self.pairs.pop(pair).held
            self.forgotten += 1
