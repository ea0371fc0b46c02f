"""Patterns of series in the rules of suppression.

A network or an address stands for itself and for the addresses and subnets in it, in any spelling; anything else is a pattern of
the shell for the name of a series.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address, summarize_address_range

from mods_grpc.errors import DataError
from mods_grpc.features.locality import SITE, GroupBy, Network, parse_networks

_SUBNET_PREFIXES = {4: 24, 6: 64}
_MAY_MATCH_ADDRESS = re.compile(r"[0-9A-Fa-f.:/*?!\[\]-]+")
_SET = re.compile(r"\[!?\]?[^]]*\]")  # of characters, in a pattern of the shell
_ADDRESS = re.compile(r"[0-9a-f.:*?]+")
_OCTET = re.compile(r"[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5]")
_GROUP = re.compile(r"|0|[1-9a-f][0-9a-f]{0,3}")
_MAX_NETWORKS = 4  # that are proposed for a range
_EXAMPLES = {
    GroupBy.SITE: f"the only series is {SITE}",
    GroupBy.SUBNET: "series are subnets such as 10.1.2.0/24",
    GroupBy.HOST: "series are addresses such as 10.1.2.3",
    GroupBy.SENSOR: "series are names of sensors",
}


def matches(series: str, patterns: Iterable[str]) -> bool:
    """Return whether a series is meant by one of the patterns."""
    return any(_matches_one(series, pattern) for pattern in patterns)


def find_useless(patterns: Iterable[str], group_by: GroupBy, local_networks: Sequence[str]) -> dict[str, str]:
    """Find patterns that can never match a series.

    Args:
        patterns: The patterns.
        group_by: What a series stands for.
        local_networks: The configured local networks; empty if the logs' own flags decide.

    Returns:
        By pattern, what series look like.
    """
    networks = parse_networks(local_networks)
    useless = [pattern for pattern in patterns if not _may_match(pattern, group_by, networks)]
    return {pattern: f"{_EXAMPLES[group_by]}{_propose(pattern, group_by)}" for pattern in useless}


def refuse_address_pattern(pattern: str) -> str | None:
    """Return what is expected in place of a pattern that can never match an address; None if it may match one."""
    if _may_match(pattern, GroupBy.HOST, ()):
        return None
    return f'addresses or networks such as "198.51.100.7" or "198.51.100.0/24"{_propose(pattern, GroupBy.HOST)}'


def _matches_one(series: str, pattern: str) -> bool:
    if fnmatchcase(series, pattern):
        return True
    network = _as_network(pattern)
    if network is None:
        # addresses are written in lower case
        return _MAY_MATCH_ADDRESS.fullmatch(pattern) is not None and fnmatchcase(series, pattern.lower())
    member = _as_network(series)
    return member is not None and _is_inside(member, network)


def _may_match(pattern: str, group_by: GroupBy, networks: Sequence[Network]) -> bool:
    network = _as_network(pattern)
    if group_by is GroupBy.SITE:
        return _matches_one(SITE, pattern)
    if group_by is GroupBy.SENSOR:
        is_one = network is not None and network.num_addresses == 1  # a sensor may be named by its address
        return is_one or (network is None and not _split_range(pattern))
    if network is None:
        address, slash, prefix = _SET.sub("?", pattern.lower()).partition("/")
        if group_by is GroupBy.HOST:
            return not slash and _may_be_address(address)
        if networks:
            return any(_matches_one(str(other), pattern) for other in networks)
        return _may_be_address(address) and (not slash or any(fnmatchcase(str(n), prefix) for n in _SUBNET_PREFIXES.values()))
    if group_by is GroupBy.HOST:
        return not networks or any(_is_inside(network, other) or _is_inside(other, network) for other in networks)
    if networks:
        return any(_is_inside(other, network) for other in networks)
    return network.prefixlen <= _SUBNET_PREFIXES[network.version]


def _may_be_address(pattern: str) -> bool:
    """Return whether a pattern in lower case, without sets of characters, may match an address; it is none itself."""
    if not _ADDRESS.fullmatch(pattern) or not {"*", "?"} & set(pattern) or {".", ":"} <= set(pattern):
        return False
    if "." in pattern:
        octets = pattern.split(".")
        whole = [octet for octet in octets if not {"*", "?"} & set(octet)]
        return len(octets) <= 4 and all(map(_OCTET.fullmatch, whole)) and not set("abcdef") & set(pattern)
    groups = pattern.split(":")
    whole = [group for group in groups if not {"*", "?"} & set(group)]
    return len(groups) <= 8 and all(map(_GROUP.fullmatch, whole))


def _split_range(pattern: str) -> tuple[str, str] | None:
    """Return the ends of a range of addresses, such as `10.0.0.0-10.0.0.9`; None if it is none."""
    first, _, last = pattern.partition("-")
    with suppress(ValueError):
        return str(ip_address(first.strip())), str(ip_address(last.strip()))
    return None


def _propose(pattern: str, group_by: GroupBy) -> str:
    """Return what to write in place of a range of addresses; empty if it is none."""
    ends = _split_range(pattern) if group_by in {GroupBy.HOST, GroupBy.SUBNET} else None
    if ends is None:
        return ""
    with suppress(ValueError, TypeError):  # from the higher to the lower end, or of two versions
        networks = list(summarize_address_range(*map(ip_address, ends)))
        if len(networks) <= _MAX_NETWORKS:
            return f"; write the range as {' and '.join(map(str, networks))}"
    return "; write the range as networks such as 10.0.0.0/29"


@lru_cache(maxsize=4_096)
def _as_network(text: str) -> Network | None:
    try:
        (network,) = parse_networks([text])
    except DataError:
        return None
    return network


def _is_inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of the same version
