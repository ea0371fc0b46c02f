"""A series whose level changed for good is judged relative to it, by a real server and over restarts, and never in silence."""

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from mods_grpc.client import Client
from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.notice import Notice
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import WatchedFeature
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import WindowBatch
from tests.support.models.rhythm import DAY_ROWS, START_NS, make_counts, publish_rhythm
from tests.support.models.tiny import FEATURES, SLIDE
from tests.support.running_server import running_server

CHANGE = 4 * DAY_ROWS + 30


@dataclass
class MemorySink:
    """Holds what is written."""

    written: list[Alert | Notice] = field(default_factory=list)

    def write(self, alert):
        self.written.append(alert)

    def mark(self):
        return None

    def recover(self, mark):
        """Do nothing."""


class Watch:
    """A watch of some series on a server, from a state on."""

    def __init__(self, client, *, names=("site",), state=None, namespace="watch", **options):
        model = client.model()
        scoring = ScoringOptions(**{"model": "tiny", "namespace": namespace, "false_alarms_per_day": 0.2} | options)
        self.scorer = ScoringClient(client, model, scoring)
        self.sink, self.names = MemorySink(), names
        features = [WatchedFeature(name=name, protocol="conn", training_minimum=0.0, training_maximum=9e9) for name in FEATURES]
        blindness = Blindness("tap", features, window_seconds=3600, max_step_seconds=None)
        blindness.watch_levels(self.scorer.list_changed_levels)
        episodes = Episodes(
            AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=1.0, false_alarms_per_day=0.2),
            recent=self.scorer.recent_values,
        )
        self.pipeline = WatchPipeline(self.scorer, episodes, self.sink, blindness, log_notices=False)
        if state is not None:
            self.pipeline.restore(json.loads(json.dumps(state)))
        self.pipeline.open()

    def run(self, values, first=0, count=None):
        """Judge windows `(n, series, features)` from `first` on."""
        for row in range(first, len(values) if count is None else min(first + count, len(values))):
            start = START_NS + row * SLIDE * 10**9
            self.pipeline.feed([WindowBatch(start_ns=start, series=self.names, values=values[row])])
            self.pipeline.process()
            self.pipeline.check(start, None)
            self.pipeline.process()
        return self.sink.written

    def state(self):
        return json.loads(json.dumps(self.pipeline.state()))


def rows_of(alert):
    return round((alert.window_start.timestamp() - START_NS / 1e9) / SLIDE)


def described(written, first=0):
    """Return alerts as (row, phase), and notices of levels as (code, state)."""
    notices = [
        (str(each.code), str(each.state)) for each in written if isinstance(each, Notice) and each.code.value.find("fit") < 0
    ]
    alerts = [(rows_of(each), str(each.phase)) for each in written if isinstance(each, Alert) and rows_of(each) >= first]
    return alerts, notices


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    publish_rhythm(path)
    return path


@pytest.fixture(scope="module")
def client(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        yield client


def shifted(days, seed=7):
    values = make_counts(days * DAY_ROWS, seed)
    values[CHANGE:] = values[CHANGE:] * [3.0, 1.0] + [0.0, 20_000.0]
    return values[:, None]


@pytest.mark.parametrize("own_envelope", [False, True])
def test_a_second_event_on_a_new_level_is_raised_as_on_the_old_one(client, own_envelope):
    values, event = shifted(7), 6 * DAY_ROWS + 50
    values[event : event + 6, 0, 0] *= 4
    written = Watch(client, namespace=f"event {own_envelope}", own_envelope=own_envelope).run(values)
    alerts, notices = described(written, CHANGE)
    assert alerts[0] == (CHANGE, "start")
    closed = alerts.index((CHANGE + DAY_ROWS - 1, "end"))
    assert all(row < CHANGE + DAY_ROWS for row, _ in alerts[:closed])
    assert (event, "start") in alerts[closed:]
    assert len([row for row, phase in alerts[closed:] if phase == "start" and row < event]) <= 2
    assert notices == [("level_changed", "raised")]
    notice = next(each for each in written if isinstance(each, Notice) and each.code.value == "level_changed")
    assert "conn_in 3." in notice.message or "conn_in 2.9" in notice.message
    assert re.search(r"bytes_in .*(19|20|21),\d{3}", notice.message)
    second = next(each for each in written if isinstance(each, Alert) and rows_of(each) == event)
    leading = max(second.features, key=lambda each: each.share)
    assert leading.feature == "conn_in"
    assert leading.observed == pytest.approx(values[event, 0, 0])
    assert 400 < leading.lower < leading.expected < leading.upper < 2_000
    assert second.reason.startswith(f"conn_in {values[event, 0, 0]:,.0f}")
    assert second.recent[-1] == values[event, 0, 0]
    assert second.recent == tuple(values[event - len(second.recent) + 1 : event + 1, 0, 0])
    if own_envelope:
        assert "usual peak" in second.reason or "forecast" in second.reason


def test_a_level_that_comes_back_is_judged_as_before(client):
    values = shifted(8)
    back = CHANGE + 2 * DAY_ROWS
    values[back:, 0] = make_counts(8 * DAY_ROWS, 7)[back:]
    event = 7 * DAY_ROWS + 100
    values[event : event + 6, 0] *= 4
    watch = Watch(client, namespace="back")
    alerts, notices = described(watch.run(values), CHANGE)
    assert {(CHANGE, "start"), (back, "start"), (event, "start")} <= set(alerts)
    assert [row for row, phase in alerts if phase == "end"] == [CHANGE + DAY_ROWS - 1, back + DAY_ROWS - 1]
    assert notices == [("level_changed", "raised"), ("level_changed", "cleared")]
    assert watch.scorer.list_changed_levels() == []


def test_a_series_that_a_foreign_model_judges_is_said_not_to_be_judged_until_it_fits(client):
    values = make_counts(6 * DAY_ROWS, 7)[:, None]
    values[: 3 * DAY_ROWS] = values[: 3 * DAY_ROWS] * 50 * np.random.default_rng(5).lognormal(0, 1.0, (3 * DAY_ROWS, 1, 2))
    watch = Watch(client, namespace="foreign")
    written = watch.run(values, count=3 * DAY_ROWS)
    alerts, notices = described(written)
    days = [alerts[index][0] - alerts[0][0] for index in range(len(alerts)) if alerts[index][1] == "end"]
    assert days == [DAY_ROWS - 1, 2 * DAY_ROWS - 1]
    assert {(alerts[0][0] + day * DAY_ROWS, "start") for day in range(3)} <= set(alerts)
    assert notices == [("series_not_judged", "raised")]
    notice = next(each for each in written if isinstance(each, Notice) and each.code.value == "series_not_judged")
    assert (notice.severity.name, notice.subject) == ("HIGH", "site")
    watch.run(values, 3 * DAY_ROWS)
    assert described(watch.sink.written)[1] == [("series_not_judged", "raised"), ("series_not_judged", "cleared")]


@pytest.fixture(scope="module")
def two_series():
    """One whose level changes, with an event on the new level, and one whose level stays."""
    values = np.concatenate([shifted(6), make_counts(6 * DAY_ROWS, 8)[:, None]], axis=1)
    event = 5 * DAY_ROWS + 100
    values[event : event + 6, 0] *= 4
    return ("site", "lab"), values, event


@pytest.fixture(scope="module")
def without_restarts(client, two_series):
    names, values, event = two_series
    written = Watch(client, names=names, namespace="expected", own_envelope=True).run(values)
    assert {str(each.code) for each in written if isinstance(each, Notice)} >= {"level_changed"}
    assert (event, "start") in described(written)[0]
    return written


@pytest.mark.parametrize("restarts", ["watch", "both"])
def test_corrections_do_not_depend_on_restarts(repository, client, two_series, without_restarts, restarts):
    names, values, event = two_series
    change = CHANGE + DAY_ROWS - 1  # the row after which the series is corrected
    stops = [0, CHANGE + 3, change, change + 1, change + 2, change + 5, change + 40, event + 2, len(values)]
    actual, state = [], None
    if restarts == "watch":
        for first, end in pairwise(stops):
            watch = Watch(client, names=names, state=state, namespace="restarts", own_envelope=True)
            actual += watch.run(values, first, end - first)
            state = watch.state()
    else:
        for first, end in pairwise(stops):
            with running_server(repository=repository) as server, Client(server.address) as other:
                watch = Watch(other, names=names, state=state, own_envelope=True)
                actual += watch.run(values, first, end - first)
                state = watch.state()
    assert actual == without_restarts


def test_windows_that_are_judged_again_after_a_crash_get_the_same_alerts(client):
    values = shifted(6)
    change = CHANGE + DAY_ROWS - 1
    values[change + 20 : change + 26, 0] *= 4
    expected = Watch(client, namespace="whole").run(values)
    watch = Watch(client, namespace="crash")
    before = list(watch.run(values, 0, change - 2))
    state = watch.state()
    watch.run(values, change - 2, 30)  # the server has these windows, also of the corrected series; the watch forgets them
    watch = Watch(client, state=state, namespace="crash")
    assert before + watch.run(values, change - 2) == expected


def test_a_version_of_the_model_that_learned_the_new_level_judges_without_correction(tmp_path):
    publish_rhythm(tmp_path)
    values = shifted(7)
    event = 6 * DAY_ROWS + 60
    values[event : event + 6, 0] *= 4
    recalibrated = CHANGE + DAY_ROWS + 100
    with running_server(repository=tmp_path) as server, Client(server.address) as client:
        watch = Watch(client, own_envelope=True)
        watch.run(values, count=recalibrated)
        assert [each.is_judged for each in watch.scorer.list_changed_levels()] == [True]
        publish_rhythm(tmp_path, version=2, factor=[3.0, 1.0], offset=[0.0, 20_000.0])
        server.rescan()
        watch.run(values, recalibrated)
        assert watch.scorer.list_changed_levels() == []
    alerts, notices = described(watch.sink.written, recalibrated + 1)
    assert (event, "start") in alerts
    assert len([row for row, phase in alerts if phase == "start" and row < event]) <= 1
    assert notices == [("level_changed", "raised"), ("level_changed", "cleared")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_permanent_shift_in_30_000_windows_hides_no_event(client):
    count, change = 30_000, 3_000
    values = make_counts(count, 11)
    values[change:] = values[change:] * 2.5 + [500.0, 0.0]
    events = list(range(4_500, count, 3_000))
    for event in events:
        values[event : event + 6, 0] *= 4
    watch = Watch(client, namespace="long")
    alerts, notices = described(watch.run(values[:, None]), change)
    starts = [row for row, phase in alerts if phase == "start"]
    assert starts[0] == change
    assert set(events) <= set(starts)
    false = [row for row in starts if not any(0 <= row - begin < 2 * DAY_ROWS for begin in [change, *events])]
    assert len(false) < 2 * 0.2 * count / DAY_ROWS
    assert notices.count(("level_changed", "raised")) == 1
    assert ("series_not_judged", "raised") not in notices
