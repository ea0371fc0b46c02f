"""Who did what to whom in the alert of a rule: the fields by which other systems correlate."""

from typing import NamedTuple

from mods_grpc.features.locality import SITE
from mods_grpc.ids.rules.counter import Total
from mods_grpc.ids.rules.rule import Roles, Rule


class Endpoints(NamedTuple):
    """The ends of the traffic that was counted.

    Attributes:
        own: Address of the own host; `SITE` for several.
        source: Address that did it.
        destination: Address to which it was done; None for several.
        port: The destination's port; None for several, or where it is not known.
    """

    own: str
    source: str
    destination: str | None = None
    port: int | None = None


def find_endpoints(rule: Rule, host: str, total: Total) -> Endpoints:
    """Return the ends of what a rule counted for a host, or `SITE`, and a group."""
    only = total.examples[0] if len(total.examples) == 1 else None
    match rule.roles:
        case Roles.HOST_TO_PORT:
            return Endpoints(host, host, only, _to_port(total.group))
        case Roles.HOST_TO_GROUP:
            return Endpoints(host, host, total.group, _to_port(only))
        case Roles.HOST_TO_VALUES:
            return Endpoints(host, host, only)
        case Roles.GROUP_TO_VALUES:
            victim = total.last_mark[1] if total.last_mark is not None else only
            return Endpoints(victim or SITE, total.group, victim)
        case Roles.HOST_ONLY:
            return Endpoints(host, host)


def _to_port(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
