"""The rules over time: order of records, restarts, episodes, suppression, and what they take."""

import json
import random
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features.locality import GroupBy
from mods_grpc.ids.alerts.alert import AlertPhase, Severity
from mods_grpc.ids.alerts.mutes.suppression import MaintenanceWindow, Suppression
from mods_grpc.ids.alerts.rule_alert import rule_alert_to_json
from mods_grpc.ids.rules.counter import MAX_HOSTS
from mods_grpc.ids.rules.rule import RULES
from tests.ids.rules.records import HOST, SECOND, START, conn, dns, host_scan, make_engine, port_scan, run, ssh

MINUTE = 60


def time_of(second):
    return datetime.fromtimestamp(START // SECOND + second, UTC)


def mixed_records():
    """Return an hour with something for most of the rules, in order of time."""
    records = [conn(-7_200), *host_scan(40, begin=900), *port_scan(30, begin=1_800), *host_scan(40, begin=3_000, orig="10.0.3.3")]
    records += [ssh(10 * number, number, orig="192.0.2.9", resp="10.0.4.4") for number in range(60)]
    records += [ssh(20 * number, number, resp=f"198.51.100.{number % 40}", failed=True) for number in range(80)]
    records += [dns(10 * number, f"x{number}.t.example.com") for number in range(200)]
    records += [dns(15 * number, f"www.y{number}.com", nxdomain=True) for number in range(50)]
    records += [conn(100 * number, number, orig_bytes=40_000_000, duration=90 * SECOND) for number in range(30)]
    return sorted(records, key=lambda record: (record.logged_ns, record.uid))


def as_json(alerts):
    return [rule_alert_to_json(alert) for alert in alerts]


@pytest.fixture(scope="module")
def undisturbed():
    alerts = run(mixed_records(), ends=True)
    found = {alert.rule for alert in alerts if alert.phase is AlertPhase.START}
    assert found == {rule.name for rule in RULES} - {"ssh-break-in"}
    return as_json(alerts)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_records_within_the_lateness_changes_nothing(undisturbed, seed):
    draw = random.Random(seed)
    shuffled = sorted(mixed_records(), key=lambda record: record.logged_ns + draw.uniform(0, 299) * SECOND)
    engine = make_engine(ends=True)
    assert as_json(run(shuffled, engine)) == undisturbed
    assert engine.counters.late == 0


def test_a_restart_after_any_record_loses_and_repeats_nothing(undisturbed):
    records = mixed_records()
    engine, alerts, latest = make_engine(ends=True), [], 0
    for number, record in enumerate(records):
        engine.add(record)
        latest = max(latest, record.logged_ns)
        engine.advance(latest - 300 * SECOND)
        if number % 7 == 0:  # killed here, with alerts that were not written
            state = json.loads(json.dumps(engine.state()))
            engine = make_engine(ends=True)
            engine.restore(state)
        if number % 11 == 0:
            alerts += engine.pending
            engine.pending.clear()
    engine.flush(latest)
    assert as_json(alerts + engine.pending) == undisturbed


def test_a_state_of_another_version_is_refused():
    engine = make_engine()
    with pytest.raises(DataError, match="version 9; expected 2"):
        engine.restore(engine.state() | {"version": 9})


def test_a_rule_that_is_switched_on_later_begins_anew_and_one_that_is_off_is_forgotten():
    old = make_engine(only=["host-scan"])
    for record in host_scan(40):
        old.add(record)
    old.advance(START + 400 * SECOND)
    assert len(old.pending) == old.open_episodes == 1
    new = make_engine(only=["port-scan"])
    new.restore(old.state())
    assert new.open_episodes == 0
    assert [alert.rule for alert in run(port_scan(40, begin=900), new)] == [
        "host-scan",
        "port-scan",
    ]  # the first was raised before


def test_an_episode_is_reported_once_while_it_goes_on_and_at_its_end():
    records = host_scan(400, span=3_600)
    assert [alert.phase for alert in run(records)] == [AlertPhase.START]
    start, end = run([*records, conn(7_200)], ends=True)
    assert (start.phase, end.phase, end.parent_id) == (AlertPhase.START, AlertPhase.END, start.id)
    assert end.window_end > start.window_end + timedelta(minutes=50)
    assert end.count >= start.count


def test_a_scan_that_comes_back_is_another_episode():
    first, second = run([*host_scan(40), *host_scan(40, begin=3_600)])
    assert first.id != second.id


def test_a_field_that_no_record_had_makes_its_rules_blind_also_after_a_restart():
    engine = make_engine()
    for number in range(30):
        engine.add(ssh(number, number))
        engine.add(dns(number, "a.example.com"))
    restored = make_engine()
    restored.restore(json.loads(json.dumps(engine.state())))
    restored.add(conn(40, failed=True, orig_bytes=1))
    assert restored.list_unset() == [
        ("ssh", "failed", 30, ("ssh-guessing", "ssh-break-in")),
        ("dns", "nxdomain", 30, ("dns-nxdomain",)),
    ]
    restored.add(dns(50, "b.example.com", nxdomain=False))
    assert [field for _, field, _, _ in restored.list_unset()] == ["failed"]


def test_late_records_are_counted_and_change_nothing():
    engine = make_engine(only=["host-scan"])
    alerts = run([conn(3_600), *host_scan(40)], engine)
    assert alerts == []
    assert engine.counters.late == 40


@pytest.mark.parametrize(
    ("suppression", "group_by"),
    [
        (Suppression(allow=(HOST,)), GroupBy.SITE),
        (Suppression(allow=("10.0.0.0/24",)), GroupBy.HOST),
        (Suppression(allow=("site",)), GroupBy.SITE),
        (Suppression(allow=("10.0.0.0/16",)), GroupBy.SUBNET),
        (Suppression(minimum_severity=Severity.CRITICAL), GroupBy.SITE),
        (Suppression(maintenance=(MaintenanceWindow(name="scan", start=time_of(0), end=time_of(3_600)),)), GroupBy.SITE),
    ],
)
def test_suppression_mutes_alerts_of_rules_and_counts_them(suppression, group_by):
    engine = make_engine(suppression=suppression, group_by=group_by)
    assert run(host_scan(400, span=900), engine) == []
    assert engine.suppressed == {"host-scan": 1}


def test_suppression_of_another_host_mutes_nothing():
    engine = make_engine(suppression=Suppression(allow=("10.0.0.6",)), group_by=GroupBy.HOST)
    assert len(run(host_scan(40), engine)) == 1


def test_an_episode_that_outlasts_planned_work_is_reported_when_it_is_over():
    work = MaintenanceWindow(name="scan", start=time_of(0), end=time_of(1_800))
    (alert,) = run(host_scan(600, span=3_600), suppression=Suppression(maintenance=(work,)))
    assert time_of(1_800) < alert.window_end <= time_of(2_100)
    assert alert.first >= time_of(1_800)
    assert alert.episode_start < time_of(1_800)


def test_without_networks_the_flags_of_the_log_say_which_hosts_are_own():
    records = host_scan(40, orig="203.0.113.99")
    for record in records:
        record.local_orig, record.local_resp = True, False
    assert [alert.host for alert in run(records, local_networks=())] == ["203.0.113.99"]


def test_of_more_hosts_than_a_rule_has_room_for_the_smallest_are_dropped_and_counted():
    """Spoofed sources that come before a scan do not hide it."""
    engine = make_engine(only=["host-scan"], local_networks=("10.0.0.0/8",))
    spoofed = MAX_HOSTS + 10
    for number in range(spoofed):
        engine.add(host_scan(1, orig=f"10.{1 + number // 65_536}.{number // 256 % 256}.{number % 256}")[0])
    assert [alert.host for alert in run(host_scan(60, span=100), engine)] == [HOST]
    assert engine.over_limit == {"host-scan": spoofed + 1 - MAX_HOSTS}


def test_a_host_that_scans_without_end_takes_no_more_memory():
    """Each of 5 hosts tries 2,000 ports of as many hosts in a window, four times."""
    engine = make_engine(local_networks=("10.0.0.0/8",))

    def scan(begin, hosts):
        for number in range(2_000):
            for host in range(hosts):
                (record,) = host_scan(1, begin=begin + number / 10, orig=f"10.1.1.{host}", port=number)
                record.resp_h, record.uid = f"100.64.{number // 250}.{number % 250}", f"C{number}h{host}"
                engine.add(record)
        engine.advance(START + (begin + 200 - 300) * SECOND)

    tracemalloc.start()
    try:
        scan(0, 5)
        first = tracemalloc.get_traced_memory()[0]
        for begin in (300, 600, 900):
            scan(begin, 5)
        later = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert later < 3 * first
    assert later / 5 < 400_000  # bytes per host, of all rules
