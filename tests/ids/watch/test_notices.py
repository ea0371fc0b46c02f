"""Notices of a watch: written once, whenever it is killed, and raised while it waits for the server."""

import json

import numpy as np
import pytest

from mods_grpc.client import Verdict, VerdictStatus
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import ReadFacts, WatchedFeature
from mods_grpc.ids.health.findings import to_utc
from mods_grpc.ids.watch.checkpoint import Checkpoint, CheckpointWriter, fingerprint
from mods_grpc.ids.watch.monitoring import WaitingWatch
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.windows.window import WindowBatch

SECOND = 10**9
START = 1_772_409_600 * SECOND
MINUTE = 60 * SECOND
DENIED = ReadFacts(unreadable={"/logs/http.log": "Permission denied"}, unreadable_protocols=frozenset({"http"}))
FINE = ReadFacts(logs=frozenset({"http"}))


class KilledError(Exception):
    """Where a process would have died."""


class DyingSink(FileSink):
    """A file that may die before or after it writes."""

    die = ""

    def write(self, alert):
        if self.die == "before":
            raise KilledError
        super().write(alert)
        if self.die == "after":
            raise KilledError


class Scorer:
    """Scores every window; may hold one up."""

    total = None

    def __init__(self):
        self.before_score = lambda: None

    def score(self, windows):
        self.before_score()
        return [
            Verdict(series="site", observe_time=to_utc(windows.start_ns), status=VerdictStatus.SCORED, score=0.1, p_value=0.8)
        ]

    def state(self):
        return {}

    def restore(self, state, last_panes=None):
        """Do nothing."""


def make_blindness():
    features = [WatchedFeature(name="http_in", protocol="http", training_minimum=0.0, training_maximum=9.0)]
    return Blindness("tap", features, window_seconds=60)


class Watch:
    """A watch that begins with its checkpoint."""

    def __init__(self, folder, stack):
        self.scorer = Scorer()
        checkpoint = stack(Checkpoint(folder))
        self.amend = lambda change: checkpoint.amend("watch", change)
        self.saved = checkpoint.load()
        self.sink = DyingSink(folder / "alerts.jsonl", FORMATS["jsonl"])
        options = AlertOptions(sensor="tap", window_seconds=60, slide_seconds=60, significance=0.003)
        self.blindness = make_blindness()
        self.pipeline = WatchPipeline(self.scorer, Episodes(options), self.sink, self.blindness)
        identity = fingerprint(self.saved, sensor="tap", model="m", features=("http_in",), window_seconds=60, slide_seconds=60)
        self.writer = CheckpointWriter(checkpoint, identity, {"watch": self.pipeline.state})
        if self.saved is not None:
            self.pipeline.restore(self.saved["watch"])

    def check(self, minute, facts):
        self.pipeline.check(START + minute * MINUTE, facts)
        if self.pipeline.has_work:
            self.writer.save()
        self.pipeline.process()


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a watch and ends the one before."""
    checkpoints = []

    def stack(checkpoint):
        checkpoints.append(checkpoint.__enter__())
        return checkpoint

    def start():
        while checkpoints:
            checkpoints.pop().__exit__(None, None, None)
        return Watch(tmp_path, stack)

    yield start
    while checkpoints:
        checkpoints.pop().__exit__(None, None, None)


def notices(folder):
    written = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    return [(notice["code"], notice["state"]) for notice in written]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_notice_is_written_once_if_the_watch_is_killed_around_it(start, tmp_path, moment):
    for minute in (1, 2, 3):
        watch = start()
        watch.sink.die = moment
        with pytest.raises(KilledError):
            watch.check(minute, DENIED)
        if minute == 1 and moment == "after":
            assert notices(tmp_path) == [("log_unreadable", "raised")]
        if moment == "after":
            break
    watch = start()
    watch.check(4, DENIED)
    assert notices(tmp_path) == [("log_unreadable", "raised")]
    for minute in range(5, 12):
        watch.check(minute, FINE)
    watch.writer.save()
    watch = start()
    for minute in range(12, 30):
        watch.check(minute, FINE)
    assert notices(tmp_path) == [("log_unreadable", "raised"), ("log_unreadable", "cleared")]
    assert start().pipeline.open_notices == []


def test_a_notice_raised_while_the_watch_waits_for_the_server_is_written_once_if_it_is_killed_then(start, tmp_path):
    for run in range(3):
        watch = start()
        if run == 0:
            watch.check(0, FINE)
            watch.pipeline.feed([WindowBatch(start_ns=START, series=("site",), values=np.array([[1.0]]))])
            watch.writer.save()

        def wait(watch=watch):
            for minute in range(1, 90):
                watch.pipeline.wait_for_server(START + minute * MINUTE, watch.amend)
            assert not watch.pipeline.is_connected
            raise KilledError

        watch.scorer.before_score = wait
        with pytest.raises(KilledError):
            watch.pipeline.process()
    assert notices(tmp_path) == [("not_judged", "raised")]
    watch = start()
    watch.pipeline.process()
    for minute in range(100, 130):
        watch.check(minute, FINE)
    assert watch.pipeline.is_connected
    assert notices(tmp_path) == [("not_judged", "raised"), ("not_judged", "cleared")]


def test_a_notice_raised_before_there_is_a_model_stays_open_until_a_window_is_judged(start, tmp_path):
    watch = start()
    watch.check(0, FINE)
    watch.writer.save()
    watch = start()
    waiting = WaitingWatch("tap", watch.sink, watch.saved["watch"])
    for minute in range(1, 90):
        waiting.wait_for_server(START + minute * MINUTE, watch.amend)
    watch.blindness.continue_from(waiting.blindness)
    watch.check(90, FINE)
    assert [notice.code for notice in watch.pipeline.open_notices] == ["not_judged"]
    watch.pipeline.feed([WindowBatch(start_ns=START, series=("site",), values=np.array([[1.0]]))])
    for minute in range(91, 110):
        watch.check(minute, FINE)
    assert notices(tmp_path) == [("not_judged", "raised"), ("not_judged", "cleared")]


def test_a_live_view_is_shown_the_open_notices(start):
    watch = start()
    shown = []
    options = AlertOptions(sensor="tap", window_seconds=60, slide_seconds=60, significance=0.003)
    pipeline = WatchPipeline(watch.scorer, Episodes(options), watch.sink, make_blindness(), show_notices=shown.append)
    pipeline.check(START, DENIED)
    pipeline.check(START + MINUTE, DENIED)
    assert [[notice.code for notice in notices] for notices in shown] == [["log_unreadable"]]
