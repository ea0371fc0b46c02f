"""What analysts say while a watch runs: confirmed alerts don't make it stricter, changed rules are read, damaged ones are not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.alarm_rules.adaptation import MAX_FACTOR, START_MULTIPLIER, Adaptation
from mods_grpc.alarm_rules.extent import make_extent_rule
from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.ids.alerts.feedback import Feedback, FeedbackVerdict, record_feedback
from mods_grpc.ids.alerts.mutes.suppression_file import read_suppression
from mods_grpc.ids.watch.accounting import feedback_fields
from mods_grpc.ids.watch.review import SETTLING_SECONDS, FeedbackTracker, RulesFile
from mods_grpc.ids.watch.scoring.alarm_levels import AlarmLevels
from tests.support.alerts.sample_alerts import ALERT, END, UPDATE

NOW = datetime(2019, 5, 4, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def make_levels(windows):
    levels = AlarmLevels(Adaptation(0.01), make_extent_rule(3600, 600, 86_400))
    levels.significance = 0.01
    for row, p_value in enumerate(windows):
        when = NOW + row * timedelta(minutes=10)
        verdict = Verdict(series="site", observe_time=when, status=VerdictStatus.SCORED, p_value=p_value, score=1.0)
        levels.update(levels.decide(verdict))
    return levels


def test_a_level_after_a_confirmed_alert_is_that_of_a_series_without_it():
    calm, disturbed = make_levels([0.5] * 20), make_levels([0.5] * 20 + [1e-6])
    assert disturbed.state()["factors"]["site"] < calm.state()["factors"]["site"]
    disturbed.forgive("site")
    disturbed.forgive("unknown")
    assert disturbed.state()["factors"] == pytest.approx(calm.state()["factors"])
    for _ in range(50):
        disturbed.forgive("site")
    assert disturbed.state()["factors"] == {"site": MAX_FACTOR}
    assert START_MULTIPLIER < 1


def test_a_tracker_takes_up_feedback_and_counts_each_episode_once(tmp_path, caplog):
    caplog.set_level("INFO")
    forgiven = []
    tracker = FeedbackTracker(tmp_path, forgiven.append, lambda: 2.0)
    tracker.count(
        round(ALERT.window_start.timestamp()) * 10**9,
        [ALERT, UPDATE, END, replace(ALERT, series="lab"), replace(ALERT, series="hall")],
    )
    tracker.poll()
    said = {"time": NOW, "alert_time": ALERT.window_end}
    record_feedback(tmp_path, Feedback(id=ALERT.id, verdict=FeedbackVerdict.CONFIRMED, series="site", **said))
    record_feedback(tmp_path, Feedback(id="x", verdict=FeedbackVerdict.FALSE_ALARM, series="lab", user="eve", **said))
    record_feedback(tmp_path, Feedback(id="y", verdict=FeedbackVerdict.CONFIRMED, time=NOW, rule="host-scan"))
    tracker.poll()
    tracker.poll()
    assert forgiven == ["site"]
    assert [record.verdict for record in caplog.records if record.message == "feedback"] == [
        "confirmed",
        "false_alarm",
        "confirmed",
    ]
    assert feedback_fields(tracker.summarise()) == {
        "false_alarms": 1,
        "confirmed": 1,
        "unmarked": 1,
        "false_alarms_per_day": 1.0,
        "false_alarms_per_day_at_most": 2.0,
        "false_alarm_budget": 2.0,
    }
    restored = FeedbackTracker(tmp_path, forgiven.append, lambda: 2.0)
    restored.restore(tracker.state())
    restored.poll()
    assert restored.summarise() == tracker.summarise()
    assert forgiven == ["site"]


def test_before_the_first_alert_the_account_says_nothing_of_false_alarms():
    assert feedback_fields(None) == {}
    assert feedback_fields(FeedbackTracker(None, lambda _: None, lambda: 2.0).summarise()) == {}


@pytest.fixture
def watched(tmp_path):
    path, clock, applied = tmp_path / "rules.toml", Clock(), []
    path.write_text('allow = ["a"]\n')
    return path, clock, applied, RulesFile(path, lambda: read_suppression(path), applied.append, clock=clock)


def test_changed_rules_are_read_when_they_stay_as_they_are(watched, caplog):
    caplog.set_level("INFO")
    path, clock, applied, rules = watched
    rules.poll()
    path.write_text("")  # an editor begins
    rules.poll()
    clock.now += SETTLING_SECONDS / 2
    path.write_text('allow = ["b", "c"]\n')
    rules.poll()
    clock.now += SETTLING_SECONDS / 2
    rules.poll()
    assert applied == []
    clock.now += SETTLING_SECONDS
    rules.poll()
    rules.poll()
    assert [each.allow for each in applied] == [("b", "c")]
    assert [record.message for record in caplog.records] == ["suppression_read"]


def test_the_old_rules_stay_while_the_file_is_wrong_or_gone(watched, caplog):
    path, clock, applied, rules = watched

    def poll():
        rules.poll()
        clock.now += SETTLING_SECONDS
        rules.poll()
        rules.poll()

    path.write_text("[[mute]]\nseries = 3\n")
    poll()
    path.unlink()
    poll()
    assert [record.message for record in caplog.records] == ["suppression_unreadable"] * 2
    assert f"{path}:2: mute.series: expected a list" in caplog.records[0].error
    assert "No such file" in caplog.records[1].error
    assert applied == []
    path.write_text('allow = ["d"]\n')
    poll()
    assert [each.allow for each in applied] == [("d",)]
