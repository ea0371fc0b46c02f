"""What each rule finds, and what it leaves alone."""

import pytest

from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.rules.rule import RULES
from tests.ids.rules.records import HOST, SECOND, SERVER, START, conn, dns, failed, host_scan, port_scan, run, ssh

PUBLISHED = {  # threshold and seconds of the window, as the source of each publishes them
    "host-scan": (25, 300),
    "port-scan": (15, 300),
    "ssh-hosts": (25, 1_800),
    "ssh-guessing": (30, 1_800),
    "ssh-inbound": (30, 1_800),
    "ssh-break-in": (30, 1_800),
    "dns-subdomains": (100, 86_400),
    "dns-nxdomain": (10, 3_600),
    "bytes-out": (500_000_000, 3_600),
}
QUIET = conn(-7_200)  # so that two hours were watched before


def rules_of(alerts):
    return [alert.rule for alert in alerts]


def ssh_to_hosts(count, **fields):
    return [ssh(number, number, resp=f"198.51.100.{number}", **fields) for number in range(count)]


def guesses(count, **fields):
    return [ssh(10 * number, number, failed=True, **fields) for number in range(count)]


def inbound(count, *, source=SERVER, begin=0, **fields):
    return [ssh(begin + 10 * number, number, orig=source, resp=HOST, **fields) for number in range(count)]


def names(count, domain="t.example.com"):
    return [dns(60 * number, f"x{number}.{domain}") for number in range(count)]


def missing(count):
    return [dns(60 * number, f"www.x{number}.com", nxdomain=True) for number in range(count)]


def upload(total):
    return [conn(300 * number, number, orig_bytes=total // 5) for number in range(5)]


def test_the_defaults_are_the_published_thresholds_each_with_its_source():
    assert {rule.name: (rule.threshold, rule.window_seconds) for rule in RULES} == PUBLISHED
    assert all(rule.source.startswith(("Zeek", "Slips", "RITA")) for rule in RULES)


@pytest.mark.parametrize(
    ("rule", "make", "threshold"),
    [
        ("host-scan", host_scan, 25),
        ("port-scan", port_scan, 15),
        ("ssh-hosts", ssh_to_hosts, 25),
        ("ssh-guessing", guesses, 30),
        ("ssh-inbound", lambda count: [QUIET, *inbound(count)], 30),
        ("ssh-break-in", lambda count: [*inbound(count, failed=True), ssh(900, 99, orig=SERVER, resp=HOST, failed=False)], 30),
        ("dns-subdomains", names, 100),
        ("dns-nxdomain", missing, 10),
        ("bytes-out", upload, 500_000_000),
    ],
)
def test_a_rule_raises_one_alert_from_its_threshold_on_and_none_below(rule, make, threshold):
    assert rules_of(run(make(threshold - 5), only=[rule])) == []
    (alert,) = run(make(threshold), only=[rule])
    assert (alert.rule, alert.host, alert.count, alert.threshold) == (rule, HOST, threshold, threshold)
    assert alert.uids
    assert alert.first.timestamp() == pytest.approx(START / SECOND)


def test_the_evidence_names_port_peers_uids_and_since_when():
    (alert,) = run(host_scan(30, begin=20), only=["host-scan"])
    assert alert.counted == "hosts that did not answer on port 445"
    assert alert.top == (("445", 30),)
    assert alert.examples == ("198.51.0.0", "198.51.0.1", "198.51.0.10", "198.51.0.11", "198.51.0.12")
    assert alert.uids == ("C0", "C1", "C2", "C3", "C4")
    assert alert.first.timestamp() == START / SECOND + 20
    assert (alert.window_end - alert.window_start).total_seconds() == 300
    assert alert.severity is Severity.HIGH


def test_a_scan_over_two_windows_of_a_rule_is_found():
    assert rules_of(run(host_scan(26, begin=80, span=140), only=["host-scan"])) == ["host-scan"]


@pytest.mark.parametrize(
    "records",
    [
        host_scan(24, span=200) + host_scan(24, span=200, begin=600),  # below the threshold in each window
        [conn(number, number, resp=f"198.51.100.{number}", failed=False) for number in range(60)],  # they answered
        [conn(number, number, resp=f"198.51.100.{number}") for number in range(60)],  # nobody knows
        [failed(number, number, resp=f"239.1.1.{number}", port=5_353) for number in range(60)],  # groups never answer
        [failed(number, number, orig=SERVER, resp="10.0.0.9", port=number) for number in range(60)],  # inbound
        [failed(number, number, resp="198.51.100.1") for number in range(60)],  # one host
        [dns(number, f"{number}.0.0.10.in-addr.arpa", nxdomain=True) for number in range(300)],
        [dns(number, f"printer{number}.local", nxdomain=True) for number in range(300)],
        [dns(number, f"random{number}", nxdomain=True) for number in range(300)],  # as browsers do at their start
        [dns(number, f"random{number}.lan", nxdomain=True) for number in range(300)],  # the same with the network's suffix
        [dns(number, f"www.x{number}.com.eu-west-1.compute.internal", nxdomain=True) for number in range(300)],
        [failed(number, number, port=33_434 + number, proto="udp") for number in range(60)],  # traceroute
        [failed(number, number, resp=f"198.51.100.{number}", port=161, proto="udp") for number in range(60)],  # polls
        [dns(number, f"{number}.zen.example.org", nxdomain=True) for number in range(90)],  # one domain
        [dns(900 * number, f"www.x{number}.com", nxdomain=True) for number in range(60)],  # four an hour
        [dns(number, f"x{number}.example.com", orig=SERVER, resp=HOST) for number in range(300)],  # asked from outside
        [dns(number, f"x{number}.example{number}.com") for number in range(300)],  # a name each
        [conn(number, number, orig=SERVER, resp=HOST, orig_bytes=10**9) for number in range(9)],  # received
        [conn(number, number, resp="10.0.0.9", orig_bytes=10**9) for number in range(9)],  # to an own host
        [conn(number, number, resp=f"198.51.100.{number}", orig_bytes=10**8) for number in range(60)],  # to many
        [conn(1_000 * number, number, orig_bytes=10**8) for number in range(60)],  # in many hours
        [conn(0, orig_bytes=6 * 10**8, duration=3 * 86_400 * SECOND)],  # a tunnel of three days
        [ssh(number, number, failed=False, resp=f"198.51.100.{number}") for number in range(200)],  # log-ins
        [ssh(number, number) for number in range(200)],  # to one host, and nobody knows
        [*inbound(29, failed=True), ssh(900, 99, orig=SERVER, resp=HOST, failed=False)],
        inbound(200, failed=True),  # nothing was watched before, so guessing may be ordinary
    ],
)
def test_what_is_ordinary_raises_nothing(records):
    assert rules_of(run(sorted(records, key=lambda record: record.logged_ns))) == []


def test_a_scan_inside_counts_for_the_host_that_scans():
    records = [failed(number, number, resp=f"10.0.1.{number}", port=445) for number in range(40)]
    assert {(alert.rule, alert.host) for alert in run(records)} == {("host-scan", HOST)}


def test_guessing_inside_is_found_whoever_is_exposed():
    records = [QUIET, *guesses(40, resp="10.0.1.1")]
    assert rules_of(run(records)) == ["ssh-guessing"]


def test_guessing_from_outside_is_noise_where_ssh_is_exposed():
    others = [
        session for number in range(3) for session in inbound(2, source=f"198.51.100.{number}", begin=-5_000 + 600 * number)
    ]
    assert rules_of(run([QUIET, *inbound(40)])) == ["ssh-inbound"]
    assert rules_of(run([QUIET, *others[:4], *inbound(40)])) == ["ssh-inbound"]
    assert rules_of(run([QUIET, *others, *inbound(40)])) == []


def test_a_log_in_after_guessing_is_found_even_where_guessing_is_noise():
    others = [session for number in range(9) for session in inbound(1, source=f"198.51.100.{number}", failed=True)]
    records = [QUIET, *others, *inbound(40, failed=True), ssh(500, 99, orig=SERVER, resp=HOST, failed=False)]
    (alert,) = run(sorted(records, key=lambda record: record.ts))
    assert (alert.rule, alert.severity, alert.count) == ("ssh-break-in", Severity.CRITICAL, 40)


def test_more_than_four_times_the_threshold_is_not_counted_and_the_alert_says_so():
    (alert,) = run(host_scan(300), only=["host-scan"])
    assert (alert.count, alert.is_capped) == (100, True)


def test_a_long_connection_counts_what_it_sent_in_an_hour_of_it():
    (alert,) = run([conn(0, orig_bytes=72 * 10**9, duration=72 * 3_600 * SECOND)], only=["bytes-out"])
    assert alert.count == 10**9


@pytest.mark.parametrize(
    ("proto", "kind", "port", "examples"),
    [("icmp", 8, 3, ["icmp"]), ("icmp", 3, 3, []), ("gre", 0, None, ["gre"]), ("tcp", 40_000, 3, ["3"])],
)
def test_of_icmp_what_a_request_sends_counts_and_no_code_is_a_port(proto, kind, port, examples):
    record = conn(0, port=port, proto=proto, orig_bytes=10**9)
    record.orig_p = kind
    alerts = run([record], only=["bytes-out"])
    assert [example for alert in alerts for example in alert.examples] == examples
    assert [alert.destination_port for alert in alerts] == [3 if proto == "tcp" else None] * len(examples)


@pytest.mark.parametrize(
    ("rule", "records", "ends"),
    [
        ("host-scan", host_scan(30), (HOST, None, 445)),
        ("host-scan", host_scan(30, port=22, orig="10.0.0.9"), ("10.0.0.9", None, 22)),
        ("port-scan", port_scan(30), (HOST, SERVER, None)),
        ("ssh-hosts", ssh_to_hosts(40), (HOST, None, None)),
        ("ssh-guessing", guesses(40), (HOST, SERVER, None)),
        ("ssh-inbound", [QUIET, *inbound(40)], (SERVER, HOST, None)),
        ("ssh-break-in", [*inbound(40, failed=True), ssh(900, 99, orig=SERVER, resp=HOST, failed=False)], (SERVER, HOST, None)),
        ("dns-subdomains", names(150), (HOST, None, None)),
        ("dns-nxdomain", missing(15), (HOST, None, None)),
        ("bytes-out", upload(10**9), (HOST, SERVER, 443)),
    ],
)
def test_an_alert_says_who_did_it_to_whom(rule, records, ends):
    (alert,) = run(records, only=[rule])
    assert (alert.source_ip, alert.destination_ip, alert.destination_port) == ends


def test_a_tunnel_counts_over_hours_and_hours_with_few_names_do_not():
    slow = [dns(3_600 * hour + 60 * number, f"h{hour}n{number}.t.example.com") for hour in range(20) for number in range(6)]
    (alert,) = run(slow, only=["dns-subdomains"])
    assert alert.count == 102  # the first hour at which the threshold is reached
    few = [dns(3_600 * hour + 60 * number, f"h{hour}n{number}.t.example.com") for hour in range(72) for number in range(2)]
    assert run(few, only=["dns-subdomains"]) == []


def test_thresholds_are_changed_and_the_alert_names_the_published_one():
    (alert,) = run(host_scan(9), thresholds={"host-scan": 8}, only=["host-scan"])
    assert (alert.threshold, alert.source) == (
        8,
        "set here; published are 25 in Zeek 6.0, policy/misc/scan.zeek, addr_scan_threshold",
    )
