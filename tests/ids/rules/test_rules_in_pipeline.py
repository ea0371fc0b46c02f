"""Alerts of rules in the pipeline of a watch: saved before they are written, and written once, wherever it is killed."""

import json

import pytest

from mods_grpc.client import FeatureInfo
from mods_grpc.features import Aggregator, AggregatorOptions
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.mutes.suppression import MutedRule, Suppression
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.watch.accounting import account_fields, take_account
from mods_grpc.ids.watch.monitoring import collect_facts
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns
from tests.ids.rules.records import HOST, LOCAL, SECOND, START, conn, dns, host_scan, make_engine, run, ssh

FEATURE = FeatureInfo(
    name="conn_out", unit="", protocol="conn", column="out_count_uid", kind="count", training_minimum=0.0, training_maximum=9.0
)
RECORDS = [
    *host_scan(40),
    *host_scan(40, begin=900, orig="10.0.0.9"),
    *[dns(1_500, "a.example.com")] * 3,
    *[conn(3_000)] * 3,  # so that the watermark comes so far
]


class KilledError(Exception):
    """Where a process would have died."""


class Unreachable:
    """A server that judges nothing: the rules need none."""

    def open(self):
        return 0.01

    def score(self, windows):
        return []

    def close(self):
        """Do nothing."""

    def state(self):
        return {}

    def restore(self, state, last_panes=None):
        """Do nothing."""


class DyingSink(FileSink):
    """Dies before or after its n-th write."""

    def __init__(self, path, dies_at=None):
        super().__init__(path, FORMATS["jsonl"])
        self.dies_at = dies_at
        self.writes = 0

    def write(self, alert):
        if self.dies_at == (self.writes, "before"):
            raise KilledError
        super().write(alert)
        if self.dies_at == (self.writes, "after"):
            raise KilledError
        self.writes += 1


class Source:
    def __init__(self, records):
        self.records = records

    def poll(self):
        return iter(self.records)


class Watch:
    """What the command is made of, over records of which some were read before."""

    def __init__(self, path, records, dies_at=None, saved=None):
        self.rules = make_engine(ends=True)
        columns = WindowColumns([FEATURE])
        aggregator = Aggregator(columns.definition, AggregatorOptions(local_networks=LOCAL))
        self.feed = WindowFeed(Source(records), aggregator, columns, lateness_seconds=300, rules=self.rules)
        options = AlertOptions(sensor="tap", window_seconds=3_600, slide_seconds=600, significance=0.01)
        self.shown = []
        self.pipeline = WatchPipeline(
            Unreachable(),
            Episodes(options),
            DyingSink(path, dies_at),
            Blindness("tap", (), window_seconds=0.0),
            rules=self.rules,
            observe=lambda verdicts, alerts: self.shown.extend(alerts),
        )
        if saved is not None:
            state = json.loads(saved)
            self.feed.restore(state["feed"])
            self.pipeline.restore(state["watch"])

    def save(self):
        return json.dumps({"feed": self.feed.state(), "watch": self.pipeline.state()})

    def read(self):
        for batches in self.feed.poll():
            self.pipeline.feed(batches)


def written(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "alerts.jsonl"
    watch = Watch(path, RECORDS)
    watch.read()
    assert not path.exists(), "nothing is written before it was saved"
    assert watch.pipeline.has_work
    watch.pipeline.process()
    assert not watch.pipeline.has_work
    assert len(written(path)) == len(watch.shown) == 4
    return written(path)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(4))
def test_a_watch_killed_at_any_alert_of_a_rule_writes_each_once(expected, tmp_path, number, moment):
    path = tmp_path / "alerts.jsonl"
    first = Watch(path, RECORDS, dies_at=(number, moment))
    first.read()
    saved = first.save()
    with pytest.raises(KilledError):
        first.pipeline.process()
    second = Watch(path, [], saved=saved)
    with_marks = second.save()  # and killed again before anything was done
    third = Watch(path, [], saved=with_marks)
    assert third.pipeline.has_work
    third.pipeline.process()
    assert written(path) == expected


def test_a_rule_without_room_for_all_hosts_raises_a_notice_once_wherever_the_watch_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("mods_grpc.ids.rules.counter.MAX_HOSTS", 3)
    path = tmp_path / "alerts.jsonl"
    records = [record for number in range(9) for record in host_scan(5, orig=f"10.0.1.{number}")]
    watch = Watch(path, [*records, *[conn(3_000)] * 3])
    watch.read()
    for _ in range(2):  # killed before the notice was raised, and after it was written
        watch = Watch(path, [], saved=watch.save())
        watch.pipeline.check(START + 3_000 * SECOND, collect_facts(ReadCounters(), watch.feed, {}, {}))
        watch.pipeline.process()
    notices = [each for each in map(json.loads, path.read_text().splitlines()) if each["kind"] == "notice"]
    assert sorted((each["code"], each["subject"], each["state"]) for each in notices) == [
        ("rules_over_limit", "host-scan", "raised"),
        ("rules_over_limit", "port-scan", "raised"),
    ]
    assert "the fixed rule host-scan dropped own hosts 13 times" in notices[0]["message"]


def test_the_account_says_which_alerts_were_suppressed_or_held_back(tmp_path):
    watch = Watch(tmp_path / "alerts.jsonl", [])
    muted = Suppression(muted_rules=(MutedRule(name="host-scan", groups=("445",)),))
    watch.rules = make_engine(suppression=muted)
    run([*host_scan(40), *(ssh(n, n, orig="203.0.113.9", resp=HOST) for n in range(40))], watch.rules)
    watch.pipeline.counters.suppressed = 2
    account = take_account(ReadCounters(), watch.feed, watch.pipeline.counters, files_read=1, rules=watch.rules)
    expected = {"rules_suppressed": {"host-scan": 1}, "rules_learning": {"ssh-inbound": 1}, "rules_exposed": {}, "suppressed": 2}
    assert {name: account.to_json()[name] for name in expected} == expected
    fields = account_fields(account, 0)
    assert (fields["rule_host_scan_suppressed"], fields["rule_ssh_inbound_learning"], fields["suppressed"]) == (1, 1, 2)
    assert account.since(account).to_json()["rules_suppressed"] == {}
    assert account.since(account).suppressed == 0


def test_the_account_and_the_metrics_count_what_only_rules_read(tmp_path):
    watch = Watch(tmp_path / "alerts.jsonl", RECORDS)
    watch.read()
    account = take_account(
        ReadCounters(records_by_protocol={"conn": 83, "dns": 3}),
        watch.feed,
        watch.pipeline.counters,
        files_read=2,
        rules=watch.rules,
    )
    assert (account.added, account.rules_only, account.rules_late) == (83, 3, 0)
    assert account.rule_alerts == {"host-scan": 2}
    assert account.records == account.added + account.rules_only
    assert account.to_json()["rule_alerts"] == {"host-scan": 2}
    assert account.since(account).rule_alerts == {}
    assert watch.rules.open_episodes == 0
    assert HOST in {alert.host for alert in watch.rules.pending}
