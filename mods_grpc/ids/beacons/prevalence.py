"""Which own hosts contact a destination and since when, by its name, its registered domain and its address."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mods_grpc.features.locality import address_bytes
from mods_grpc.features.names import registered_domain
from mods_grpc.ids.beacons.contacts import MAX_EXAMPLES, Contact, Contacts, Key, Pair

_NETWORK = "network"
_NETWORK_BYTES = {4: 3, 16: 6}  # of an address: /24 and /48, the longest prefixes that the Internet routes

_Place = tuple[str, ...]
"""A name, a domain, an address, or a domain in a network, each after what it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prevalence:
    """How many own hosts contact a destination.

    Attributes:
        hosts: Their number.
        first_ns: First connection of one of them, nanoseconds since 1970.
        names_elsewhere: Names by which the host contacts it and other own hosts contact another place, but none of them this one.
    """

    hosts: int
    first_ns: int
    names_elsewhere: tuple[str, ...]


class _Users:
    """The own hosts that contact a place, and their first connection."""

    __slots__ = ("first_ns", "hosts")

    def __init__(self, first_ns: int, hosts: Iterable[str] = ()) -> None:
        self.first_ns = first_ns
        self.hosts = set(hosts)

    def add(self, first_ns: int, hosts: Iterable[str]) -> None:
        self.first_ns = min(self.first_ns, first_ns)
        self.hosts.update(hosts)


class PrevalenceIndex:
    """The prevalence of the destinations of some pairs, among all pairs.

    A name is contacted by the hosts that contact any name of its registered domain. An address is contacted by the hosts that
    contact it, or one of its domains in the same network (/24, or /48 of IPv6): large sites have many addresses in one. A client
    may send any server name, so a name whose place no other own host contacts, while others contact the name elsewhere, counts
    as the place. Its place is known up to `MAX_EXAMPLES` - 1 addresses; with more, the name counts.

    Args:
        contacts: All contacts.
        wanted: The pairs that `find` will be asked for.
    """

    def __init__(self, contacts: Contacts, wanted: Iterable[Pair]) -> None:
        self._pairs = contacts.pairs
        places = {place for pair in wanted for place in _related_places(self._pairs[pair])}
        self._users: dict[_Place, _Users] = {}
        for pair, contact in self._pairs.items():
            for place in _places(pair, contact):
                if place in places:
                    self._users.setdefault(place, _Users(contact.first_ns)).add(contact.first_ns, (pair.host,))

    def find(self, pair: Pair) -> Prevalence:
        """Return the prevalence of the destination of a pair."""
        contact = self._pairs[pair]
        here = _Users(contact.first_ns, (pair.host,))
        for place in _address_places(contact):
            if (users := self._users.get(place)) is not None:
                here.add(users.first_ns, users.hosts)
        elsewhere: tuple[str, ...] = ()
        if len(here.hosts) == 1:
            elsewhere = tuple(name for name in contact.names if self._has_others(_name_place(name), pair.host))
        domains = [users for name in contact.names if (users := self._users.get(_domain_place(name))) is not None]
        if pair.key is Key.ADDRESS:
            # a domain that no other host contacts elsewhere belongs to the address, so that its age counts too
            ages = [users.first_ns for users in domains if users.hosts <= here.hosts]
            return Prevalence(hosts=len(here.hosts), first_ns=min([here.first_ns, *ages]), names_elsewhere=elsewhere)
        if elsewhere and len(contact.addresses) < MAX_EXAMPLES:
            return Prevalence(hosts=1, first_ns=contact.first_ns, names_elsewhere=elsewhere)
        users = domains[0] if domains else here  # the pair by domain may have been forgotten
        return Prevalence(hosts=len(users.hosts), first_ns=users.first_ns, names_elsewhere=())

    def _has_others(self, place: _Place, host: str) -> bool:
        users = self._users.get(place)
        return users is not None and bool(users.hosts - {host})


def _places(pair: Pair, contact: Contact) -> Iterator[_Place]:
    """Yield the places that a pair's host contacts by it."""
    yield (pair.key, pair.destination)
    if pair.key is Key.ADDRESS:
        for name in contact.names:
            yield _network_place(name, pair.destination)


def _related_places(contact: Contact) -> Iterator[_Place]:
    """Yield the places whose hosts decide on a contact's prevalence."""
    yield from _address_places(contact)
    for name in contact.names:
        yield _name_place(name)
        yield _domain_place(name)


def _address_places(contact: Contact) -> Iterator[_Place]:
    for address in contact.addresses:
        yield (Key.ADDRESS, address)
        for name in contact.names:
            yield _network_place(name, address)


def _name_place(name: str) -> _Place:
    """Return the place of a name, which is a domain's if the name is one, as in `Contacts.pairs`."""
    domain = _domain_place(name)
    return domain if domain[1] == name else (Key.NAME, name)


def _domain_place(name: str) -> _Place:
    return (Key.DOMAIN, registered_domain(name))


def _network_place(name: str, address: str) -> _Place:
    packed = address_bytes(address)
    network = address if packed is None else packed[: _NETWORK_BYTES[len(packed)]].hex()
    return (_NETWORK, registered_domain(name), network)
