"""Patterns of groups of muted rules: those that can match are taken, those that never can are refused with what is expected."""

import pytest

from mods_grpc.ids.alerts.mutes.suppression import MutedRule
from mods_grpc.ids.rules.muting import find_wrong_word
from mods_grpc.ids.rules.rule import RULES


def muted(name, *groups):
    return [MutedRule(name=name, groups=groups)]


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("host-scan", ["445", "44*", "[1-3]?", "*", "0"]),
        ("port-scan", ["10.1.2.3", "10.1.*", "*"]),
        ("bytes-out", ["198.51.100.0/24", "2001:DB8::/32", "2001:db8:*"]),
        ("ssh-inbound", ["203.0.113.7"]),
        ("ssh-break-in", ["0.0.0.0/0"]),
        ("dns-subdomains", ["mcafee.com", "*.co.uk", "*mcafee*", "mcafee.*", "*", "example.co.uk", "*.amazonaws.com", "*.ck"]),
    ],
)
def test_patterns_that_can_match_a_group_are_taken(name, patterns):
    for pattern in patterns:
        assert find_wrong_word(muted(name, pattern)) is None


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("host-scan", "445-450", "counts by port; expected ports, each by itself, or patterns"),
        ("host-scan", "65536", "counts by port"),
        ("host-scan", "https", "counts by port"),
        ("host-scan", "10.0.0.0/8", "counts by port"),
        ("port-scan", "22", "counts by peer; expected addresses or networks"),
        ("bytes-out", "backup.example.com", "counts by peer"),
        ("bytes-out", "198.51.100.0-198.51.100.9", "write the range as 198.51.100.0/29 and 198.51.100.8/31"),
        ("dns-subdomains", "www.mcafee.com", 'counts by registered domain; expected domains such as "mcafee.com"'),
        ("dns-subdomains", "*.mcafee.com", 'expected domains such as "mcafee.com"'),
        ("dns-subdomains", "mc*.mcafee.com", 'expected domains such as "mcafee.com"'),
        ("dns-subdomains", "?.mcafee.com", 'expected domains such as "mcafee.com"'),
        ("dns-subdomains", "McAfee.com", 'expected domains such as "mcafee.com"'),
        ("dns-subdomains", "Mc*", "expected a pattern in lower case"),
        ("dns-subdomains", "co.uk", 'expected domains such as "example.com"'),
        ("dns-subdomains", "10.0.0.1", 'expected domains such as "example.com"'),
        ("dns-subdomains", "host.lan", 'expected domains such as "example.com"'),
        ("dns-subdomains", "in-addr.arpa", 'expected domains such as "example.com"'),
    ],
)
def test_patterns_that_can_never_match_a_group_are_refused(name, pattern, expected):
    word, complaint = find_wrong_word(muted(name, "*", pattern))
    assert word == pattern
    assert complaint.startswith(f"rule.groups: {name} counts by ")
    assert expected in complaint
    assert complaint.endswith(f"found {pattern!r}")


@pytest.mark.parametrize("name", ["ssh-hosts", "ssh-guessing", "dns-nxdomain"])
def test_a_rule_without_groups_takes_none(name):
    word, complaint = find_wrong_word(muted(name, "203.0.113.7"))
    assert word == "203.0.113.7"
    assert f"{name} has no groups; leave them out" in complaint
    assert find_wrong_word([MutedRule(name=name, hosts=("10.0.0.1",))]) is None


def test_the_rules_with_groups_name_them_in_their_alerts():
    assert {rule.name for rule in RULES if rule.grouped_by} == {rule.name for rule in RULES if "{}" in rule.counted}
