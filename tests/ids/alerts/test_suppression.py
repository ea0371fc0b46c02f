"""Alert suppression: maintenance windows that repeat, and the file of rules."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.mutes.suppression import MaintenanceWindow, Suppression
from mods_grpc.ids.alerts.mutes.suppression_file import read_suppression
from tests.support.alerts.sample_alerts import ALERT

START = datetime(2026, 3, 2, tzinfo=UTC)
SLIDE = timedelta(minutes=10)
SCORES = {Severity.LOW: 2.2, Severity.HIGH: 4.2, Severity.CRITICAL: 9.0}


def alert(series, start, end, severity):
    return replace(ALERT, series=series, window_start=start, window_end=end, peak_score=SCORES[severity])


@pytest.mark.parametrize(
    ("day", "hour", "covered"),
    [(0, 1, True), (0, 0, False), (0, 3, False), (7, 2, True), (7, 4, False), (3, 2, False), (70, 1, True), (-7, 2, False)],
)
def test_a_weekly_maintenance_window_covers_every_window_it_overlaps(day, hour, covered):
    window = MaintenanceWindow(
        name="backup",
        start=START + timedelta(hours=1),
        end=START + timedelta(hours=3),
        repeat=timedelta(days=7),
        series=("10.*",),
    )
    begin = START + timedelta(days=day, hours=hour)
    rules = Suppression(maintenance=(window,))
    name = rules.find_mute(alert("10.0.0.1", begin, begin + timedelta(hours=1), Severity.LOW))
    assert name == ("planned backup" if covered else None)
    assert rules.find_mute(alert("192.168.0.1", begin, begin + timedelta(hours=1), Severity.LOW)) is None
    assert rules.list_hits() == {"planned backup": int(covered)}


def test_a_window_that_ends_as_a_repetition_begins_overlaps_the_one_before():
    begin = START + timedelta(hours=1)
    window = MaintenanceWindow(name="backup", start=begin, end=begin + timedelta(hours=1), repeat=timedelta(days=1))
    assert window.covers(begin + timedelta(days=2), begin + timedelta(days=3))
    assert not window.covers(begin + timedelta(days=2, hours=1), begin + timedelta(days=3))


def test_the_rules_are_read_from_a_file(tmp_path):
    path = tmp_path / "suppress.toml"
    path.write_text(
        'minimum_severity = "medium"\nallow = ["lab-*"]\n'
        '[[planned]]\nname = "backup"\nstart = 2026-03-01T01:00:00Z\nend = 2026-03-01T03:30:00+01:00\nrepeat = "daily"\n'
    )
    rules = read_suppression(path)
    assert rules.minimum_severity is Severity.MEDIUM
    hour = timedelta(hours=1)
    assert rules.find_mute(alert("lab-7", START, START + SLIDE, Severity.CRITICAL)) == "allow"
    assert rules.find_mute(alert("site", START + 2 * hour, START + 3 * hour, Severity.HIGH)) == "planned backup"
    assert rules.find_mute(alert("site", START + 4 * hour, START + 5 * hour, Severity.HIGH)) is None
    assert rules.find_mute(alert("site", START + 4 * hour, START + 5 * hour, Severity.LOW)) == "minimum_severity"
    assert rules.list_hits() == {"minimum_severity": 1, "allow": 1, "planned backup": 1}


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("planned = 3", "planned: expected tables that begin with"),
        ("[[planned]]\nstart = 2026-03-01T01:00:00Z", "the key end is missing"),
        ("[[planned]]\nstart = 2026-03-01T01:00:00Z\nend = 2026-03-01T00:00:00Z", "start before end"),
        ('[[planned]]\nstart = "now"\nend = 2026-03-01T00:00:00Z', "expected a date and time"),
        ("alow = []", "unknown key alow"),
        ("allow = 'x'", "expected a list"),
        ("allow = ['']", "expected a list"),
        ("planned = [3]", "planned: expected tables that begin with"),
        ("minimum_severity = []", "expected a severity of low"),
        ("[[planned]]\nstart = 2026-03-01T01:00:00Z\nend = 2026-03-01T02:00:00Z\nrepeat = []", "expected daily or weekly"),
        ('[[rule]]\nhosts = ["10.0.0.1"]', "expected the name of a fixed rule, found None"),
        ('[[rule]]\nname = "bytes-out"\ngroups = "x"', "rule.groups: expected a list"),
        ('rule = "bytes-out"', r"expected tables that begin with \[\[rule\]\]"),
        ("minimum_severity = 'dire'", "expected a severity of low, medium, high, critical"),
        ("=", "Invalid"),
    ],
)
def test_a_file_with_invalid_rules_is_rejected(tmp_path, rules, complaint):
    path = tmp_path / "suppress.toml"
    path.write_text(rules)
    with pytest.raises(DataError, match=complaint):
        read_suppression(path)


def test_fixed_rules_are_muted_by_name_host_and_group(tmp_path):
    path = tmp_path / "suppress.toml"
    path.write_text('[[rule]]\nname = "bytes-out"\n\n[[rule]]\nname = "host-scan"\nhosts = ["10.1.0.0/16"]\ngroups = ["80*"]\n')
    everywhere, somewhere = read_suppression(path).muted_rules
    assert everywhere.covers("bytes-out", ["10.0.0.1"], "203.0.113.9")
    assert not everywhere.covers("host-scan", ["10.0.0.1"], "80")
    assert somewhere.covers("host-scan", ["10.1.2.3"], "8080")
    assert not somewhere.covers("host-scan", ["10.1.2.3", "10.2.0.1"], "8080")
    assert not somewhere.covers("host-scan", ["10.1.2.3"], "443")
    assert read_suppression(path).patterns == ("*", "10.1.0.0/16")
