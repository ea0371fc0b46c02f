"""The records of a simulated site through a real watch: one alert for each scan over many hosts, and the total budget is kept."""

import pytest

from benchmarks.detection.total_budget.raw_records import print_worth
from benchmarks.detection.total_budget.site import Site
from benchmarks.detection.total_budget.site_model import publish_site_model
from benchmarks.detection.total_budget.watched_site import judge, watch
from mods_grpc.client import Client
from mods_grpc.ids.alerts.alert import Alert, Trigger
from tests.support.running_server import running_server

HOSTS, DAYS, TOTAL = 30, 2, 3.0
FEWEST = 8  # of the 12 hosts of a scan: the first alarms make the level of the last ones stricter


@pytest.fixture(scope="module")
def site():
    return Site(HOSTS, DAYS)


@pytest.fixture(scope="module")
def watched(site, tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    publish_site_model(repository, hosts=12)
    with running_server(repository=repository) as server, Client(server.address) as client:
        return watch(client, site.records(), total=TOTAL)


def test_the_records_of_a_site_are_in_order_of_time_and_always_the_same(site):
    records = list(site.records())
    assert [record.ts for record in records] == sorted(record.ts for record in records)
    assert records == list(Site(HOSTS, DAYS).records())
    assert records != list(Site(HOSTS, DAYS, seed=5).records())
    assert {event.title for event in site.happenings} == {
        "scan in one window",
        "scan over five windows",
        "scan by an own host",
        "worm",
    }


def test_a_scan_over_many_hosts_is_one_alert_and_what_is_false_stays_within_the_total(site, watched, capsys):
    written, counters = watched
    worth = judge(written, site, DAYS)
    by_title = {event.title: alerts for event, alerts in worth.by_event.items()}
    for title in ("scan in one window", "scan over five windows"):
        (alert,) = by_title[title]
        assert worth.members[alert.id] >= FEWEST, title
        assert alert.evidence.leading.column == "in_connections"
        assert alert.evidence.source_ip.startswith("185.220.101.")
    assert 1 <= len(by_title["worm"]) <= 3
    assert len(worth.false) <= 1.5 * TOTAL * worth.days
    assert counters.rolled_up >= 15
    print_worth(worth, counters, "small")
    assert "| scan in one window | 12 | 1 | 1 | 1 |" in capsys.readouterr().out


def test_alerts_that_join_are_reported_as_members(site, watched):
    (spread,) = (event for event in site.happenings if event.title == "scan over five windows")
    updates = [
        alert
        for alert in watched[0]
        if isinstance(alert, Alert) and alert.trigger is Trigger.MEMBERS and alert.window_end.timestamp() > spread.begin
    ]
    assert max(alert.member_count for alert in updates if alert.series in spread.hosts) >= FEWEST
