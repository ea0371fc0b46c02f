"""Episodes: what their alerts say, whatever the restarts, and none while it is suppressed."""

from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.client import ServedModel, Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.mutes.suppression import MaintenanceWindow, Suppression
from tests.support.alerts.sample_alerts import FEATURES

START = datetime(2026, 3, 2, tzinfo=UTC)
SLIDE = timedelta(minutes=10)
MODEL = ServedModel(name="campus", version=1, digest="0" * 64)
OPTIONS = {"sensor": "tap", "window_seconds": 3600, "slide_seconds": 600, "significance": 0.01}


def verdict(row, score, series="site"):
    anomalous = score >= 2
    return Verdict(
        series=series,
        observe_time=START + row * SLIDE,
        status=VerdictStatus.SCORED,
        p_value=10**-score,
        score=score,
        anomalous=anomalous,
        features=FEATURES if anomalous else (),
        reason=f"row {row}" if anomalous else "",
        model=MODEL,
    )


def alerts_of(scores, **options):
    episodes = Episodes(AlertOptions(**OPTIONS | options))
    return [alert for row, score in enumerate(scores) for alert in episodes.update(verdict(row, score))]


def test_an_episode_is_one_alert_until_six_windows_pass_without_an_anomaly():
    alerts = alerts_of([0, 3, 2, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 3])
    assert [(alert.phase, alert.window_start) for alert in alerts] == [("start", START + row * SLIDE) for row in (1, 9, 17)]
    assert alerts[0].episode_id == "20260302T001000Z"
    assert alerts[0].window_end - alerts[0].window_start == timedelta(hours=1)
    assert alerts[0].false_alarms_per_day == pytest.approx(1.44)
    assert alerts[0].features == FEATURES


def test_an_update_reports_a_higher_decade_and_an_end_the_peak():
    scores = [2, 2.9, 3.1, 3.5, 4.2, 2, 0, 0, 0, 0, 0, 0, 0]
    alerts = alerts_of(scores, ends=True)
    assert [(alert.phase, alert.number, alert.score) for alert in alerts] == [
        ("start", 0, 2),
        ("update", 1, 3.1),
        ("update", 2, 4.2),
        ("end", 2, 4.2),
    ]
    assert alerts[-1].reason == "at its peak row 4"
    assert alerts[-1].window_start == START + 12 * SLIDE
    assert [alert.parent_id for alert in alerts] == [None, *(alerts[0].id for _ in alerts[1:])]


def test_an_anomaly_after_the_hold_off_ends_the_episode_and_starts_another():
    alerts = alerts_of([3] + [0] * 6, ends=True)
    assert [alert.phase for alert in alerts] == ["start"]
    episodes = Episodes(AlertOptions(**OPTIONS, ends=True))
    alerts = [alert for row in (0, 7) for alert in episodes.update(verdict(row, 3))]
    assert [(alert.phase, alert.episode_id[9:13]) for alert in alerts] == [("start", "0000"), ("end", "0000"), ("start", "0110")]


def test_each_series_has_its_own_episodes():
    episodes = Episodes(AlertOptions(**OPTIONS))
    assert [alert.series for name in "abab" for alert in episodes.update(verdict(0, 3, name))] == ["a", "b"]


def test_an_episode_continues_from_its_saved_state():
    first = Episodes(AlertOptions(**OPTIONS, ends=True))
    whole = Episodes(AlertOptions(**OPTIONS, ends=True))
    scores = [2, 3.5, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
    expected, resumed = [], []
    for row, score in enumerate(scores):
        expected += whole.update(verdict(row, score))
        resumed += first.update(verdict(row, score))
        second = Episodes(first.options)
        second.restore(first.state())
        first = second
    assert resumed == expected
    assert [alert.phase for alert in resumed] == ["start", "update", "update", "end"]


def test_an_episode_raises_its_alert_when_it_reaches_the_minimum_severity():
    alerts = alerts_of([2.5, 3.5, 4.5, 5], suppression=Suppression(minimum_severity=Severity.HIGH), ends=True)
    assert [(alert.phase, alert.score, alert.severity) for alert in alerts] == [
        ("start", 4.5, Severity.HIGH),
        ("update", 5, Severity.CRITICAL),
    ]
    assert alerts[0].episode_start == START


def test_an_episode_that_outlasts_the_maintenance_window_raises_its_alert_after_it():
    window = MaintenanceWindow(name="backup", start=START, end=START + timedelta(minutes=30))
    alerts = alerts_of([3, 3, 3, 3, 3], suppression=Suppression(maintenance=(window,)))
    assert [alert.window_start for alert in alerts] == [START + 3 * SLIDE]
