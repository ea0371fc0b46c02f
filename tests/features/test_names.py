"""Registered domains, and addresses of groups of hosts."""

import pytest

from mods_grpc.features.names import is_group_address, registered_domain, subdomain

DOMAINS = {
    "a.b.example.co.uk": "example.co.uk",
    "WWW.Example.COM.": "example.com",
    "co.uk": "co.uk",
    "localhost": "localhost",
    "4.3.2.1.in-addr.arpa": "in-addr.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa": "ip6.arpa",
    "_ldap._tcp.dc._msdcs.corp.example": "corp.example",
    "printer.local": "printer.local",
    "x.github.io": "x.github.io",
    "": "",
    "...": "",
    ".": "",
    "a..b": "a..b",
    "ümlaut.example.de": "example.de",
    "\\x00\\xff.example.org": "example.org",
}


@pytest.mark.parametrize(("name", "domain"), DOMAINS.items())
def test_the_registered_domain_of_a_name(name, domain):
    assert registered_domain(name) == domain


def test_a_name_that_is_too_long_stands_for_itself():
    name = "a." * 3_000 + "example.com"
    assert registered_domain(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("www.Example.COM.", "www.example.com"),
        ("", None),
        ("Example.com.", None),  # the domain itself
        ("example.co.uk", None),
        ("a.Example.co.uk", "a.example.co.uk"),
        ("1.0.0.10.IN-ADDR.arpa.", None),
        ("x.ip6.arpa", None),
        ("printer.local", None),
        ("local", None),
        ("local.example.com", "local.example.com"),
    ],
)
def test_a_name_below_a_domain_has_one_spelling(name, expected):
    assert subdomain(name) == expected


@pytest.mark.parametrize(
    ("address", "is_group"),
    [
        ("224.0.0.1", True),
        ("239.255.255.250", True),
        ("255.255.255.255", True),
        ("ff02::fb", True),
        ("223.255.255.255", False),
        ("240.0.0.1", False),
        ("22.4.0.1", False),
        ("10.0.0.255", False),
        ("fe80::1", False),
        ("2001:db8::ff", False),
    ],
)
def test_addresses_of_groups(address, is_group):
    assert is_group_address(address) is is_group
