"""What a host does to one peer, port or domain does not hide what it does to another."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.mutes.mute_rules import EntityPattern, MuteRule
from mods_grpc.ids.alerts.mutes.suppression import MaintenanceWindow, MutedRule, Suppression
from mods_grpc.ids.evidence.evidence import Dimension
from mods_grpc.ids.rules.episodes import MAX_OPEN
from tests.ids.rules.records import HOST, SECOND, START, conn, dns, host_scan, make_engine, run, ssh

HOUR = 3_600
X, Y = "203.0.113.7", "203.0.113.8"


def time_of(second):
    return datetime.fromtimestamp(START // SECOND + second, UTC)


def lookups(domain, *, begin=0, count=300, step=120):
    return [dns(begin + step * number, f"x{number}.{domain}") for number in range(count)]


def in_order(*parts):
    return sorted((record for part in parts for record in part), key=lambda record: record.logged_ns)


def break_in(source, begin, count=40):
    guesses = [ssh(begin + 10 * number, number, orig=source, resp=HOST, failed=True) for number in range(count)]
    return [*guesses, ssh(begin + 10 * count, 99, orig=source, resp=HOST, failed=False)]


@pytest.mark.parametrize(
    ("rule", "noise", "attack", "groups"),
    [
        ("dns-subdomains", lookups("avts.mcafee.com"), lookups("t.evil.com", begin=6 * HOUR), ("mcafee.com", "evil.com")),
        (
            "bytes-out",
            [conn(600 * number, number, resp=X, orig_bytes=2 * 10**8) for number in range(60)],
            [conn(4 * HOUR + 60 * number, number, resp=Y, orig_bytes=5 * 10**8) for number in range(9)],
            (X, Y),
        ),
        ("ssh-break-in", break_in(X, 0), break_in(Y, 600), (X, Y)),
        ("host-scan", host_scan(900, span=HOUR), host_scan(40, begin=1_800, port=22), ("445", "22")),
    ],
)
def test_a_group_that_crosses_while_another_is_above_raises_an_alert_of_its_own(rule, noise, attack, groups):
    alerts = run(in_order(noise, attack), only=[rule], ends=True)
    starts = [alert for alert in alerts if alert.phase is AlertPhase.START]
    assert [alert.group for alert in starts] == list(groups)
    assert len({alert.id for alert in alerts}) == len(alerts)
    ends = {alert.parent_id for alert in alerts if alert.phase is AlertPhase.END}
    assert ends <= {alert.id for alert in starts}


def test_many_groups_at_once_are_named_five_an_alert_and_none_is_left_out():
    records = in_order(*(lookups(f"evil{number}.com", step=20) for number in range(12)))
    alerts = run([*records, dns(6 * HOUR, "www.example.org")], only=["dns-subdomains"])
    assert [len(alert.top) for alert in alerts] == [5, 5, 2]
    assert {name for alert in alerts for name, _ in alert.top} == {f"evil{number}.com" for number in range(12)}


def test_a_scan_of_hosts_and_ports_is_one_alert():
    records = in_order(*(host_scan(30, port=port) for port in range(40)))
    (alert,) = run(records, only=["host-scan"])
    assert alert.group == "0"


def test_episodes_of_one_host_are_limited_and_what_joins_the_last_is_counted():
    engine = make_engine(only=["host-scan"])
    alerts = run(in_order(*(host_scan(30 * (30 - n), begin=300 * n, span=300 * (30 - n), port=n) for n in range(30))), engine)
    assert len(alerts) == MAX_OPEN
    assert engine.joined == 30 - MAX_OPEN


def test_open_groups_survive_a_restart():
    engine = make_engine(only=["bytes-out"])
    alerts = run([conn(600 * number, number, resp=X, orig_bytes=2 * 10**8) for number in range(12)], engine)
    restored = make_engine(only=["bytes-out"])
    restored.restore(json.loads(json.dumps(engine.state())))
    assert restored.pending == alerts
    more = in_order(*([conn(7_200 + 600 * n, n, resp=resp, orig_bytes=2 * 10**8) for n in range(6)] for resp in (X, Y)))
    assert [alert.group for alert in run(more, restored)] == [X, Y]


def daily(begin, end):
    work = MaintenanceWindow(name="backup", start=time_of(begin), end=time_of(end), repeat=timedelta(days=1))
    return Suppression(maintenance=(work,))


@pytest.mark.parametrize(("begin", "end"), [(1 * HOUR, 2 * HOUR), (1.5 * HOUR, 2.5 * HOUR), (23 * HOUR, 25 * HOUR)])
def test_daily_work_does_not_switch_off_a_rule_that_counts_over_a_day(begin, end):
    tunnel = lookups("t.evil.com", count=1_440, step=60)
    (alert,) = run(tunnel, only=["dns-subdomains"], suppression=daily(begin, end))
    assert alert.group == "evil.com"


def test_what_is_done_in_planned_work_does_not_count_after_it():
    backup = [conn(600 * number, number, orig_bytes=10**8) for number in range(6)]  # 600 MB in the planned hour
    later = [conn(HOUR + 300 * number, number, orig_bytes=10**6) for number in range(20)]
    engine = make_engine(only=["bytes-out"], suppression=daily(0, HOUR))
    assert run(in_order(backup, later), engine) == []
    assert engine.suppressed == {"bytes-out": 1}
    upload = [conn(HOUR + 60 * number, number, orig_bytes=10**8) for number in range(7)]
    (alert,) = run(in_order(backup, upload), only=["bytes-out"], suppression=daily(0, HOUR))
    assert alert.count == 7 * 10**8


def test_a_rule_is_muted_for_some_domains_and_hosts_alone():
    muted = Suppression(muted_rules=(MutedRule(name="dns-subdomains", hosts=("10.0.0.0/24",), groups=("mcafee.com", "*.corp")),))
    records = in_order(lookups("avts.mcafee.com"), lookups("t.evil.com"), host_scan(40))
    assert [alert.rule for alert in run(records, suppression=muted)] == ["host-scan", "dns-subdomains"]
    (alert,) = run(records, only=["dns-subdomains"], suppression=muted)
    assert alert.group == "evil.com"
    other = [dns(120 * number, f"x{number}.mcafee.com", orig="10.0.1.9") for number in range(300)]
    assert [alert.host for alert in run(other, suppression=muted)] == ["10.0.1.9"]


def test_alerts_of_a_muted_rule_are_counted_once_while_they_go_on_also_over_restarts():
    muted = Suppression(muted_rules=(MutedRule(name="dns-subdomains", groups=("evil*.com",)),))
    records = in_order(*(lookups(f"evil{number}.com", step=20) for number in range(12)), lookups("t.example.org", step=20))
    engine, latest = make_engine(suppression=muted), 0
    suppressed = 0
    for number, record in enumerate(
        [*records, dns(60 * HOUR, "www.example.net"), *lookups("evil3.com", begin=61 * HOUR, step=20)]
    ):
        engine.add(record)
        latest = max(latest, record.logged_ns)
        engine.advance(latest - 300 * SECOND)
        if number % 1_000 == 0:
            suppressed += engine.suppressed.get("dns-subdomains", 0)
            state = json.loads(json.dumps(engine.state()))
            engine = make_engine(suppression=muted)
            engine.restore(state)
    engine.flush(latest)
    assert [alert.group for alert in engine.pending] == ["example.org"]
    assert suppressed + engine.suppressed["dns-subdomains"] == 3 + 1  # of five domains an alert, and the one that came again
    other = make_engine(only=["host-scan"])
    other.restore(engine.state())
    assert other.state()["held_back"] == []


def test_a_rule_is_muted_for_a_network_of_peers():
    muted = Suppression(muted_rules=(MutedRule(name="bytes-out", groups=("203.0.113.0/24",)),))
    records = in_order(*([conn(600 * n, n, resp=resp, orig_bytes=2 * 10**8) for n in range(6)] for resp in (X, "198.51.100.9")))
    assert [alert.group for alert in run(records, suppression=muted)] == ["198.51.100.9"]


def test_a_mute_rule_of_one_peer_leaves_the_others_and_counts_what_it_muted():
    peers = [
        conn(600 * number + offset, number, resp=peer, orig_bytes=2 * 10**8)
        for number in range(60)
        for offset, peer in enumerate((X, Y))
    ]
    mute = MuteRule(id="backup", entities=((EntityPattern(X, (Dimension.DESTINATION,)),),), rules=("bytes-out",))
    suppression = Suppression(mutes=(mute,))
    engine = make_engine(only=["bytes-out"], suppression=suppression)
    assert {alert.group for alert in run(peers, engine)} == {Y}
    assert engine.suppressed == {"bytes-out": 1}
    assert suppression.list_hits() == {"mute backup": 1}


def test_all_that_suppression_mutes_of_fixed_rules_is_counted_by_what_mutes_it():
    allowed, work = Suppression(allow=(HOST,)), daily(0, HOUR)
    backup = [conn(600 * number, number, orig_bytes=10**8) for number in range(6)]
    run(host_scan(40), suppression=allowed)
    run(backup, only=["bytes-out"], suppression=work)
    muted = Suppression(muted_rules=(MutedRule(name="host-scan", groups=("445",)),))
    run(host_scan(40), suppression=muted)
    assert [each.list_hits() for each in (allowed, work, muted)] == [{"allow": 1}, {"planned backup": 1}, {"rule host-scan": 1}]


def test_rules_of_suppression_are_replaced_while_the_engine_runs():
    engine = make_engine(suppression=Suppression(allow=(HOST,)))
    run(host_scan(40), engine)
    engine.set_suppression(Suppression())
    assert [alert.rule for alert in run(host_scan(40, begin=4 * HOUR), engine)] == ["host-scan"]
