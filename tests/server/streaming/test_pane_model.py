"""Models whose rows hold panes, served: beside versions that take whole windows, whatever way the rows come."""

import shutil

import grpc
import numpy as np
import pytest

from mods_grpc.client import Client, ModelState, Observation, ObservationBatch, VerdictStatus
from mods_grpc.detection import Monitor
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.server.config import TRANSPORTS
from mods_grpc.server.models.versions import VersionState
from mods_grpc.v1 import inference_pb2_grpc
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL, VERDICT_STATUS_SCORED
from tests.server.models.test_canary import load_with_canary
from tests.support.loaded_repository import load_repository, read_states
from tests.support.models.panes import HAS_PANES, PANES, forecast_panes, make_pane_graph, publish_panes
from tests.support.models.tiny import FEATURES, LEVELS, ROWS, SLIDE, forecast_mean, publish_tiny
from tests.support.rpc.client import (
    Stream,
    assert_fails,
    at,
    detect_request,
    forecast_request,
    observation,
    series,
    window,
)
from tests.support.running_server import channel_to, running_server

COUNT = 120
OPTIONS = {"false_alarms_per_day": 4.0, "impute_rows": 3, "panes": True}
READY, RETIRED = VersionState.READY, VersionState.RETIRED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISMATCH = (INVALID, Reason.PANES_MISMATCH, "panes")


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("panes")
    publish_tiny(folder, version=1, window_seconds=PANES * SLIDE)
    publish_panes(folder, version=2)
    with running_server(repository=folder, transport=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def traffic():
    """Rows with holes in time, missing values and spikes."""
    rng = np.random.default_rng(12)
    values = rng.gamma(50.0, 20.0, (COUNT, 2))
    values[::23] *= 6
    values[17::31, 0] = np.nan
    rows = np.cumsum(rng.choice([1, 1, 1, 1, 1, 1, 2, 3], COUNT))
    return [at(int(row)) for row in rows], values


def judge(server, traffic, significance):
    """Return what a monitor of our own says of all rows in one call."""
    model = server.model("tiny", 2)
    table = model.detector.table(ROWS)
    monitor = Monitor(model.detector, model.session.forecast, table, slide_seconds=SLIDE, holdoff_rows=6)
    return monitor.observe(
        np.full(COUNT, table.allocate()),
        np.array(traffic[0]),
        traffic[1],
        reported=np.ones(COUNT, bool),
        significance=significance,
        impute_rows=3,
    )


def as_single_rows(times, values):
    return [Observation("web", time, row) for time, row in zip(times, values, strict=True)]


def as_batches(times, values):
    return [
        ObservationBatch(series=["web"] * len(times[i : i + 7]), times=times[i : i + 7], values=values[i : i + 7])
        for i in range(0, COUNT, 7)
    ]


@pytest.mark.parametrize("split", [as_single_rows, as_batches])
def test_a_stream_has_the_verdicts_of_one_call_of_a_monitor(server, traffic, split):
    options = {"sensor": split.__name__, "explain": "all", "fixed_level": True} | OPTIONS
    with Client(server.address) as client, client.stream_detect(split(*traffic), **options) as stream:
        assert stream.opened.panes == (FEATURES[0],)
        significance = stream.opened.significance
        verdicts = [verdict for verdict in stream if verdict.status is not VerdictStatus.WARMING_UP]
    expected = judge(server, traffic, significance)
    scored = np.flatnonzero(np.isfinite(expected.p_value))
    assert expected.anomalous.sum() > 2
    assert {verdict.model.version for verdict in verdicts} == {2}
    np.testing.assert_array_equal([verdict.p_value for verdict in verdicts], expected.p_value[scored])
    np.testing.assert_array_equal([verdict.anomalous for verdict in verdicts], expected.anomalous[scored])
    observed = [[np.nan if part.observed is None else part.observed for part in v.features] for v in verdicts]
    np.testing.assert_array_equal(observed, expected.observed[scored])


def test_detect_judges_windows_as_a_monitor_does(server, traffic):
    with Client(server.address) as client:
        actual = client.detect(*traffic, series="web", explain="all", **OPTIONS)
    expected = judge(server, traffic, actual.significance)
    np.testing.assert_array_equal(actual.p_values, expected.p_value[ROWS:])
    np.testing.assert_array_equal(
        [[part.expected for part in verdict.features] for verdict in actual.verdicts], expected.expected[ROWS:]
    )


def test_a_forecast_is_of_whole_windows(server):
    windows = np.stack([LEVELS[:ROWS], LEVELS[9 : 9 + ROWS]])
    with Client(server.address) as client:
        actual = client.forecast(windows, [at(0), at(9)], coverages=(0.8,), panes=True)
    np.testing.assert_allclose(actual.values, forecast_panes(windows), rtol=1e-12)
    assert actual.values[0, 0, 0] > LEVELS[ROWS - 2 : ROWS, 0].sum()
    assert (actual.lower[0] < actual.values).all()


def test_without_panes_the_newest_version_that_takes_whole_windows_answers(server, traffic):
    windows = LEVELS[None, :ROWS]
    with Client(server.address) as client:
        models = {model.version: model for model in client.models()}
        forecast = client.forecast(windows, at(0))
        detection = client.detect(*traffic, impute_rows=3)
        with client.stream_detect(as_single_rows(*traffic), sensor="whole") as stream:
            assert (stream.opened.panes, next(stream).model.version) == ((), 1)
    assert {version: model.state for version, model in models.items()} == {1: ModelState.READY, 2: ModelState.READY}
    assert {v: tuple(feature.pane for feature in model.features) for v, model in models.items()} == {
        1: (False, False),
        2: HAS_PANES,
    }
    assert (forecast.model.version, detection.model.version) == (1, 1)
    np.testing.assert_allclose(forecast.values, forecast_mean(windows), rtol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
def test_rows_that_a_named_version_would_misread_are_refused_with_what_to_do(server, version):
    fields = {"model": {"name": "tiny", "version": version}, "panes": version == 1}
    with channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        assert_fails(stub.Forecast, forecast_request(**fields), *MISMATCH)
        assert_fails(stub.Detect, detect_request(**fields), *MISMATCH)
        stream = Stream(stub, config=False)
        stream.put(config={"sensor": "test"} | fields)
        code, reason, details = stream.failure()
    assert (code, reason) == MISMATCH[:2]
    text = details["BadRequest"].field_violations[0].description
    assert ("leave panes out" if version == 1 else "set panes") in text


@pytest.mark.parametrize("panes", [False, True])
def test_rows_that_no_version_takes_are_refused_with_what_to_do(tmp_path, panes):
    publish = publish_tiny if panes else publish_panes
    publish(tmp_path)
    with running_server(repository=tmp_path) as server, Client(server.address) as client:
        with pytest.raises(InvalidInputError) as caught:
            client.forecast(LEVELS[None, :ROWS], at(0), panes=panes)
        assert client.forecast(LEVELS[None, :ROWS], at(0), panes=not panes).model.version == 1
    assert caught.value.reason is Reason.PANES_MISMATCH
    assert ("send whole windows" if panes else "set panes") in caught.value.message


def test_a_value_below_zero_is_refused_as_in_whole_windows(server):
    below = [observation(row, [-1.0, 1.0] if row == 5 else None, series="") for row in range(8)]
    with channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = detect_request(series(observations=below), panes=True)
        assert_fails(stub.Detect, request, INVALID, "VALUE_NEGATIVE", "series[0].observations.observations[5].values[0]")


def test_series_stay_with_versions_that_read_their_rows_when_another_one_is_added(tmp_path):
    publish_tiny(tmp_path, version=1, window_seconds=PANES * SLIDE)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        stream, other = (Stream(stub, sensor=name, explain=EXPLAIN_ALL) for name in ("a", "b"))
        for row in range(8):
            expected = [stream.row(row), other.row(row)][0]
        publish_panes(tmp_path, version=2)
        server.rescan()
        panes = Stream(stub, sensor="a", panes=True, explain=EXPLAIN_ALL)
        assert (list(panes.opened.pane), panes.opened.series_held) == ([True, False], 0)
        assert panes.row(0).verdict.status != VERDICT_STATUS_SCORED
        answers = [stream.row(row).verdict for row in range(8, 12)]
        assert {verdict.status for verdict in (expected.verdict, *answers)} == {VERDICT_STATUS_SCORED}
        publish_tiny(tmp_path, version=3, window_seconds=PANES * SLIDE)
        server.rescan()
        assert stream.row(12).verdict.status == VERDICT_STATUS_SCORED  # moved to version 3, with its window
        assert panes.row(1).verdict.status != VERDICT_STATUS_SCORED
        with Client(server.address) as client:
            assert client.forecast(LEVELS[None, :ROWS], at(0)).model.version == 3
            assert client.forecast(LEVELS[None, :ROWS], at(0), panes=True).model.version == 2
        for version in (1, 3):
            shutil.rmtree(tmp_path / "tiny" / str(version))
        server.rescan()
        stream.begin(observation=observation(13))
        assert stream.failure()[1] == Reason.MODEL_RETIRED
        assert panes.row(2).verdict.status != VERDICT_STATUS_SCORED


def test_a_version_that_takes_whole_windows_stays_in_memory_however_many_take_panes(tmp_path):
    publish_tiny(tmp_path, version=1, window_seconds=PANES * SLIDE)
    for version in (2, 3, 4):
        publish_panes(tmp_path, version=version)
    repository = load_repository(tmp_path)
    assert read_states(repository) == {("tiny", 4): READY, ("tiny", 3): RETIRED, ("tiny", 2): RETIRED, ("tiny", 1): READY}
    assert [entry.version for entry in repository.entries() if entry.loaded] == [4, 3, 1]
    assert repository.serving("tiny", None, False).manifest.version == 1
    assert repository.serving("tiny", None, True).manifest.version == 4
    assert repository.serving("tiny", None).manifest.version == 4


def test_the_canary_loads_a_version_that_takes_panes_and_parity_is_checked(tmp_path):
    publish_panes(tmp_path, version=1)
    publish_panes(tmp_path, version=2, model=make_pane_graph((True, True)))
    outcomes = load_with_canary(tmp_path)
    assert outcomes[1] == (READY, "")
    assert outcomes[2][0] is VersionState.FAILED
    assert "parity" in outcomes[2][1]


def test_state_that_outlives_the_process_is_continued_by_a_version_that_reads_it(tmp_path):
    folder, path = tmp_path / "models", str(tmp_path / "state")
    publish_panes(folder)
    options = {"repository": folder, "state_file": path, "state_interval_seconds": 0.0}
    fields = {"sensor": "zeek", "explain": EXPLAIN_ALL, "panes": True}
    with running_server(repository=folder) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), **fields)
        expected = [stream.row(row).verdict for row in range(20)]
    actual = []
    for first in (0, 9):
        with running_server(**options) as server, channel_to(server) as channel:
            stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), **fields)
            assert stream.opened.series_held == (1 if first else 0)
            actual += [stream.row(row).verdict for row in range(first, 9 if first == 0 else 20)]
            stream.end()
    assert actual == expected
    shutil.rmtree(folder / "tiny")
    publish_tiny(folder, window_seconds=PANES * SLIDE)
    with running_server(**options) as server, channel_to(server) as channel:
        stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="zeek")
        assert stream.opened.series_held == 0
        assert stream.row(20).verdict.status != VERDICT_STATUS_SCORED
        assert server.app.repository.count_waiting() == {"tiny": 1}


def test_forecasts_of_rows_and_of_columns_are_the_same(server):
    with channel_to(server) as channel, Client(server.address) as client:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        response = stub.Forecast(forecast_request(window(), panes=True), timeout=10)
        columns = client.forecast(LEVELS[:ROWS], at(0), panes=True)
    steps = [list(step.values) for step in response.forecasts.forecasts[0].steps]
    np.testing.assert_array_equal(steps, columns.values[0])
