"""Contacts of a small fleet: what is collected, in bounded memory, how it is ranked, and what is left out."""

import random
import tracemalloc

import pytest

from mods_grpc.features.records import Conn, Http, Ssl
from mods_grpc.ids.beacons import contacts as contacts_module
from mods_grpc.ids.beacons.contacts import Contacts, Key, Pair
from mods_grpc.ids.beacons.ranking import Filters, Reason, rank_beacons

SECOND = 10**9
START = 1_772_409_600
LOCAL = ("10.0.0.0/16",)
BEACON, HOSTS = "198.51.100.9", tuple(f"10.0.0.{number}" for number in range(1, 11))


def conn(second, orig, resp, size=100, uid=None):
    return Conn(ts=round((START + second) * SECOND), uid=uid, orig_h=orig, orig_p=9, resp_h=resp, resp_p=443, orig_bytes=size)


def collect(records):
    contacts = Contacts(LOCAL)
    for record in records:
        contacts.add(record)
    return contacts


def fleet(seed=1, seconds=6 * 3_600):
    """Return ordinary traffic of all hosts: bursts to sites of their own, and a regular update server that all have."""
    draw = random.Random(seed)
    records = []
    for host in HOSTS:
        for site in range(4):
            for _ in range(8):
                begin = draw.uniform(0, seconds)
                pages = [
                    conn(begin + draw.expovariate(0.2), host, f"203.0.{site}.{host[-1]}", draw.randrange(9_000)) for _ in range(5)
                ]
                records += pages
        records += [conn(300 * number, host, "192.0.2.1", 50) for number in range(seconds // 300)]
    return records


def beacon(host=HOSTS[3], *, every=60, count=100, jitter=0.1, begin=3_600, uid=None, name=None, address=BEACON):
    """Return connections each `every` seconds; name and address may be functions of the number of the connection."""
    draw = random.Random(2)
    records = []
    for number in range(count):
        when = begin + every * (number + draw.uniform(0, jitter))
        resp = address(number) if callable(address) else address
        one = None if name is None else f"{host}-{begin}-{number}-{resp}"
        if name is not None:
            server = name(number) if callable(name) else name
            records.append(Ssl(ts=round((START + when) * SECOND), uid=one, orig_h=host, resp_h=resp, server_name=server))
        records.append(conn(when + 0.1, host, resp, 300, one))
    return records


def rank_all(records, **filters):
    return rank_beacons(collect(sorted(records, key=lambda record: record.ts)), Filters(**filters))


def rank(records, **filters):
    return rank_all(records, **filters).beacons


def visits(name, address, hosts=HOSTS):
    """Return ten visits of each host to a site at random times."""
    draw = random.Random(3)
    return [
        record
        for host in hosts
        for _ in range(10)
        for record in beacon(host, count=1, begin=draw.uniform(0, 6 * 3_600), name=name, address=address)
    ]


def test_a_beacon_to_a_rare_destination_is_the_first_and_what_all_hosts_contact_is_left_out():
    beacons = rank([*fleet(), *beacon()])
    assert (beacons[0].host, beacons[0].destination) == (HOSTS[3], BEACON)
    assert beacons[0].score > 0.95 > beacons[1].score + 0.2
    assert "192.0.2.1" not in {each.destination for each in beacons}
    assert "192.0.2.1" in {each.destination for each in rank(fleet(), max_prevalence=1.0)}


def test_the_evidence_is_of_the_connections():
    best = rank([*fleet(), *beacon()])[0].to_json()
    assert best["connections"] == 100
    assert best["interval"]["median_seconds"] == pytest.approx(60, abs=1)
    assert best["interval"]["jitter_seconds"] < 4
    assert (best["size"]["median_bytes"], best["bytes_sent"]) == (300, 30_000)
    assert (best["addresses"], best["ports"]) == ([BEACON], [443])
    assert (best["prevalent_hosts"], best["prevalence"]) == (1, 0.1)
    assert best["first"].startswith("2026-03-02T01:00:0")
    assert best["last"] > best["first"]
    assert best["age_seconds"] == pytest.approx(5 * 3_600 - 300, abs=300)


@pytest.mark.parametrize(
    ("filters", "is_ranked"), [({}, True), ({"max_age_seconds": 3_600}, False), ({"min_connections": 101}, False)]
)
def test_filters_by_age_and_number_of_connections(filters, is_ranked):
    assert (BEACON in {each.destination for each in rank([*fleet(), *beacon()], **filters)}) == is_ranked


def test_a_share_of_hosts_above_the_greatest_is_left_out_and_three_hosts_are_never():
    def victims(number, share):
        beacons = rank([*fleet(), *(record for host in HOSTS[:number] for record in beacon(host))], max_prevalence=share)
        return [each.prevalence for each in beacons if each.destination == BEACON]

    assert victims(2, 0.02) == [0.2, 0.2]
    assert victims(3, 0.001) == [0.3, 0.3, 0.3]
    assert victims(4, 0.3) == []
    assert victims(4, 0.4) == [0.4] * 4


def test_the_server_name_is_the_destination_over_addresses_that_change():
    records = beacon(name="CDN.Example.com.")
    for number, record in enumerate(records):
        record.resp_h = f"198.51.100.{number // 2 % 3}"
    (best,) = rank(records)
    assert (best.destination, best.contact.count) == ("cdn.example.com", 100)
    assert best.contact.addresses == ("198.51.100.0", "198.51.100.1", "198.51.100.2")


def test_names_of_one_registered_domain_are_one_destination_for_prevalence():
    records = [record for number, host in enumerate(HOSTS[:4]) for record in beacon(host, name=f"h{number}.cdn.example.com")]
    assert rank(records) == []
    assert {each.prevalent_hosts for each in rank(records, max_prevalence=1.0)} == {4}


@pytest.mark.parametrize(
    ("name", "address", "key", "destination"),
    [
        ("c2.example.org", BEACON, Key.NAME, "c2.example.org"),
        (lambda number: f"{number:x}.example.org", BEACON, Key.DOMAIN, "example.org"),
        (lambda number: f"{number:x}.example.org", lambda number: f"198.51.{number}.9", Key.DOMAIN, "example.org"),
        (lambda number: f"host-{number:x}.com", BEACON, Key.ADDRESS, BEACON),
        ("c2.example.org", lambda number: f"198.51.{number}.9", Key.NAME, "c2.example.org"),
        (BEACON, BEACON, Key.ADDRESS, BEACON),  # the address instead of a name
        ("[2001:db8::1]", "2001:db8::1", Key.ADDRESS, "2001:db8::1"),
    ],
)
def test_a_beacon_whose_names_or_addresses_change_is_listed_once_by_the_key_that_scores_best(name, address, key, destination):
    best, *others = rank([*fleet(), *beacon(name=name, address=address)])
    assert (best.key, best.destination, best.contact.count) == (key, destination, 100)
    assert best.score > 0.95
    assert not [each for each in others if each.host == best.host and set(each.contact.times) & set(best.contact.times)]


def test_two_names_of_a_domain_are_two_contacts_if_each_is_regular_and_the_domain_is_not_listed_again():
    records = [*beacon(name="a.example.org"), *beacon(name="b.example.org", every=47, begin=3_000)]
    assert {each.destination for each in rank(records)} == {"a.example.org", "b.example.org"}


def test_a_domain_is_listed_beside_one_of_its_names_if_most_of_its_connections_are_others():
    records = [*beacon(name="a.example.org")]
    records += beacon(name=lambda number: f"{number}.example.org", every=9, count=400, jitter=5, begin=3_003)
    ranked = [(each.destination, each.contact.count) for each in rank(records)]
    assert ranked[0] == ("a.example.org", 100)
    assert ("example.org", 500) in ranked


def test_an_address_is_a_part_of_its_domain_if_that_is_rare_too():
    draw = random.Random(4)
    records = beacon(name="www.example.org", address="203.0.113.1")
    for begin in (draw.uniform(0, 6 * 3_600) for _ in range(300)):
        records += beacon(count=1, begin=begin, name="www.example.org", address="203.0.114.1")
    ranking = rank_all(records)
    assert [(each.key, each.contact.count) for each in ranking.beacons] == [(Key.NAME, 400)]
    assert ranking.left_out[Reason.SAME] == 3


@pytest.mark.parametrize(("hosts", "greatest"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (100, 3), (200, 4), (1_000, 20)])
def test_the_greatest_number_of_hosts_is_the_share_or_three_or_half_of_fewer(hosts, greatest):
    assert Filters().max_hosts(hosts) == greatest


def test_a_popular_name_at_an_address_that_no_other_host_uses_for_it_is_ranked_and_flagged():
    records = [*fleet(), *visits("www.example.net", "192.0.2.80"), *beacon(name="www.example.net")]
    best = rank(records)[0]
    assert (best.destination, best.names_elsewhere, best.prevalent_hosts) == (BEACON, ("www.example.net",), 1)
    assert best.to_json()["names_elsewhere"] == ["www.example.net"]
    # a host that never reaches the name elsewhere
    best = rank([*fleet(), *visits("www.example.net", "192.0.2.80", HOSTS[4:]), *beacon(name="www.example.net")])[0]
    assert (best.key, best.names_elsewhere, best.prevalent_hosts) == (Key.NAME, ("www.example.net",), 1)
    # a name of its own below a popular domain
    best = rank([*fleet(), *visits("www.example.net", "192.0.2.80"), *beacon(name="a.example.net")])[0]
    assert (best.destination, best.names_elsewhere) == (BEACON, ())


@pytest.mark.parametrize("address", ["192.0.2.80", "192.0.2.99", "2001:db8:1::1"])
def test_a_popular_name_at_its_addresses_or_in_their_networks_is_left_out(address):
    others = [*visits("www.example.net", "192.0.2.80"), *visits("www.example.net", "2001:db8:1:9::2")]
    ranking = rank_all([*fleet(), *others, *beacon(name="www.example.net", address=address)])
    assert not [each for each in ranking.beacons if "www.example.net" in each.contact.names]
    assert (
        rank([*fleet(), *others, *beacon(name="www.example.net", address=address)], max_prevalence=1.0)[0].names_elsewhere == ()
    )


def test_a_rare_name_has_no_flag_and_the_age_of_an_address_is_that_of_its_domain():
    old = beacon(name="c2.example.org", address="203.0.113.1", count=5, begin=0)
    ranked = rank([*old, *beacon(name="c2.example.org", begin=10 * 3_600)], max_age_seconds=8 * 3_600)
    assert ranked == []
    ranked = rank([*old, *beacon(name="c2.example.org", begin=10 * 3_600)])
    assert [each.names_elsewhere for each in ranked] == [()]
    # the name that others contact elsewhere for long says nothing of the age of the place
    popular = visits("www.example.net", "192.0.2.80")
    ranked = rank([*popular, *beacon(name="www.example.net", begin=10 * 3_600)], max_age_seconds=8 * 3_600)
    assert [each.destination for each in ranked] == [BEACON]


def test_each_pair_is_ranked_or_left_out_for_a_reason():
    records = [*fleet(), *beacon(name="c2.example.org"), *beacon(HOSTS[5], every=0.01, begin=9, address="203.0.113.7")]
    contacts = collect(sorted(records, key=lambda record: record.ts))

    def left_out(**filters):
        ranking = rank_beacons(contacts, Filters(**filters))
        assert len(ranking.beacons) + sum(ranking.left_out.values()) == len(contacts.pairs)
        return ranking.left_out

    default = left_out()
    assert (default[Reason.PREVALENCE], default[Reason.SECONDS], default[Reason.SAME]) == (len(HOSTS), 1, 2)
    assert (default[Reason.CONNECTIONS], default[Reason.AGE], default[Reason.SCORE]) == (0, 0, 0)
    assert left_out(min_connections=101)[Reason.CONNECTIONS] == len(contacts.pairs)
    assert left_out(max_age_seconds=5 * 3_600)[Reason.AGE] > 30
    assert left_out(min_score=0.9)[Reason.SCORE] == 40
    assert left_out(max_prevalence=1.0)[Reason.PREVALENCE] == 0


def test_the_host_of_a_request_is_a_name_too():
    records = beacon(uid=True)
    named = [record for number, record in enumerate(records) for record in _with_request(record, f"U{number}")]
    assert [each.destination for each in rank(named)] == ["c2.example.org"]


def _with_request(record, uid):
    record.uid = uid
    return Http(ts=record.ts, uid=uid, orig_h=record.orig_h, resp_h=record.resp_h, host="c2.example.org"), record


@pytest.mark.parametrize(
    "change",
    [
        {"resp_h": "10.0.9.9"},  # inside
        {"resp_h": "224.0.0.251"},  # a group of hosts
        {"orig_h": "203.0.113.1", "resp_h": HOSTS[0]},  # inbound
        {"orig_h": "203.0.113.1"},  # neither end local
    ],
)
def test_only_outward_connections_to_single_hosts_count(change):
    records = beacon()
    for record in records:
        for name, value in change.items():
            setattr(record, name, value)
    assert rank(records) == []


@pytest.mark.parametrize(("proto", "kind"), [("icmp", 0), ("icmp", 3), ("icmp", 11), ("ipv6-icmp", 1), ("icmp", 129)])
def test_errors_and_answers_of_icmp_are_no_contacts(proto, kind):
    records = beacon()
    for record in records:
        record.proto, record.orig_p, record.resp_p = proto, kind, 3
    contacts = collect(records)
    assert (contacts.pairs, contacts.hosts, contacts.counters.added) == ({}, {}, len(records))


def test_a_request_of_icmp_has_no_port():
    records = beacon()
    for record in records[::2]:
        record.proto, record.orig_p, record.resp_p = "icmp", 8, 0
    (best,) = rank(records)
    assert (best.contact.count, best.to_json()["ports"]) == (100, ["icmp", 443])


def test_one_size_of_many_connections_is_no_evidence():
    draw = random.Random(5)
    records = [conn(draw.uniform(0, 6 * 3_600), HOSTS[0], BEACON, None) for _ in range(60)]
    records.append(conn(6 * 3_600, HOSTS[0], BEACON, 255))
    (best,) = rank(records)
    assert best.regularity.sizes.score == 0
    assert best.score < 0.5


def test_the_furthest_reason_is_that_of_the_pairs_that_passed_most_filters():
    def furthest(records, **filters):
        return rank_all(records, **filters).furthest

    rare = [conn(number, HOSTS[0], f"203.0.113.{number}") for number in range(50)]
    assert furthest([]) is None
    assert furthest(rare) is Reason.CONNECTIONS
    assert furthest([*rare, *beacon()], max_age_seconds=60) is Reason.AGE
    assert furthest([*rare, *(record for host in HOSTS for record in beacon(host))]) is Reason.PREVALENCE


def test_the_pairs_with_the_fewest_connections_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(contacts_module, "MAX_PAIRS", 100)
    scan = [conn(number, HOSTS[0], f"203.0.{number // 250}.{number % 250}") for number in range(5_000)]
    contacts = collect(sorted([*scan, *beacon(begin=10, every=30)], key=lambda record: record.ts))
    assert len(contacts.pairs) <= 100
    assert contacts.forgotten > 4_800
    assert rank_beacons(contacts, Filters()).beacons[0].contact.count == 100


def test_connections_are_bounded_in_all_and_of_a_pair(monkeypatch):
    monkeypatch.setattr(contacts_module, "MAX_CONNECTIONS_PER_PAIR", 50)
    (contact,) = collect(beacon()).pairs.values()
    assert (contact.count, contact.held, len(contact.times)) == (100, 50, 50)
    monkeypatch.setattr(contacts_module, "MAX_CONNECTIONS", 400)
    contacts = collect(sorted([*fleet(), *beacon()], key=lambda record: record.ts))
    assert sum(each.held for each in contacts.pairs.values()) <= 400
    assert contacts.forgotten > 0


def test_random_names_are_forgotten_before_their_domain_and_address(monkeypatch):
    monkeypatch.setattr(contacts_module, "MAX_PAIRS", 30)
    contacts = collect(beacon(name=lambda number: f"{number:x}.example.org"))
    assert contacts.forgotten > 60
    assert contacts.pairs[Pair(HOSTS[3], Key.DOMAIN, "example.org")].count == 100
    assert contacts.pairs[Pair(HOSTS[3], Key.ADDRESS, BEACON)].count == 100


def test_a_pair_takes_at_most_700_bytes():
    records = [record for number in range(5_000) for record in beacon(count=1, begin=number, name=f"h.site{number}.org")]
    for number, record in enumerate(records):
        record.resp_h = f"198.{number >> 17}.{number >> 9 & 255}.{number >> 1 & 255}"
    for record in records[:2]:
        Contacts(LOCAL).add(record)  # loads the public suffixes
    contacts = Contacts(LOCAL)
    tracemalloc.start()
    try:
        for record in records:
            contacts.add(record)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(contacts.pairs) == 15_000
    assert size / len(contacts.pairs) <= 700
