"""Metrics of a watch, as Prometheus reads them."""

import json
import urllib.request
from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mods_grpc.client import FeatureInfo, Verdict, VerdictStatus
from mods_grpc.features import Aggregator, Conn
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.feedback import FeedbackVerdict, feedback_on, record_feedback
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import ReadFacts, WatchedFeature
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.watch.metrics import make_registry
from mods_grpc.ids.watch.monitoring import WatchParts
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.review import FeedbackTracker
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowBatch, WindowColumns
from mods_grpc.server.telemetry.metrics_endpoint import serve_registry

SECOND = 10**9
START = 1_772_409_600 * SECOND
FEATURE = FeatureInfo(
    name="conn_in", unit="", protocol="conn", column="in_count_uid", kind="count", training_minimum=0.0, training_maximum=9.0
)


class Scorer:
    """Scores every window as anomalous."""

    smallest_p = 1e-9
    false_alarms_per_day = 1.0
    total = None

    def open(self):
        return 0.01

    def score(self, windows):
        when = datetime.fromtimestamp(windows.start_ns / SECOND, UTC)
        return [
            Verdict(series=series, observe_time=when, status=VerdictStatus.SCORED, p_value=1e-5, score=5.0, anomalous=True)
            for series in windows.series
        ]

    def close(self):
        """Do nothing."""


class Model:
    name, digest = "campus", "ab"


class Source:
    def poll(self):
        return [Conn(ts=START, uid="C", orig_h="192.0.2.1", resp_h="10.0.0.1")]


@pytest.fixture
def parts(tmp_path):
    columns = WindowColumns([FEATURE])
    feed = WindowFeed(Source(), Aggregator(columns.definition), columns, lateness_seconds=60)
    options = AlertOptions(sensor="tap", window_seconds=60, slide_seconds=60, significance=0.01)
    features = [WatchedFeature(name="conn_in", protocol="conn", training_minimum=0.0, training_maximum=9.0)]
    blindness = Blindness("tap", features, window_seconds=60)
    pipeline = WatchPipeline(Scorer(), Episodes(options), FileSink(tmp_path / "alerts", FORMATS["jsonl"]), blindness)
    return WatchParts(
        model=Model(),
        counters=ReadCounters(),
        feed=feed,
        pipeline=pipeline,
        undelivered=lambda: {"cef:tls://siem.example": 3},
        saved_at=lambda: None,
        polled_at=lambda: 12.5,
    )


def read(parts):
    """Serve and read the metrics: by name, labels as text, and value."""
    port, close = serve_registry(make_registry(parts), "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
    finally:
        close()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def test_every_metric_is_there_from_the_start(parts):
    metrics = read(parts)
    assert metrics["mods_watch_records_total", "conn"] == metrics["mods_watch_dropped_total", "malformed"] == 0
    assert metrics["mods_watch_windows_total", "scored"] == metrics["mods_watch_alerts_total", "critical"] == 0
    assert metrics["mods_watch_open_notices", "not_judged"] == metrics["mods_watch_server_connected",] == 0
    assert metrics["mods_watch_undelivered", "cef:tls://siem.example"] == 3
    assert metrics["mods_watch_last_poll_timestamp_seconds",] == 12.5
    assert "mods_watch_checkpoint_age_seconds" not in {name for name, *_ in metrics}
    assert [value for (name, *labels), value in metrics.items() if name == "mods_watch_info" and "campus" in labels] == [1]


def test_alerts_that_were_not_raised_are_counted_by_why(parts):
    metrics = read(parts)
    assert metrics["mods_watch_withheld_total",] == metrics["mods_watch_rolled_up_total",] == 0
    parts.pipeline.counters.withheld, parts.pipeline.counters.rolled_up = 3, 51
    metrics = read(parts)
    assert (metrics["mods_watch_withheld_total",], metrics["mods_watch_rolled_up_total",]) == (3, 51)


def test_metrics_follow_what_was_read_and_judged(parts):
    parts.counters.accept("conn", START)
    parts.counters.reject("time")
    list(parts.feed.poll())
    pipeline = parts.pipeline
    pipeline.open()
    pipeline.feed([WindowBatch(start_ns=START, series=("site",), values=np.array([[5.0]]))])
    facts = ReadFacts(unreadable={"/logs/http.log": "Permission denied"})
    pipeline.check(START, facts)
    pipeline.process()
    metrics = read(parts)
    assert metrics["mods_watch_records_total", "conn"] == metrics["mods_watch_dropped_total", "malformed"] == 1
    assert metrics["mods_watch_newest_record_timestamp_seconds",] == START / SECOND
    assert metrics["mods_watch_windows_total", "scored"] == metrics["mods_watch_anomalous_windows_total",] == 1
    assert metrics["mods_watch_alerts_total", "critical"] == metrics["mods_watch_open_episodes",] == 1
    assert metrics["mods_watch_open_notices", "log_unreadable"] == metrics["mods_watch_server_connected",] == 1


def test_what_was_said_of_alerts_and_what_rules_muted_is_shown(parts, tmp_path):
    pipeline = parts.pipeline
    pipeline.set_suppression(Suppression(allow=("lab",)))
    pipeline.feedback = FeedbackTracker(tmp_path, lambda _: None, lambda: 0.5)
    pipeline.open()
    pipeline.feed([WindowBatch(start_ns=START, series=("site", "lab"), values=np.array([[5.0], [5.0]]))])
    pipeline.process()
    metrics = read(parts)
    assert metrics["mods_watch_suppressed_total", "allow"] == 1
    assert metrics["mods_watch_judged_alerts", "unmarked"] == 1
    assert metrics["mods_watch_false_alarms_per_day", "marked"] == 0
    assert metrics["mods_watch_false_alarms_per_day", "at_most"] == 1
    (line,) = (tmp_path / "alerts").read_text().splitlines()
    record_feedback(tmp_path, feedback_on(json.loads(line), FeedbackVerdict.FALSE_ALARM, time=datetime.now(UTC)))
    pipeline.feedback.poll()
    metrics = read(parts)
    assert metrics["mods_watch_judged_alerts", "false_alarm"] == metrics["mods_watch_false_alarms_per_day", "marked"] == 1
    assert metrics["mods_watch_judged_alerts", "unmarked"] == 0
    assert metrics["mods_watch_false_alarms_per_day", "budget"] == 0.5


class Queue(list):
    """A sink with alerts that wait."""


def test_alerts_that_wait_are_counted_by_destination_without_its_secrets(tmp_path):
    sinks = SinkGroup(
        [
            ("jsonl:https://hook.example:8443/services/secret?key=secret", Queue([1])),
            ("jsonl:https://hook.example:8443/other#token-file=/etc/token", Queue([1, 2])),
            ("cef:tls://siem.example#ca=/etc/ca.pem", Queue()),
            (f"eve:{tmp_path}/eve.json", FileSink(tmp_path / "eve.json", FORMATS["eve"])),
        ]
    )
    undelivered = {"jsonl:https://hook.example:8443": 3, "cef:tls://siem.example": 0, f"eve:{tmp_path}/eve.json": 0}
    assert sinks.count_undelivered() == undelivered
