"""Which series a pattern of the suppression rules means, and which patterns never mean any."""

import pytest

from mods_grpc.features import GroupBy
from mods_grpc.ids.alerts.series_patterns import find_useless, matches


@pytest.mark.parametrize(
    ("pattern", "series"),
    [
        ("site", "site"),
        ("lab-*", "lab-7"),
        ("10.20.*", "10.20.3.4"),
        ("10.0.0.0/8", "10.20.3.4"),
        ("10.0.0.0/8", "10.20.3.0/24"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.20.30.40/8", "10.1.1.1"),
        ("::ffff:10.0.0.0/104", "10.20.3.4"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0:0::/32", "2001:db8:1::2"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:DB8:*", "2001:db8:1::2"),
        ("0.0.0.0/0", "8.8.8.8"),
    ],
)
def test_a_pattern_means_a_series(pattern, series):
    assert matches(series, [pattern])


@pytest.mark.parametrize(
    ("pattern", "series"),
    [
        ("10.0.0.0/8", "11.0.0.1"),
        ("10.0.0.0/24", "10.0.0.0/8"),
        ("10.0.0.0/8", "site"),
        ("::/0", "10.0.0.1"),
        ("0.0.0.0/0", "2001:db8::1"),
        ("LAB-*", "lab-7"),
        ("10.0.0.0/8", "10.0.0.0/99"),
    ],
)
def test_a_pattern_does_not_mean_a_series(pattern, series):
    assert not matches(series, [pattern])


@pytest.mark.parametrize(
    ("group_by", "networks", "useful", "useless"),
    [
        (GroupBy.SITE, [], ["site", "*", "s?te"], ["10.0.0.0/8", "10.*", "lab-*"]),
        (GroupBy.HOST, [], ["10.0.0.0/8", "10.*", "2001:db8::/32", "*"], ["lab-*", "site"]),
        (GroupBy.HOST, ["10.0.0.0/8"], ["10.1.0.0/16", "0.0.0.0/0"], ["192.168.0.0/16", "2001:db8::1"]),
        (GroupBy.SUBNET, [], ["10.0.0.0/8", "10.1.2.0/24", "10.*", "2001:db8::/48"], ["10.1.2.128/25", "10.1.2.3", "site"]),
        (GroupBy.SUBNET, ["10.0.0.0/16"], ["10.0.0.0/8", "10.0.0.0/16"], ["10.0.7.0/24", "11.0.0.0/8"]),
        (GroupBy.SENSOR, ["10.0.0.0/8"], ["gate-*", "10.0.0.1"], ["10.0.0.0/8", "10.0.0.1-10.0.0.9"]),
        (
            GroupBy.HOST,
            [],
            ["10.0.0.[0-9]", "10.0.0.?", "*.7", "fe80::*", "FE80:*:1", "10.*.3.4", "1*", "[12]0.0.0.1"],
            [
                *(
                    "10.0.0.0-10.0.0.9",
                    "10.0.0.300",
                    "10.0.0",
                    "10.0.300.*",
                    "10.0.*/16",
                    "10.0.0.0/33",
                    "10.0.0.1:22",
                    "1.2.3.4.*",
                ),
                *("10.0.0.0/8,192.168.0.0/16", "10.0.0.1 - 10.0.0.9", "fe80::12345:*", "fe80:*:1.*", "0a.*"),
            ],
        ),
        (GroupBy.SUBNET, [], ["10.1.*/24", "10.1.*.0/2?", "fe80:*/64"], ["10.1.*/25", "10.1.2.0-10.1.4.0", "10.1.*/33"]),
        (GroupBy.SUBNET, ["10.1.0.0/16"], ["10.*", "10.1.*/16"], ["10.2.*", "10.1.*/24"]),
    ],
)
def test_patterns_that_can_never_match_are_listed_with_what_series_look_like(group_by, networks, useful, useless):
    listed = find_useless([*useful, *useless], group_by, networks)
    assert sorted(listed) == sorted(useless)
    assert all("series" in example for example in listed.values())


@pytest.mark.parametrize(
    ("pattern", "proposal"),
    [
        ("10.0.0.0-10.0.0.9", "write the range as 10.0.0.0/29 and 10.0.0.8/31"),
        ("10.0.0.9 - 10.0.0.0", "write the range as networks such as"),
        ("10.0.0.1-10.0.9.200", "write the range as networks such as"),
        ("fe80::-10.0.0.1", "write the range as networks such as"),
    ],
)
def test_networks_are_proposed_for_a_range(pattern, proposal):
    assert proposal in find_useless([pattern], GroupBy.HOST, [])[pattern]
