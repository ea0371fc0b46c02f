"""The account of a watch in the log: each interval by itself, the whole run on request and at the end, doubts after it."""

import logging

import pytest

from mods_grpc.ids.health.account import Account
from mods_grpc.ids.health.doubts import Expectation
from mods_grpc.ids.watch.accounting import AccountLog, account_fields

SECOND = 10**9
NOW = 1_713_571_200 * SECOND  # 2024-04-20T00:00:00Z


class Run:
    """A watch whose account and clocks the test sets."""

    def __init__(self, **account):
        self.account = Account(judged=0, **account)
        self.seconds = 0.0

    def log(self):
        return AccountLog(
            lambda: self.account,
            lambda now_ns: Expectation(
                protocols=("conn",),
                needed=("conn",),
                window_seconds=3_600,
                slide_seconds=600,
                lateness_seconds=300,
                window_rows=12,
                now_ns=now_ns,
                is_live=True,
            ),
            3_600.0,
            clock=lambda: self.seconds,
            wall_clock=lambda: NOW + round(self.seconds * SECOND),
        )

    def read(self, records, **changed):
        self.account = Account(
            files_read=1,
            lines=records,
            records_by_protocol={"conn": records},
            newest_ns=NOW + round(self.seconds * SECOND),
            oldest_ns=NOW,
            judged=0,
            **{"added": records, **changed},
        )


@pytest.fixture
def events(caplog):
    """Return a function that returns the events logged since the last call."""
    caplog.set_level(logging.INFO)

    def take():
        records = list(caplog.records)
        caplog.clear()
        return records

    return take


def test_an_interval_is_accounted_for_by_itself_and_the_end_for_the_whole_run(events):
    run = Run()
    log = run.log()
    run.seconds = 3_599.0
    run.read(100)
    log.tick()
    assert events() == []
    run.seconds = 3_600.0
    log.tick()
    run.seconds = 7_200.0
    run.read(130)
    log.tick()
    first, second = events()
    assert [(each.message, each.records, each.records_conn) for each in (first, second)] == [
        ("account", 100, 100),
        ("account", 30, 30),
    ]
    assert (first.since, second.since) == ("2024-04-20T00:00:00Z", "2024-04-20T01:00:00Z")
    assert not log.finish()
    (last,) = events()
    assert (last.records, last.since, last.newest_age) == (130, "2024-04-20T00:00:00Z", "now")


def test_counters_that_a_checkpoint_restored_are_no_part_of_the_run(events):
    run = Run(added=5_000, late=900)
    log = run.log()
    run.read(100, added=5_100, late=900)
    assert not log.finish()
    (last,) = events()
    assert (last.records, hasattr(last, "late")) == (100, False)


def test_a_request_is_answered_once_with_the_whole_run(events):
    run = Run()
    log = run.log()
    run.read(100)
    log.request()
    log.tick()
    log.tick()
    assert [(event.message, event.records) for event in events()] == [("account", 100)]


def test_a_severe_doubt_is_an_error_and_makes_the_end_doubtful(events):
    run = Run()
    log = run.log()
    run.read(100, added=10, late=20, remote_by_protocol={"conn": 70})
    assert log.finish()
    account, *doubts = events()
    assert (account.late, account.remote) == (20, 70)
    assert [(doubt.message, doubt.levelname, doubt.code) for doubt in doubts] == [
        ("doubt", "WARNING", "late"),
        ("doubt", "ERROR", "remote"),
    ]


def test_a_quiet_hour_is_a_warning(events):
    run = Run()
    run.read(100)
    log = run.log()
    run.seconds = 3_600.0
    log.tick()
    _, doubt = events()
    assert (doubt.levelname, doubt.code) == ("WARNING", "nothing_read")
    assert "does the sensor run" in doubt.what


def test_windows_whose_alert_was_withheld_are_counted_since_the_last_account():
    before, after = Account(judged=9, withheld=2), Account(judged=12, withheld=7)
    change = after.since(before)
    assert (change.to_json()["withheld"], account_fields(change, 0)["withheld"]) == (5, 5)
    assert "withheld" not in account_fields(after.since(after), 0)
    assert "withheld" not in Account(withheld=2).to_json()  # where no model judges
