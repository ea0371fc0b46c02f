"""Patterns of series in the rules of suppression.

A network or an address stands for itself and for the addresses and subnets in it, in any spelling; anything else is a pattern of
the shell for the name of a series.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from mods_grpc.errors import DataError
from mods_grpc.features.locality import SITE, GroupBy, Network, parse_networks

_SUBNET_PREFIXES = {4: 24, 6: 64}
_MAY_MATCH_ADDRESS = re.compile(r"[0-9A-Fa-f.:/*?!\[\]-]+")
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
    return {pattern: _EXAMPLES[group_by] for pattern in patterns if not _may_match(pattern, group_by, networks)}


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
        return network is None or network.num_addresses == 1  # a sensor may be named by its address
    if network is None:
        return _MAY_MATCH_ADDRESS.fullmatch(pattern) is not None
    if group_by is GroupBy.HOST:
        return not networks or any(_is_inside(network, other) or _is_inside(other, network) for other in networks)
    if networks:
        return any(_is_inside(other, network) for other in networks)
    return network.prefixlen <= _SUBNET_PREFIXES[network.version]


@lru_cache(maxsize=4_096)
def _as_network(text: str) -> Network | None:
    try:
        (network,) = parse_networks([text])
    except DataError:
        return None
    return network


def _is_inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of the same version
