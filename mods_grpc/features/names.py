"""Names and addresses: the registered domain of a name, and addresses of groups of hosts."""

from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

_MAX_CACHED_NAMES = 100_000
_MAX_NAME_CHARACTERS = 4 * 253  # where each is escaped
_REVERSE = ".arpa"  # a lookup of an address, each of which would be a domain of its own
_NOT_BELOW_A_DOMAIN = (_REVERSE, ".local")  # names of addresses, and of hosts and services of the network (RFC 6762)


def registered_domain(name: str) -> str:
    """Return the domain that someone registered, below a public suffix: `example.co.uk` of `a.b.example.co.uk`.

    The suffixes are those of publicsuffix.org. In lower case, without a final point. A name without such a domain, like
    `localhost` or `co.uk`, stands for itself, as does one that is too long; one of reverse lookups is `in-addr.arpa` or
    `ip6.arpa`.
    """
    return _cached_domain(name) if len(name) <= _MAX_NAME_CHARACTERS else name  # what is too long would fill the cache


def subdomain(name: str) -> str | None:
    """Return a name as one of those below its domain: in lower case, without a final point, so that each spelling is one name.

    None for the domain itself, and for reverse lookups and names of multicast DNS, of which each address, host and service has
    one.
    """
    domain = registered_domain(name)
    name = name.lower().rstrip(".")
    return None if name == domain or name.endswith(_NOT_BELOW_A_DOMAIN) else name


@lru_cache(maxsize=_MAX_CACHED_NAMES)
def _cached_domain(name: str) -> str:
    name = name.lower().rstrip(".")
    if name.endswith(_REVERSE):
        return ".".join(name.rsplit(".", 2)[-2:])
    return _suffixes().privatesuffix(name) or name


def has_public_suffix(name: str) -> bool:
    """Return whether publicsuffix.org lists the top-level domain of a name in lower case: `.com`, but not `.lan`."""
    return _is_public(name.rpartition(".")[2])


@lru_cache(maxsize=10_000)
def _is_public(top: str) -> bool:
    # two labels below it, because of suffixes such as `*.ck`
    return _suffixes().publicsuffix(f"a.b.{top}", accept_unknown=False) is not None


@cache
def _suffixes() -> "PublicSuffixList":
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415 - the base install has none

    return PublicSuffixList()


def is_group_address(address: str) -> bool:
    """Return whether an address is one of a multicast group (RFC 5771, RFC 4291) or the broadcast to all."""
    if ":" in address:
        return address.startswith("ff")
    first = address.partition(".")[0]
    return (len(first) == 3 and "224" <= first <= "239") or address == "255.255.255.255"
