"""A quantile model served: its intervals are the evidence, whatever way the rows come."""

import numpy as np
import pytest

from mods_grpc.artifact import read_artifact
from mods_grpc.client import Client, Observation, ObservationBatch, ResumePolicy, VerdictStatus
from mods_grpc.detection import Detector, Monitor
from mods_grpc.errors import ArtifactError
from mods_grpc.server.models.repository import VersionState
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.v1 import inference_pb2_grpc
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL
from tests.server.models.test_canary import load_with_canary
from tests.support.cutting_proxy import cutting_proxy
from tests.support.models.quantile import (
    QUANTILE_CALIBRATION,
    forecast_quantiles,
    make_quantile_graph,
    make_quantile_parity,
    publish_quantiles,
)
from tests.support.models.tiny import CALIBRATION, LEVELS, ROWS, SLIDE, forecast_mean, make_mean_graph, publish_tiny
from tests.support.rpc.client import Stream, at, forecast_request, observation, window
from tests.support.running_server import channel_to, running_server

QUICK = ResumePolicy(total_seconds=30, first_wait_seconds=0.001, longest_wait_seconds=0.01)
COUNT = 300
OPTIONS = {"false_alarms_per_day": 4.0, "impute_rows": 3}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantiles")
    publish_quantiles(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with running_server(repository=repository) as running:
        yield running


@pytest.fixture(scope="module")
def traffic():
    """Rows with holes in time and spikes."""
    rng = np.random.default_rng(11)
    values = rng.gamma(50.0, 20.0, (COUNT, 2))
    values[::23] *= 3
    rows = np.cumsum(rng.choice([1, 1, 1, 1, 1, 1, 2, 3], COUNT))
    return [at(int(row)) for row in rows], values


@pytest.fixture(scope="module")
def at_once(server, traffic):
    """What a monitor of our own says of all rows in one call, without a server."""
    artifact = read_artifact(server.config.repository, "tiny", 1)
    detector = Detector.from_manifest(artifact.manifest)
    table = detector.table(ROWS)
    monitor = Monitor(detector, forecast_quantiles, table, slide_seconds=SLIDE, holdoff_rows=6)
    with Client(server.address) as client:
        level = client.detect(*traffic, series="web", **OPTIONS).significance
    actual = monitor.observe(
        np.full(COUNT, table.allocate()),
        np.array(traffic[0]),
        traffic[1],
        reported=np.ones(COUNT, bool),
        significance=level,
        impute_rows=3,
    )
    assert actual.anomalous.sum() > 3
    return actual


def streamed(address, given, sensor):
    with Client(address) as client:
        options = {"sensor": sensor, "explain": "all", "resume": QUICK, "fixed_level": True}
        return [v for v in client.stream_detect(given, **options, **OPTIONS) if v.status is not VerdictStatus.WARMING_UP]


def assert_same(verdicts, actual):
    scored = np.flatnonzero(np.isfinite(actual.p_value))
    np.testing.assert_array_equal([verdict.p_value for verdict in verdicts], actual.p_value[scored])
    np.testing.assert_array_equal([verdict.anomalous for verdict in verdicts], actual.anomalous[scored])
    why = actual.explain(scored)
    np.testing.assert_array_equal([[part.share for part in verdict.features] for verdict in verdicts], why.share)
    np.testing.assert_array_equal([[part.expected for part in v.features] for v in verdicts], actual.expected[scored])


def rows(times, values):
    return [Observation("web", time, row) for time, row in zip(times, values, strict=True)]


def test_single_rows_get_the_verdicts_of_one_batch(server, traffic, at_once):
    assert_same(streamed(server.address, rows(*traffic), "rows"), at_once)


def test_small_batches_get_the_verdicts_of_one_batch(server, traffic, at_once):
    times, values = traffic
    batches = [
        ObservationBatch(series=["web"] * len(times[i : i + 7]), times=times[i : i + 7], values=values[i : i + 7])
        for i in range(0, COUNT, 7)
    ]
    assert_same(streamed(server.address, batches, "batches"), at_once)


def test_detect_judges_as_a_monitor_does(server, traffic, at_once):
    with Client(server.address) as client:
        actual = client.detect(*traffic, series="web", explain="all", **OPTIONS)
    np.testing.assert_array_equal(actual.p_values, at_once.p_value[ROWS:])


def test_a_resumed_stream_gets_the_verdicts_of_one_batch(server, traffic, at_once):
    with cutting_proxy(server.address, [600, 4_000, 9_000, 30_000]) as proxy:
        verdicts = streamed(proxy.address, rows(*traffic), "cut")
        assert proxy.connections >= 5
    assert_same(verdicts, at_once)


def test_state_that_outlives_the_process_changes_no_verdict(repository, tmp_path):
    path = str(tmp_path / "state")
    with running_server(repository=repository) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="zeek", explain=EXPLAIN_ALL)
        expected = [stream.row(row).verdict for row in range(40)]
    actual = []
    for first in (0, 13, 26):
        options = {"state_file": path, "state_interval_seconds": 0.0}
        with running_server(repository=repository, **options) as server, channel_to(server) as channel:
            stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="zeek", explain=EXPLAIN_ALL)
            actual += [stream.row(row).verdict for row in range(first, min(first + 13, 40))]
            stream.end()
    assert actual == expected[: len(actual)]


def test_forecasts_have_the_conformalised_quantiles_for_intervals(server):
    with channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        answer = stub.Forecast(forecast_request(window(range(4)), window(range(9, 13)), coverages=[0.5, 0.95]))
    model = server.model()
    for first, forecast in zip((0, 9), answer.forecasts.forecasts, strict=True):
        windows = LEVELS[first : first + ROWS][None]
        quantiles = forecast_quantiles(windows)
        for k, step in enumerate(forecast.steps):
            np.testing.assert_allclose(step.values, forecast_mean(windows)[0, k], rtol=1e-12)
            for interval in step.intervals:
                low, high = model.detector.path_interval(quantiles, interval.coverage)
                np.testing.assert_allclose([interval.lower, interval.upper], [low[0, k], high[0, k]], rtol=1e-9)
    spread = np.log(LEVELS[:ROWS].max(0) + 1) - np.log(LEVELS[:ROWS].min(0) + 1)
    wide = answer.forecasts.forecasts[0].steps[0].intervals[1]
    curves, scales = model.detector._curves[0].scores_at(0.05), QUANTILE_CALIBRATION.scales[0]
    reached = np.log1p(wide.upper) - np.log1p(wide.lower)
    np.testing.assert_allclose(reached, 2 * curves * scales * spread, rtol=1e-6)


def test_a_refused_row_leaves_the_state_as_it_was(server):
    with channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="refused")
        for row in range(12):
            stream.row(row, series="odd")
        before = server.snapshot("odd")
        for bad in (observation(11, LEVELS[3], series="odd"), observation(12, [-1.0, 2.0], series="odd")):
            stream.begin(observation=bad)
            assert stream.read().answer.errors
        assert server.snapshot("odd") == before
        stream.row(12, series="odd")
        assert server.snapshot("odd") != before
        stream.end()


def test_a_stream_moves_between_models_with_and_without_quantiles(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="moves")
        for version in (2, 3, 4):
            for row in range((version - 2) * 20, (version - 1) * 20):
                verdict = stream.row(row).verdict
            assert verdict.HasField("p_value")
            before = server.model()
            (publish_tiny if version == 4 else publish_quantiles)(tmp_path, version=version)
            server.rescan()
            waiting = server.model().series.table.pending[0]
            # values that wait mean the same to any model without quantiles, and widths only to the model that made them
            assert np.isnan(waiting).all()
            assert waiting.shape == (before.series.table.pending.shape[1], 2 if version == 4 else 4)
        stream.end()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"model": make_mean_graph()},
            r"model.onnx: expected output quantiles double \(batch, 3, 2, 3\), for evidence, found \[\]",
        ),
        ({"model": make_quantile_graph(levels=4)}, r"model.onnx: expected output quantiles double \(batch, 3, 2, 3\)"),
        ({"model": make_quantile_graph(stretch=(1.0, 1.001))}, "model.onnx: parity error 0.001 at batch 1"),
        (
            {"model": make_quantile_graph(stretch=(1.0, np.nan))},
            "model.onnx: forecasts of a batch of 1 have another shape or are not finite",
        ),
        ({"parity": make_quantile_parity(drop=["quantiles"])}, "parity.npz: the vectors of a batch of 1 are not float64"),
        ({"parity": make_quantile_parity(quantiles_3=np.ones((3, 3, 2, 2)))}, "parity.npz: the vectors of a batch of 3 are not"),
        (
            {"batch_model": make_quantile_graph(stretch=(1 / 49, 49.0))},
            "model.batch.onnx: forecasts of a batch of 64 are not those",
        ),
    ],
)
def test_a_model_whose_quantiles_are_not_as_they_must_be_is_refused(tmp_path, changes, reason):
    publish_quantiles(tmp_path, **changes)
    with pytest.raises(ArtifactError, match=reason):
        open_session(read_artifact(tmp_path, "tiny", 1), "cpu")


def test_a_second_graph_with_quantiles_is_served(tmp_path):
    publish_quantiles(tmp_path, batch_model=make_quantile_graph())
    session = open_session(read_artifact(tmp_path, "tiny", 1), "cpu")
    windows = np.random.default_rng(1).gamma(2, 2, (700, ROWS, 2))
    for _, graph in session.graphs:
        np.testing.assert_allclose(graph.forecast(windows, np.zeros(700, np.int64)), forecast_quantiles(windows), rtol=1e-14)


def test_a_model_with_quantiles_that_was_calibrated_by_its_forecast_serves_as_before(tmp_path):
    publish_quantiles(tmp_path, calibration=CALIBRATION, parity=make_quantile_parity(drop=["quantiles"]))
    session = open_session(read_artifact(tmp_path, "tiny", 1), "cpu")
    windows = np.random.default_rng(1).gamma(2, 2, (5, ROWS, 2))
    np.testing.assert_allclose(session.forecast(windows, np.zeros(5, np.int64)), forecast_mean(windows))


def test_the_canary_tries_quantiles_too(tmp_path):
    publish_quantiles(tmp_path)
    publish_quantiles(tmp_path, version=2, model=make_quantile_graph(stretch=(1.0, 1.5)))
    actual = load_with_canary(tmp_path)
    assert actual[1] == (VersionState.READY, "")
    assert actual[2][0] is VersionState.FAILED
    assert actual[2][1].startswith("model.onnx: parity error 0.5 at batch 1")
