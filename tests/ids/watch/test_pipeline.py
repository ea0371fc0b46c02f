"""The watch against a real server: both are killed at every moment, and no alert is lost or raised twice."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest

from mods_grpc.client import Client
from mods_grpc.errors import ConnectionFailedError, DataError
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import WatchedFeature
from mods_grpc.ids.watch.checkpoint import Checkpoint, CheckpointWriter, fingerprint
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import WindowBatch
from tests.support.cutting_proxy import cutting_proxy
from tests.support.models.tiny import FEATURES, LEVELS, ROWS, make_manifest, publish_tiny
from tests.support.rpc.client import at
from tests.support.running_server import running_server

SERIES = ("site", "lab")
COUNT = 40
SPIKES = {("site", 12), ("site", 13), ("lab", 14), ("site", 24), ("site", 35), ("lab", 31)}


class KilledError(Exception):
    """Where a process would have died."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    publish_tiny(path)
    return path


def windows(count=COUNT):
    batches = []
    for row in range(count):
        values = np.stack([LEVELS[row] * (5 if (series, row) in SPIKES else 1) for series in SERIES])
        batches.append(WindowBatch(start_ns=at(row), series=SERIES, values=values))
    return batches


class DyingSink(FileSink):
    """A file that dies before and after it writes each of some alerts, once each."""

    deaths: ClassVar[set[tuple[str, str]]] = set()

    def write(self, alert):
        for moment in ("before", "after"):
            if moment == "after":
                super().write(alert)
            if (alert.id, moment) in self.deaths:
                self.deaths.remove((alert.id, moment))
                raise KilledError


def make_blindness():
    features = [WatchedFeature(name=name, protocol="conn", training_minimum=0.0, training_maximum=9.0) for name in FEATURES]
    return Blindness("tap", features, window_seconds=3600)


def run(address, folder, *, upto=COUNT, batch=3, die_at=None, wait=None):
    """Do what the command does, from the checkpoint on; `die_at` is a moment, as (start of batch, which step)."""
    with Checkpoint(folder) as checkpoint, Client(address) as client:
        model = client.model()
        saved = checkpoint.load()
        identity = fingerprint(
            saved, sensor="tap", model="tiny", features=model.feature_names, window_seconds=3600, slide_seconds=600
        )
        scorer = ScoringClient(
            client,
            model,
            ScoringOptions(model="tiny", namespace=identity.namespace, significance=0.003, own_envelope=True),
            wait=wait,
        )
        options = AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=0.003, ends=True)
        pipeline = WatchPipeline(
            scorer, Episodes(options), DyingSink(folder / "alerts.jsonl", FORMATS["jsonl"]), make_blindness()
        )
        position = 0
        writer = CheckpointWriter(checkpoint, identity, {"watch": pipeline.state, "position": lambda: position})
        if saved is not None:
            pipeline.restore(saved["watch"])
            position = saved["position"]
        pipeline.open()
        writer.save()
        pipeline.process()
        for start in range(position, upto, batch):
            pipeline.feed(windows()[start : min(start + batch, upto)])
            position = min(start + batch, upto)
            if die_at == (start, "before save"):
                raise KilledError
            writer.save()
            if die_at == (start, "after save"):
                raise KilledError
            pipeline.process()
            if die_at == (start, "after work"):
                raise KilledError
        writer.save()
        scorer.close()
        return pipeline.counters


def alerts(folder):
    return [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with running_server(repository=repository) as server:
        counters = run(server.address, folder)
    assert counters.by_status == {"WARMING_UP": ROWS * len(SERIES), "SCORED": (COUNT - ROWS) * len(SERIES)}
    raised = alerts(folder)
    assert {alert["phase"] for alert in raised} == {"start", "update", "end"} or {alert["phase"] for alert in raised} == {
        "start",
        "end",
    }
    assert len(raised) == sum(counters.by_phase.values()) > counters.alerts >= 4
    assert counters.alerts == sum(alert["phase"] == "start" for alert in raised)
    return raised


@pytest.mark.parametrize("moment", ["before save", "after save", "after work"])
def test_a_killed_watch_resumes_without_losing_or_repeating_an_alert(repository, undisturbed, tmp_path, moment):
    with running_server(repository=repository) as server:
        for start in (9, 12, 18, 30):
            with pytest.raises(KilledError):
                run(server.address, tmp_path, die_at=(start, moment))
        run(server.address, tmp_path)
    assert alerts(tmp_path) == undisturbed


@pytest.mark.parametrize("moment", ["before save", "after save", "after work"])
def test_a_watch_and_server_killed_together_lose_and_repeat_no_alert(repository, undisturbed, tmp_path, moment):
    for start in (9, 12, 15, 30):
        with running_server(repository=repository) as server, pytest.raises(KilledError):
            run(server.address, tmp_path, die_at=(start, moment))
    with running_server(repository=repository) as server:
        run(server.address, tmp_path)
    assert alerts(tmp_path) == undisturbed


def test_a_watch_killed_before_and_after_each_alert_writes_it_once(repository, undisturbed, tmp_path):
    DyingSink.deaths |= {(alert["id"], moment) for alert in undisturbed for moment in ("before", "after")}
    with running_server(repository=repository) as server:
        for _ in range(len(DyingSink.deaths)):
            with pytest.raises(KilledError):
                run(server.address, tmp_path)
        run(server.address, tmp_path)
    assert not DyingSink.deaths
    assert alerts(tmp_path) == undisturbed


def test_restarting_the_server_under_a_running_watch_changes_no_alert(repository, undisturbed, tmp_path):
    server = running_server(repository=repository)
    first = server.__enter__()
    address = first.address
    with Checkpoint(tmp_path), Client(address) as client:
        model = client.model()
        scorer = ScoringClient(
            client,
            model,
            ScoringOptions(model="tiny", namespace="x", significance=0.003, own_envelope=True),
            wait=lambda *_: None,
        )
        options = AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=0.003, ends=True)
        pipeline = WatchPipeline(
            scorer, Episodes(options), FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"]), make_blindness()
        )
        pipeline.open()
        for index, batch in enumerate(windows()):
            if index in {2, 13, 16, 31}:
                first.stop()
                server = running_server(repository=repository, address=address)
                first = server.__enter__()
            pipeline.feed([batch])
            pipeline.process()
        scorer.close()
    first.stop()
    assert alerts(tmp_path) == undisturbed


def test_a_connection_that_is_lost_without_a_word_changes_no_alert(repository, undisturbed, tmp_path):
    with running_server(repository=repository) as server, cutting_proxy(server.address) as proxy:
        with Checkpoint(tmp_path), Client(proxy.address, timeout_seconds=1) as client:
            options = ScoringOptions(model="tiny", namespace="x", significance=0.003, own_envelope=True)
            scorer = ScoringClient(client, client.model(), options, wait=lambda *_: None)
            options = AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=0.003, ends=True)
            sink = FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"])
            pipeline = WatchPipeline(scorer, Episodes(options), sink, make_blindness())
            pipeline.open()
            for index, batch in enumerate(windows()):
                if index in {13, 31}:
                    proxy.lose_connections()
                pipeline.feed([batch])
                pipeline.process()
            scorer.close()
        assert proxy.connections > 2
    assert alerts(tmp_path) == undisturbed


def test_a_checkpoint_of_another_sensor_or_model_is_rejected(repository, tmp_path):
    with running_server(repository=repository) as server:
        run(server.address, tmp_path, upto=3)
    saved = Checkpoint(tmp_path).load()
    with pytest.raises(DataError, match=r"of another sensor \(.*\), features \("):
        fingerprint(saved, sensor="other", model="tiny", features=("x",), window_seconds=3600, slide_seconds=600)


def test_the_wait_callback_is_called_before_each_retry_when_the_server_is_unreachable(repository, tmp_path):
    with running_server(repository=repository) as server:
        model = Client(server.address).model()
    attempts = []

    def give_up(attempt, error):
        attempts.append(attempt)
        if attempt == 3:
            raise error

    with Client("127.0.0.1:9", timeout_seconds=1) as client, pytest.raises(ConnectionFailedError):
        ScoringClient(client, model, ScoringOptions(model="tiny", namespace="x"), wait=give_up).open()
    assert attempts == [1, 2, 3]


def test_windows_round_trip_through_json():
    batch = windows(2)[1]
    values = batch.values.copy()
    values[0, 1] = np.nan
    read = WindowBatch.from_json(json.loads(json.dumps(replace(batch, values=values).to_json())))
    assert (read.start_ns, read.series) == (batch.start_ns, batch.series)
    np.testing.assert_array_equal(read.values, values)
    assert all(a.start_ns < b.start_ns for a, b in pairwise(windows()))
    assert make_manifest().slide_seconds == 600
