"""The evidence of an alert in words: who made it."""

from dataclasses import replace

from mods_grpc.ids.alerts.sentences.sentence import describe_evidence
from mods_grpc.ids.evidence.evidence import Dimension, Evidence
from tests.support.alerts.written_evidence import FOUR_SOURCES, dimension, evidence


def test_the_series_itself_is_not_named_among_the_hosts():
    who = evidence(
        dimension(Dimension.SOURCE, ("10.0.0.5", 103, 0, 1.0)),
        dimension(Dimension.DESTINATION, ("203.0.113.9", 100, 0, 0.95), distinct=3),
        feature="ssh_out",
        column="out",
    )
    assert describe_evidence(who, series="10.0.0.5") == "to 203.0.113.9 (100 of 103)"


def test_of_a_fall_of_many_hosts_it_names_what_stands_for_it():
    who = evidence(
        dimension(Dimension.DESTINATION, ("203.0.113.7", 0, 1, 0.2), ("203.0.113.8", 0, 1, 0.2)),
        dimension(Dimension.SOURCE, ("10.0.0.5", 0, 5, 1.0)),
        dimension(Dimension.PORT, ("icmp", 0, 4, 0.8)),
        dimension(Dimension.CONN_STATE, ("OTH", 0, 5, 1.0)),
        feature="conn_out",
        column="out_count_uid",
        is_fall=True,
        total=0.0,
        before=5.0,
    )
    assert describe_evidence(who) == "missing: from 10.0.0.5 (0 of usually 5); mostly port icmp (0 of usually 4)"
    assert describe_evidence(who, series="10.0.0.5") == "missing: port icmp (0 of usually 4)"


def test_those_that_have_most_are_told_from_those_that_rose_most():
    resolvers = dimension(
        Dimension.DESTINATION,
        ("203.0.113.3", 31, 0, 0.6),
        ("203.0.113.9", 2, 0, 0.04),
        ("203.0.113.2", 19, 18, 0.02),
        distinct=5,
        covering=2,
        covered=50.0,
    )
    who = evidence(resolvers, column="out_count_uid", total=53.0, before=20.0)
    assert describe_evidence(who) == (
        "2 destinations account for 50 of 53; most of the rise: 203.0.113.3 (31), 203.0.113.9 (2), 203.0.113.2 (19, "
        "usually 18), ..."
    )


def test_what_tells_a_reader_nothing_is_left_out():
    who = evidence(
        dimension(Dimension.SOURCE, ("198.51.100.1", 4, 0, 0.03), distinct=203, covering=150, covered=230.0),
        dimension(Dimension.DESTINATION, ("10.0.0.5", 253, 125, 1.0)),  # the only one that ever is
        dimension(Dimension.PORT, ("53/udp", 240, 0, 0.9), distinct=3),
        dimension(Dimension.SERVICE, ("dns", 240, 0, 0.9), distinct=2),
        dimension(Dimension.CONN_STATE, ("SF", 240, 0, 0.9), distinct=2),
        total=253.0,
        before=125.0,
    )
    assert describe_evidence(who) == "203 sources, none above 3 % of the rise; port 53/udp (240 of 253)"


def test_a_value_that_hardly_changed_is_left_out_though_no_other_rose():
    who = evidence(
        dimension(Dimension.SOURCE, ("198.51.100.1", 25, 0, 0.04), distinct=271, covering=210, covered=615.0),
        dimension(Dimension.CONN_STATE, ("S0", 21, 16, 1.0), distinct=3),
        total=683.0,
        before=690.0,
    )
    assert describe_evidence(who) == "271 sources, none above 4 % of the rise"


def test_a_service_on_another_port_than_its_own_is_named():
    who = evidence(
        dimension(Dimension.SOURCE, ("198.51.100.1", 250, 0, 1.0)),
        dimension(Dimension.PORT, ("4444/tcp", 250, 0, 1.0)),
        dimension(Dimension.SERVICE, ("ssl", 250, 0, 1.0)),
        dimension(Dimension.CONN_STATE, ("S0", 250, 0, 1.0)),
        total=250.0,
        before=0.0,
    )
    assert describe_evidence(who) == "from 198.51.100.1 (250); port 4444/tcp (250); conn state S0 (250); service ssl (250)"


def test_of_many_sources_it_gives_the_number():
    who = evidence(
        dimension(Dimension.SOURCE, ("203.0.113.7", 20, 0, 0.0141), distinct=1000, is_capped=True, covering=900, covered=1300.0),
        dimension(Dimension.DESTINATION, ("10.0.0.80", 1400, 3, 0.99), distinct=4),
        total=1420.0,
    )
    assert describe_evidence(who) == "more than 1,000 sources, none above 2 % of the rise; to 10.0.0.80 (1,400 of 1,420)"


def test_of_a_scan_it_gives_the_number_of_hosts_and_ports():
    who = evidence(
        dimension(Dimension.SOURCE, ("203.0.113.7", 5000, 0, 0.99), distinct=30),
        dimension(Dimension.DESTINATION, ("10.0.0.1", 30, 0, 0.01), distinct=200),
        dimension(Dimension.PORT, ("22/tcp", 60, 0, 0.01), distinct=1024, is_capped=True),
        dimension(Dimension.CONN_STATE, ("S0", 4900, 0, 0.97), distinct=4),
        total=5050.0,
    )
    assert describe_evidence(who) == (
        "from 203.0.113.7 (5,000 of 5,050); to 200 destinations; more than 1,024 ports; conn state S0 (4,900 of 5,050)"
    )


def test_the_error_of_counts_is_stated():
    who = evidence(replace(FOUR_SOURCES, max_error=11.4))
    assert describe_evidence(who).endswith("; counts may be up to 11 too low")
    assert "too low" not in describe_evidence(evidence(FOUR_SOURCES))


def test_what_is_new_goes_before_what_had_most_already():
    who = evidence(
        dimension(Dimension.SOURCE, ("10.0.0.23", 4210, 12, 1.0)),
        dimension(Dimension.DESTINATION, ("10.0.0.2", 4210, 12, 1.0)),
        dimension(Dimension.QUERY, ("a.t.evil.example", 1, 0, 0.0002), distinct=1024, is_capped=True, max_error=12.0),
        dimension(Dimension.DOMAIN, ("evil.example", 4198, 0, 0.998), distinct=4),
        dimension(Dimension.RCODE, ("NOERROR", 4200, 12, 0.998), distinct=2),
        dimension(Dimension.QUERY_TYPE, ("TXT", 4100, 0, 0.97), distinct=3),
        feature="dns_out",
        column="out_count_uid",
        total=4210.0,
        before=12.0,
    )
    assert describe_evidence(who, series="10.0.0.23") == (
        "domain evil.example (4,198 of 4,210); more than 1,024 queries; query type TXT (4,100 of 4,210); to 10.0.0.2 (4,210); "
        "counts may be up to 12 too low"
    )


def test_log_ins_and_names_read_as_words():
    who = evidence(
        dimension(Dimension.SOURCE, ("203.0.113.7", 40, 0, 0.95), distinct=2),
        dimension(Dimension.AUTH, ("failed", 42, 0, 0.8), distinct=2),
        dimension(Dimension.USER_AGENT, ("curl/8", 39, 0, 0.9), distinct=2),
        total=43.0,
    )
    assert describe_evidence(who) == "from 203.0.113.7 (40 of 43); user agent curl/8 (39 of 43); mostly failed log-ins (42 of 43)"


def test_without_evidence_of_who_there_is_no_text():
    assert describe_evidence(Evidence()) == ""
