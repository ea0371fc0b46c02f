"""Presets: named choices of columns, for the models that they are meant for.

A preset has few columns: one that shows nothing of an attack still takes its share of the evidence, and of the false alarms.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mods_grpc.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A choice of columns.

    Attributes:
        purpose: What its model watches, in one line.
        keys: The columns, such as `conn|out_failed`.
        is_by_host: Whether each host is a series.
    """

    purpose: str
    keys: tuple[str, ...]
    is_by_host: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols of its columns."""
        return tuple(dict.fromkeys(key.partition("|")[0] for key in self.keys))


OUTWARD = Preset(
    purpose="what each host sends out and inside, a series a host",
    is_by_host=True,
    keys=(
        "conn|out_connections",
        "conn|out_bytes_sent",
        "conn|out_failed",
        "conn|out_distinct_host_ports",
        "conn|out_new_host_connections",
        "conn|out_new_host_bytes",
        "conn|out_max_host_bytes",
        "conn|internal_failed",
        "conn|internal_distinct_host_ports",
        "conn|internal_distinct_admin_hosts",
        "dns|out_nxdomain",
        "dns|out_max_subdomains",
        "dns|internal_nxdomain",
        "dns|internal_max_subdomains",
        "ssl|out_new_server_names",
    ),
)
"""For series by host: a host that was taken over scans, guesses, calls home, tunnels or sends data away, and all of that is its
own traffic, outward or to other local hosts. What reaches it from outside is left out, and so is remote administration of hosts
outside: of a count that is nearly always 0, one in a month is already strange. The two columns of DNS are there for both
directions because the resolver may be local or remote."""

SITE = Preset(
    purpose="the traffic of the whole site, one series",
    keys=(
        "conn|in_connections",
        "conn|in_distinct_hosts",
        "conn|out_connections",
        "conn|out_bytes_sent",
        "conn|out_failed",
        "conn|out_distinct_hosts",
        "conn|internal_connections",
        "conn|internal_failed",
        "dns|out_count_uid",
        "dns|out_nxdomain",
        "dns|out_distinct_domains",
    ),
)
"""For one series of a site: outages, floods and what many hosts do at once. What one host does is lost in the traffic of the
others."""

EXPOSED = Preset(
    purpose="what reaches servers that the internet can reach, a series a host",
    is_by_host=True,
    keys=(
        "conn|in_connections",
        "conn|in_failed",
        "conn|in_distinct_hosts",
        "conn|in_distinct_ports",
        "http|in",
        "http|in_errors",
        "http|in_distinct_urls",
        "ssl|in",
        "ssl|in_failed",
        "ssh|in",
        "ssh|in_failed",
        "ssh|in_distinct_hosts",
    ),
)
"""For exposed servers alone, by host. They are scanned and guessed at all day from the whole internet, so their inbound counts
jump while nothing is wrong, and one attacker more does not move them. In a model with outward columns these counts take most of
the budget of false alarms. In one of their own they show floods, outages and campaigns, at a budget of their own."""

PRESETS: Mapping[str, Preset] = {"outward": OUTWARD, "site": SITE, "exposed": EXPOSED}


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        DataError: There is none.
    """
    if name not in PRESETS:
        raise DataError(f"no preset {name}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
