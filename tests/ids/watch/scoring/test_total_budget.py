"""A watch with one budget for all its series: which alerts come, what they say, and that a restart changes none."""

import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from mods_grpc.cli.main import main
from mods_grpc.client import Client
from mods_grpc.client.codec.times import to_datetime
from mods_grpc.detection import budget_from_significance
from mods_grpc.exit_codes import EXIT_USAGE
from mods_grpc.ids.alerts.alert import format_time
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.file import FileSink
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.facts import WatchedFeature
from mods_grpc.ids.watch.pipeline import WatchPipeline
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.windows.window import WindowBatch
from tests.support.models.tiny import FEATURES, ROWS, make_manifest, publish_tiny
from tests.support.rpc.client import at
from tests.support.running_server import running_server

HOSTS, COUNT, TOTAL = 40, 200, 3.0
SERIES = tuple(f"10.0.0.{index}" for index in range(HOSTS))
ATTACK = (150, 7)  # row and host


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    publish_tiny(path)
    with running_server(repository=path) as running:
        yield running


def make_windows():
    """Return windows of hosts that are more restless than the calibration says, and an attack on one of them."""
    values = np.random.default_rng(4).gamma(40.0, 25.0, (COUNT, HOSTS, len(FEATURES)))
    values[ATTACK] *= 30
    return [WindowBatch(start_ns=at(row), series=SERIES, values=each) for row, each in enumerate(values)]


def make_pipeline(client, path, **budget):
    model = client.model()
    scorer = ScoringClient(client, model, ScoringOptions(model="tiny", namespace=str(path), **budget))
    options = AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=0.003, ends=True)
    features = [WatchedFeature(name=name, protocol="conn", training_minimum=0.0, training_maximum=9.0) for name in FEATURES]
    sink = FileSink(path, FORMATS["jsonl"])
    return WatchPipeline(scorer, Episodes(options), sink, Blindness("tap", features, window_seconds=3600))


def raise_alerts(server, path, batches, restart_at=(), **budget):
    with Client(server.address) as client:
        pipeline = make_pipeline(client, path, **budget)
        pipeline.open()
        for row, batch in enumerate(batches):
            if row in restart_at:
                saved = json.loads(json.dumps(pipeline.state()))
                pipeline.close()
                pipeline = make_pipeline(client, path, **budget)
                pipeline.restore(saved)
                pipeline.open()
            pipeline.feed([batch])
            pipeline.process()
        pipeline.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def expected(server, tmp_path_factory):
    return raise_alerts(
        server, tmp_path_factory.mktemp("once") / "alerts.jsonl", make_windows(), total_false_alarms_per_day=TOTAL
    )


def test_all_series_share_one_budget_and_the_attack_is_raised(expected, server, tmp_path):
    starts = [alert for alert in expected if alert["phase"] == "start"]
    each = raise_alerts(server, tmp_path / "alerts.jsonl", make_windows(), false_alarms_per_day=1.0)
    assert len(starts) < 0.4 * sum(alert["phase"] == "start" for alert in each)
    assert len(starts) <= 3 * TOTAL * COUNT / 144  # the first day learns
    attacked = format_time(to_datetime(at(ATTACK[0])))
    assert (SERIES[ATTACK[1]], attacked) in {(alert["series"], alert["window"]["start"]) for alert in starts}


def test_alerts_name_the_total_and_the_share_of_a_series(expected):
    for alert in expected:
        assert alert["total_false_alarms_per_day"] == TOTAL
        assert alert["false_alarms_per_day"] == pytest.approx(TOTAL / HOSTS)


def test_a_confirmed_alert_gives_back_its_step_of_the_total_which_is_the_budget_that_is_shown(server, tmp_path):
    with Client(server.address) as client:
        pipeline = make_pipeline(client, tmp_path / "alerts.jsonl", total_false_alarms_per_day=TOTAL)
        pipeline.open()
        factors = []
        for batch in make_windows()[: ATTACK[0] + 1]:
            pipeline.feed([batch])
            pipeline.process()
            factors.append(pipeline.state()["history"]["total"]["common"][0])
        pipeline.forgive(SERIES[ATTACK[1]])
        assert pipeline.budget_per_day == TOTAL
        confirmed = pipeline.state()["history"]["total"]["common"][0]
        assert factors[-1] < factors[-2] <= confirmed
        pipeline.close()


def test_alerts_are_ranked_among_those_of_a_day(expected):
    starts = [alert for alert in expected if alert["phase"] == "start"]
    assert all(1 <= alert["rank"]["position"] <= alert["rank"]["total"] for alert in starts)
    assert starts[0]["rank"] == {"position": 1, "total": 1}
    attack = max(starts, key=lambda alert: max(feature["observed"] for feature in alert["features"]))
    assert attack["series"] == SERIES[ATTACK[1]]
    assert attack["rank"]["position"] == 1
    assert {alert["rank"] for alert in expected if alert["phase"] == "end"} == {None}


def test_a_restart_changes_no_alert(expected, server, tmp_path):
    path = tmp_path / "alerts.jsonl"
    assert raise_alerts(server, path, make_windows(), (ROWS + 3, 90, ATTACK[0]), total_false_alarms_per_day=TOTAL) == expected


def test_the_order_of_the_series_changes_no_alert(expected, server, tmp_path):
    order = np.random.default_rng(5).permutation(HOSTS)
    shuffled = [
        replace(batch, series=tuple(SERIES[index] for index in order), values=batch.values[order]) for batch in make_windows()
    ]
    raised = raise_alerts(server, tmp_path / "alerts.jsonl", shuffled, total_false_alarms_per_day=TOTAL)
    assert {alert["id"] for alert in raised} == {alert["id"] for alert in expected}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_500_hosts_of_different_kinds_raise_the_total_for_two_weeks(server, tmp_path):
    """Hosts that are calmer than the calibration says and such that are not, some with heavy tails, some only by day."""
    hosts, days, total, rng = 500, 14, 10.0, np.random.default_rng(1)
    names = np.array([f"10.1.{index // 250}.{index % 250}" for index in range(hosts)])
    kind = rng.choice(4, hosts, p=(0.5, 0.2, 0.2, 0.1))
    shape = np.array([400.0, 100.0, 40.0, 40.0])[kind]
    events, attack = [], range(8 * 144 + 72, 8 * 144 + 84)

    def make_batches():
        for row in range(days * 144):
            values = rng.gamma(shape[:, None], 1000 / shape[:, None], (hosts, len(FEATURES)))
            heavy = (kind == 3) & (rng.random(hosts) < 0.002)
            values[heavy] *= rng.pareto(1.5, (heavy.sum(), 1)) + 1.5
            if row > 300 and row % 48 == 0:
                events.append((row, names[host := rng.integers(hosts)]))
                values[host] *= 20
            if row in attack[:6]:
                values[:200] *= np.where(rng.random(200) < 0.3, 20, 1)[:, None]
            is_there = (np.arange(hosts) % 5 > 0) | (48 < row % 144 < 108)
            yield WindowBatch(start_ns=at(row), series=tuple(names[is_there]), values=values[is_there])

    raised = raise_alerts(server, tmp_path / "alerts.jsonl", make_batches(), total_false_alarms_per_day=total)
    starts = {
        (round((datetime.fromisoformat(alert["window"]["start"]).timestamp() - at(0) / 1e9) / 600), alert["series"])
        for alert in raised
        if alert["phase"] == "start"
    }
    shown = {(row, series) for row, series in starts if any((row - late, series) in events for late in range(6))}
    attacked = {(row, series) for row, series in starts - shown if row in attack and series in names[:200]}
    false = sum(row >= 144 for row, _ in starts - shown - attacked) / (days - 1)
    assert 0.5 * total <= false <= 1.5 * total, "real events count too"
    assert len(shown) > 0.8 * len(events)
    assert len(attacked) > 100


def test_alerts_of_a_significance_carry_the_budget_that_the_server_answers(server, tmp_path):
    raised = raise_alerts(server, tmp_path / "alerts.jsonl", make_windows()[:100], significance=0.003)
    budget = budget_from_significance(0.003, 600, make_manifest().calibration)
    assert budget < 0.003 * 144, "anomalous windows come in runs"
    assert {alert["false_alarms_per_day"] for alert in raised} == {budget}
    assert {alert["total_false_alarms_per_day"] for alert in raised} == {None}


@pytest.mark.parametrize("other", ["--fixed-level", "--false-alarms-per-day=2", "--significance=0.01"])
def test_a_total_excludes_what_it_replaces(other, capsys, tmp_path):
    arguments = ["replay", str(tmp_path), "--total-false-alarms-per-day", "10", other]
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    assert status == EXIT_USAGE
    assert "--total-false-alarms-per-day" in capsys.readouterr().err
