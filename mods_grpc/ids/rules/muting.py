"""Checks which rules a file of suppression mutes, so that none of its patterns is without effect in silence."""

import importlib.util
import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from pathlib import Path

from mods_grpc.features.names import has_public_suffix, registered_domain
from mods_grpc.ids.alerts.mutes.suppression import ALL_SERIES, MutedRule, MuteRule
from mods_grpc.ids.alerts.series_patterns import refuse_address_pattern
from mods_grpc.ids.rules.rule import RULE_NAMES, RULES, Grouping

_PORTS = tuple(map(str, range(65_536)))
_REVERSE = ".arpa"
_WILDCARDS = re.compile(r"[*?\[]")


def find_wrong_word(muted: Iterable[MutedRule]) -> tuple[str, str] | None:
    """Return the first word that can mute nothing, and what is wrong with it; None if there is none.

    It is the name of no rule, a group of a rule that has none, or a pattern that can never match a group.
    """
    groupings = {rule.name: rule.grouped_by for rule in RULES}
    for rule in muted:
        if rule.name not in groupings:
            return rule.name, f"rule.name: no fixed rule is called {rule.name}; expected {', '.join(RULE_NAMES)}"
        if rule.groups == ALL_SERIES:
            continue
        grouping = groupings[rule.name]
        for pattern in rule.groups:
            if grouping is None:
                names = ", ".join(name for name, each in groupings.items() if each is not None)
                return pattern, f"rule.groups: {rule.name} has no groups; leave them out. Those that have some are {names}"
            if (expected := _refuse(grouping, pattern)) is not None:
                what = f"rule.groups: {rule.name} counts by {grouping.value}"
                return pattern, f"{what}; expected {expected}, found {pattern!r}"
    return None


def find_wrong_rule(mutes: Iterable[MuteRule]) -> tuple[str, str] | None:
    """Return the first name of a mute rule that is that of no fixed rule, and what is wrong with it; None if there is none."""
    for name in (name for mute in mutes for name in mute.rules):
        if name not in RULE_NAMES:
            return name, f"mute.rule: no fixed rule is called {name}; expected {', '.join(RULE_NAMES)}"
    return None


def _refuse(grouping: Grouping, pattern: str) -> str | None:
    """Return what is expected in place of a pattern that can never match a group; None if it may match one."""
    if grouping is Grouping.PORT:
        is_port = re.compile(translate(pattern)).match
        return None if any(map(is_port, _PORTS)) else 'ports, each by itself, or patterns such as "44*"'
    if grouping is Grouping.PEER:
        return refuse_address_pattern(pattern)
    return _refuse_domain(pattern)


def _refuse_domain(pattern: str) -> str | None:
    """Names are counted for the domain that someone registered, in lower case: never for `www.example.com` or `*.example.com`."""
    if pattern != pattern.lower() and _WILDCARDS.search(pattern):
        return "a pattern in lower case"
    first, dot, rest = pattern.partition(".")
    is_below = bool(dot and _WILDCARDS.search(first)) and not _WILDCARDS.search(rest)
    if (_WILDCARDS.search(pattern) and not is_below) or importlib.util.find_spec("publicsuffixlist") is None:
        return None  # without the list no rule of domains runs
    if is_below and (not rest.isascii() or "xn--" in rest or _has_suffix_below(rest)):
        return None
    name = f"a.{rest}" if is_below else pattern
    domain = registered_domain(name)
    if domain == name and _can_be_registered(name):
        return None
    return f'domains such as "{domain if domain != name and _can_be_registered(domain) else "example.com"}"'


def _can_be_registered(name: str) -> bool:
    """Return whether a name can be the domain of a rule: no public suffix, and below one."""
    if re.search(r"[\s/:]", name) or name.endswith(_REVERSE):
        return False
    return has_public_suffix(name) and registered_domain(f"a.{name}") == name


@lru_cache
def _has_suffix_below(name: str) -> bool:
    """Return whether there are public suffixes below a name, as below `amazonaws.com`, so that domains have further labels."""
    from publicsuffixlist import PSLFILE  # noqa: PLC0415 - the base install has none

    lines = Path(PSLFILE).read_text(encoding="utf-8").splitlines()
    return any(line.endswith(f".{name}") for line in lines if not line.startswith("//"))
