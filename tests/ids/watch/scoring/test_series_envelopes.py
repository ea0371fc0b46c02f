"""The watch judges series by their own envelopes as the server does, and keeps them over restarts of either side."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from mods_grpc.alarm_rules.envelope import POOLED_SHARE
from mods_grpc.client import Client, Observation, Verdict, VerdictStatus
from mods_grpc.ids.watch.scoring.options import ScoringOptions
from mods_grpc.ids.watch.scoring.scoring_client import ScoringClient
from mods_grpc.ids.watch.scoring.series_envelopes import SeriesEnvelopes
from mods_grpc.ids.windows.window import WindowBatch
from tests.support.models.tiny import CALIBRATION, LEVELS, publish_tiny
from tests.support.rpc.client import at
from tests.support.running_server import running_server

COUNT, NAMES = 120, ("desk", "file server")
GENERATOR = np.random.default_rng(6)
VALUES = np.round(LEVELS[:COUNT, None] * np.array([1.0, 30.0])[:, None] * GENERATOR.lognormal(0, 0.2, (COUNT, 2, 2)))
VALUES[100, 0, 1] *= 30  # the desk sends what the file server does all the time
OPTIONS = ScoringOptions(model="tiny", namespace="watch", significance=0.003, own_envelope=True)


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path)
    return tmp_path


def watch(client, rows, state=None, options=OPTIONS, values=VALUES):
    scorer = ScoringClient(client, client.model(), options)
    if state is not None:
        scorer.restore(json.loads(json.dumps(state)))
    scorer.open()
    verdicts = [scorer.score(WindowBatch(start_ns=at(row), series=NAMES, values=values[row])) for row in rows]
    scorer.close()
    return [verdict for row in verdicts for verdict in row], scorer.state()


def facts(verdicts):
    return [(v.series, v.observe_time, v.p_value, v.score, v.anomalous, v.reason, v.features) for v in verdicts]


def test_the_watch_has_the_p_values_of_a_stream_with_own_envelopes(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        verdicts, _ = watch(client, range(COUNT))
        rows = [Observation(name, at(row), VALUES[row, index]) for row in range(COUNT) for index, name in enumerate(NAMES)]
        stream = {"model": "tiny", "sensor": "stream", "significance": 0.003}
        with client.stream_detect(iter(rows), own_envelope=True, explain="all", **stream) as judged:
            expected = list(judged)
        with client.stream_detect(iter(rows), **(stream | {"sensor": "pooled"})) as judged:
            pooled = [verdict.p_value for verdict in judged]
    assert [v.p_value for v in verdicts] == [v.p_value for v in expected]
    assert [v.anomalous for v in verdicts] == [v.anomalous for v in expected]
    assert [v.p_value for v in verdicts[:8]] == pooled[:8]
    assert [v.p_value for v in verdicts] != pooled
    burst, stream_burst = verdicts[200], expected[200]
    assert burst.series == "desk"
    assert burst.anomalous
    assert "times the usual peak of this series" in burst.reason
    assert burst.reason == stream_burst.reason
    assert [f.share for f in burst.features] == pytest.approx([f.share for f in stream_burst.features])


@pytest.mark.parametrize("explain", ["anomalies", "all"])
def test_the_reason_and_the_shares_of_an_alert_are_those_of_the_stream_whatever_decided(repository, explain):
    values = VALUES.copy()
    values[80, 0] = 0  # what the model sees
    values[90, 1, 0] *= 5
    values[110, 1] *= [40, 1e5]  # enormous
    with running_server(repository=repository) as server, Client(server.address) as client:
        verdicts, _ = watch(client, range(COUNT), options=replace(OPTIONS, explain=explain), values=values)
        rows = [Observation(name, at(row), values[row, index]) for row in range(COUNT) for index, name in enumerate(NAMES)]
        stream = {"model": "tiny", "sensor": "stream", "significance": 0.003}
        with client.stream_detect(iter(rows), own_envelope=True, explain=explain, **stream) as judged:
            expected = list(judged)
    pairs = [(v, e) for v, e in zip(verdicts, expected, strict=True) if e.anomalous]
    assert facts(v for v, _ in pairs) == facts(e for _, e in pairs)
    assert {"usual peak" in v.reason for v, _ in pairs} == {False, True}
    explained = [v for v in verdicts if v.reason and (explain == "all" or v.anomalous)]
    assert explained
    assert all(f"p = {v.p_value:.1g}; " in v.reason for v in explained)


@pytest.mark.parametrize("restarts", ["watch", "server", "both"])
def test_verdicts_do_not_depend_on_restarts_of_either_side(repository, restarts):
    with running_server(repository=repository) as server, Client(server.address) as client:
        expected, _ = watch(client, range(COUNT))
    actual, state = [], None
    with running_server(repository=repository) as server, Client(server.address) as client:
        if restarts == "watch":
            for first in range(0, COUNT, 25):
                part, state = watch(client, range(first, min(first + 25, COUNT)), state)
                actual += part
    for first in range(0, COUNT, 40) if restarts != "watch" else ():
        with running_server(repository=repository) as server, Client(server.address) as client:
            part, state = watch(client, range(first, first + 40), state)
            actual += part
    assert facts(actual) == facts(expected)


def with_scores(factor):
    """Return a calibration whose envelopes take scores so many times higher; None for one without envelopes."""
    envelope = CALIBRATION.envelope
    scores = tuple(tuple(factor * score for score in column) for column in envelope.scores) if factor else ()
    return replace(CALIBRATION, envelope=replace(envelope, scores=scores) if factor else None)


@pytest.mark.parametrize(("first", "then"), [(1, 3), (None, 1), (1, None)])
def test_a_version_that_is_published_under_a_running_watch_judges_as_after_a_restart(tmp_path, first, then):
    outcomes = []
    for restarts in (False, True):
        repository = tmp_path / str(restarts)
        repository.mkdir()
        publish_tiny(repository, calibration=with_scores(first))
        with running_server(repository=repository) as server, Client(server.address) as client:
            scorer = ScoringClient(client, client.model(), OPTIONS)
            scorer.open()
            verdicts = []
            for row in range(COUNT):
                if row == 50:
                    publish_tiny(repository, version=2, calibration=with_scores(then))
                    server.rescan()
                    if restarts:
                        state = scorer.state()
                        scorer.close()
                        scorer = ScoringClient(client, client.model(), OPTIONS)
                        scorer.restore(state)
                        scorer.open()
                verdicts += scorer.score(WindowBatch(start_ns=at(row), series=NAMES, values=VALUES[row]))
            scorer.close()
        assert {v.model.version for v in verdicts[100:]} == {2}
        outcomes.append(facts(verdicts))
    assert outcomes[0] == outcomes[1]


def test_no_alert_is_out_of_reach_that_the_evidence_of_the_model_raises(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        model = client.model()
        scorer = ScoringClient(client, replace(model, smallest_p_value=1e-9), OPTIONS)
        assert scorer.smallest_p == pytest.approx(1e-9 / POOLED_SHARE)
        own = ScoringClient(client, replace(model, smallest_p_value=0.5), OPTIONS).smallest_p
        assert own == SeriesEnvelopes(model).smallest_p < 1e-3
        assert ScoringClient(client, replace(model, envelope=b""), OPTIONS).smallest_p == model.smallest_p_value


def test_windows_that_are_judged_again_after_a_crash_get_the_same_verdict(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        first, state = watch(client, range(90))
        then, _ = watch(client, range(90, COUNT), state)
        again, _ = watch(client, range(90, COUNT), state)  # the server has these rows already
    assert [v.p_value for v in again] == [v.p_value for v in then]
    assert [v.anomalous for v in again] == [v.anomalous for v in then]
    assert len(first) == 180


def test_a_checkpoint_without_envelopes_or_of_another_model_is_not_taken_for_one(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        _, state = watch(client, range(60))
        model = client.model()
        watch(client, range(60, 70), state | {"envelopes": None})
        envelopes = SeriesEnvelopes(model)
        envelopes.restore(state["envelopes"])
        assert envelopes.state() == state["envelopes"]
        with pytest.raises(ValueError, match="another number of features"):
            envelopes.restore(state["envelopes"] | {"features": 5})
        with pytest.raises(ValueError, match="reshape"):
            envelopes.restore(state["envelopes"] | {"series": ["a"]})


def test_only_the_description_of_a_loaded_version_has_the_envelope(repository):
    with running_server(repository=repository) as server, Client(server.address) as client:
        assert json.loads(client.model().envelope)["block_seconds"] == 3600
        assert [model.envelope for model in client.models()] == [""]


def test_an_envelope_of_a_later_server_is_left_out_with_a_warning(repository, caplog):
    with running_server(repository=repository) as server, Client(server.address) as client:
        model = client.model()
    later = replace(model, envelope=json.dumps(json.loads(model.envelope) | {"weekdays": []}))
    envelopes = SeriesEnvelopes(later)
    assert envelopes.smallest_p == 0
    assert [record.message for record in caplog.records] == ["envelope_unreadable"]
    assert "weekdays" in caplog.records[0].error
    verdict = Verdict(series="desk", observe_time=datetime.now(UTC), status=VerdictStatus.SCORED, p_value=0.1)
    assert envelopes.judge([verdict], at(0), np.array([[1.0, 1.0]])) == [(verdict, None)]
