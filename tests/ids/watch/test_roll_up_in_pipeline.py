"""The roll-up in the pipeline of a watch: what is counted, written and observed, and the same alerts whenever it is killed."""

import json
from datetime import UTC, datetime
from threading import Event

import numpy as np
import pytest

from mods_grpc.alarm_rules.extent import holdoff
from mods_grpc.cli.main import build_parser
from mods_grpc.client import FeatureVerdict, ServedModel, Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import AlertPhase, Severity
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.roll_up.roll_up import RollUp, RollUpOptions
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.health.account import Account
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import WatchedFeature
from mods_grpc.ids.watch.accounting import account_fields
from mods_grpc.ids.watch.checkpoint import Checkpoint, CheckpointWriter, fingerprint
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.replay import replay
from mods_grpc.ids.windows.window import WindowBatch

START_NS, SLIDE_NS = 1_772_409_600 * 10**9, 600 * 10**9
SERIES = tuple(f"10.0.0.{number}" for number in range(40))
ROWS = 24
SIZES = {2: range(12), 3: range(12, 15), 4: range(15, 30), 6: range(30, 32), 15: range(20, 26)}
"""By row, the series that begin to be anomalous. In row 15 they fall, so that it is another cause."""


class KilledError(Exception):
    """Where a process would have died."""


class DyingSink(FileSink):
    """A file that dies before and after it writes each alert, once each."""

    def __init__(self, path, deaths):
        super().__init__(path, FORMATS["jsonl"])
        self._deaths = deaths

    def write(self, alert):
        for moment in ("before", "after"):
            if moment == "after":
                super().write(alert)
            if (alert.id, moment) not in self._deaths:
                self._deaths.add((alert.id, moment))
                raise KilledError


class Scorer:
    """Judges windows by their only value: 0 is usual, above it a burst of that score, below it a fall."""

    smallest_p = 1e-9
    total = None
    false_alarms_per_day = 1.0
    series_count = len(SERIES)

    def open(self):
        return 0.01

    def close(self):
        """Do nothing."""

    def state(self):
        return {}

    def restore(self, state, last_panes=None):
        """Do nothing."""

    def score(self, windows):
        when = datetime.fromtimestamp(windows.start_ns / 10**9, UTC)
        return [self._judge(series, when, float(value)) for series, (value,) in zip(windows.series, windows.values, strict=True)]

    def _judge(self, series, when, value):
        score = abs(value)
        feature = FeatureVerdict(
            feature="conn_in", observed=100 + value, expected=100.0, lower=99.5, upper=100.5, p_value=10**-score, share=1.0
        )
        return Verdict(
            series=series,
            observe_time=when,
            status=VerdictStatus.SCORED,
            p_value=10**-score,
            score=score,
            anomalous=score >= 2,
            features=(feature,),
            reason="unusual" if score >= 2 else "",
            model=ServedModel(name="m", version=1, digest="ab"),
        )


def batches():
    result = []
    for row in range(ROWS):
        values = np.zeros((len(SERIES), 1))
        for number in SIZES.get(row, ()):
            values[number] = (3 + number / 100) * (-1 if row == 15 else 1)
        result.append(WindowBatch(start_ns=START_NS + row * SLIDE_NS, series=SERIES, values=values))
    return result


def make_pipeline(sink, *, rolls_up=True, observe=None):
    options = AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=0.01, ends=True)
    features = [WatchedFeature(name="conn_in", protocol="conn", training_minimum=0.0, training_maximum=9.0)]
    blindness = Blindness("tap", features, window_seconds=3600)
    roll_up = RollUp(RollUpOptions(holdoff=holdoff(3600, 600), ends=True)) if rolls_up else None
    return WatchPipeline(Scorer(), Episodes(options), sink, blindness, roll_up=roll_up, observe=observe)


def run(folder, deaths, *, batch):
    """Do what the watch does, from the checkpoint on."""
    with Checkpoint(folder) as checkpoint:
        saved = checkpoint.load()
        identity = fingerprint(saved, sensor="tap", model="m", features=("conn_in",), window_seconds=3600, slide_seconds=600)
        pipeline, position = make_pipeline(DyingSink(folder / "alerts.jsonl", deaths)), 0
        if saved is not None:
            pipeline.restore(saved["watch"])
            position = saved["position"]
        writer = CheckpointWriter(checkpoint, identity, {"watch": pipeline.state, "position": lambda: position})
        pipeline.open()
        writer.save()
        pipeline.process()
        while position < ROWS:
            pipeline.feed(batches()[position : position + batch])
            position += batch
            writer.save()
            pipeline.process()
        writer.save()


def read(folder):
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    return [alert for alert in alerts if alert.get("kind") != "notice"]


@pytest.fixture
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    observed = []
    sink = FileSink(folder / "alerts.jsonl", FORMATS["jsonl"])
    pipeline = make_pipeline(sink, observe=lambda _, alerts: observed.extend(alerts))
    pipeline.open()
    for windows in batches():
        pipeline.feed([windows])
        pipeline.process()
    alerts = read(folder)
    assert [alert.id for alert in observed] == [alert["id"] for alert in alerts]
    return alerts, pipeline.counters


def test_alerts_with_one_cause_are_counted_and_written_once(undisturbed):
    alerts, counters = undisturbed
    assert [(alert["phase"], alert["trigger"], alert["series"], alert["member_count"]) for alert in alerts] == [
        ("start", "first", "10.0.0.11", 12),
        ("update", "members", "10.0.0.11", 30),
        ("update", "members", "10.0.0.11", 32),  # those that joined last, when the hold-off is over
        ("end", "first", "10.0.0.11", 32),
        ("start", "first", "10.0.0.25", 6),
        ("end", "first", "10.0.0.25", 6),
    ]
    assert [len(alert["members"]) for alert in alerts] == [alert["member_count"] for alert in alerts]
    assert (counters.alerts, counters.by_phase[AlertPhase.UPDATE], counters.by_phase[AlertPhase.END]) == (2, 2, 2)
    assert (counters.anomalous, counters.rolled_up) == (38, 36)
    assert counters.by_severity[Severity.MEDIUM] == len(alerts)


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_a_watch_killed_before_and_after_each_alert_raises_the_same_ones_once(undisturbed, tmp_path, batch):
    expected, _ = undisturbed
    deaths = set()
    for _ in range(2 * len(expected)):
        with pytest.raises(KilledError):
            run(tmp_path, deaths, batch=batch)
    run(tmp_path, deaths, batch=batch)
    assert len(deaths) == 2 * len(expected)
    assert read(tmp_path) == expected


def test_without_a_roll_up_each_series_raises_its_own(tmp_path):
    pipeline = make_pipeline(FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"]), rolls_up=False)
    pipeline.open()
    pipeline.feed(batches())
    pipeline.process()
    alerts = read(tmp_path)
    assert (pipeline.counters.alerts, pipeline.counters.rolled_up) == (38, 0)
    assert {alert["member_count"] for alert in alerts} == {0}
    assert pipeline.state()["roll_up"] is None


def test_a_checkpoint_from_before_the_roll_up_is_taken_up(tmp_path):
    old = make_pipeline(FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"]), rolls_up=False)
    old.open()
    old.feed(batches()[:3])
    old.process()
    saved = json.loads(json.dumps(old.state()))
    for state in (saved, {name: part for name, part in saved.items() if name != "roll_up"}):
        pipeline = make_pipeline(FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"]))
        pipeline.restore(state)
        pipeline.open()
        pipeline.feed(batches()[3:12])
        pipeline.process()
    alerts = read(tmp_path)
    assert len({alert["id"] for alert in alerts}) == len(alerts)
    assert [alert["member_count"] for alert in alerts if alert["phase"] == "start"] == [0] * (12 + 3) + [15]
    assert {alert["series"] for alert in alerts if alert["phase"] == "end"} == set(SERIES[:15])


def test_a_replay_names_at_its_end_what_joined_last(tmp_path):
    pipeline = make_pipeline(FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"]))
    pipeline.open()
    replay([[windows] for windows in batches()[:8]], pipeline, Event())
    last = read(tmp_path)[-1]
    assert (last["phase"], last["trigger"], last["member_count"]) == ("update", "members", 32)
    assert pipeline.counters.by_phase[AlertPhase.UPDATE] == 2


def test_the_account_says_how_many_alerts_joined_another():
    before, after = Account(judged=9, rolled_up=2), Account(judged=9, rolled_up=5)
    assert after.since(before).to_json()["rolled_up"] == 3
    assert account_fields(after, START_NS)["rolled_up"] == 5
    assert "rolled_up" not in account_fields(after.since(after), START_NS)


@pytest.mark.parametrize(("flags", "rolls_up"), [([], True), (["--no-roll-up"], False)])
@pytest.mark.parametrize("command", [["watch", "--zeek", "logs"], ["replay", "logs"]])
def test_alerts_are_rolled_up_unless_a_flag_says_no(command, flags, rolls_up):
    arguments = build_parser().parse_args([*command, "--sensor", "tap", "--model", "m", *flags])
    assert arguments.roll_up is rolls_up
