"""A series' own intervals on streams and in forecasts: alike however rows are sent, kept, and nobody else's."""

import grpc
import numpy as np
import pytest

from mods_grpc.client import Client, Observation, ObservationBatch, VerdictStatus
from mods_grpc.errors import InvalidInputError
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from tests.support.models.tiny import FEATURES, HORIZON, ROWS, SLIDE, publish_tiny
from tests.support.running_server import running_server

NANOS = 10**9
COUNT = 400
START = 1_556_668_800 * NANOS
TIMES = START + np.arange(COUNT) * SLIDE * NANOS
# twice as restless as what the model was calibrated on
VALUES = np.random.default_rng(9).gamma(15.0, 60.0, (COUNT, 2))
COVERAGES = (0.5, 0.8, 0.95, 0.999)


@pytest.fixture
def repository(tmp_path):
    publish_tiny(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def server(repository):
    with running_server(repository=repository) as running:
        yield running


def rows(first=0, last=COUNT):
    return [Observation("site", time, row) for time, row in zip(TIMES[first:last], VALUES[first:last], strict=True)]


def batches(size):
    parts = [slice(first, first + size) for first in range(0, COUNT, size)]
    return [ObservationBatch(series=["site"] * len(TIMES[part]), times=TIMES[part], values=VALUES[part]) for part in parts]


def stream(address, given, sensor="zeek", **options):
    options = {"significance": 0.2, "explain": "all", "own_intervals": True} | options
    with Client(address) as client:
        return list(client.stream_detect(given, sensor=sensor, **options))


def forecast(address, sensor="zeek", series="site", **options):
    with Client(address, **options) as client:
        return client.forecast(
            VALUES[-ROWS:], int(TIMES[-ROWS]), coverages=COVERAGES, sensor=sensor, series=[series] if series else ()
        )


def ends(verdicts):
    scored = [verdict for verdict in verdicts if verdict.status is VerdictStatus.SCORED]
    return np.array([[(feature.lower, feature.upper) for feature in verdict.features] for verdict in scored])


def state_of(server, sensor="zeek"):
    series = server.model().series
    return series.table.quantiles[series.find_slot(sensor, "site")].copy()


def test_verdicts_have_the_interval_of_their_own_series_alike_for_rows_and_batches(server):
    own, static = stream(server.address, rows()), stream(server.address, rows(), "static", own_intervals=False)
    assert [verdict.p_value for verdict in own] == [verdict.p_value for verdict in static]
    for size in (7, COUNT):
        np.testing.assert_array_equal(ends(stream(server.address, batches(size), f"by {size}")), ends(own))
        np.testing.assert_array_equal(state_of(server, f"by {size}"), state_of(server))
    np.testing.assert_allclose(ends(own)[0], ends(static)[0], rtol=0.3)  # of the calibration, at first
    shares = []
    for verdicts in (own, static):
        lower, upper = np.moveaxis(ends(verdicts), 2, 0)
        observed = VALUES[ROWS:]
        shares.append(((observed >= lower) & (observed <= upper))[150:].mean())
    assert abs(shares[0] - 0.8) < 0.5 * abs(shares[1] - 0.8)


def test_a_forecast_has_the_intervals_of_the_series_that_it_names_and_changes_nothing(server):
    stream(server.address, rows())
    before, calibration = state_of(server), forecast(server.address, sensor="", series="")
    own = forecast(server.address)
    assert own.own_intervals.tolist() == [True]
    detector = server.model().detector
    window = VALUES[-ROWS:].mean(axis=0)[None, None].repeat(HORIZON, axis=1)
    for index, coverage in enumerate(COVERAGES):
        low, high = detector.path_interval(window, coverage, before[None])
        np.testing.assert_array_equal(own.lower[index], low)
        np.testing.assert_array_equal(own.upper[index], high)
    assert not np.allclose(own.upper, calibration.upper, rtol=0.01)
    np.testing.assert_array_equal(own.values, calibration.values)
    np.testing.assert_array_equal(state_of(server), before)
    for other in ({"series": "unknown"}, {"sensor": "unknown"}, {"sensor": ""}, {"series": ""}):
        result = forecast(server.address, **other)
        assert result.own_intervals.tolist() == [False], other
        np.testing.assert_array_equal(result.upper, calibration.upper)


def test_a_series_without_own_intervals_gets_those_of_the_calibration(server):
    stream(server.address, rows(), own_intervals=False)
    assert not forecast(server.address).own_intervals.any()


def test_windows_as_rows_say_each_which_intervals_they_have(server):
    stream(server.address, rows())
    window = values_pb2.Window(rows=[values_pb2.Row(values=row) for row in VALUES[-ROWS:]])
    window.start_time.FromNanoseconds(int(TIMES[-ROWS]))
    windows = []
    for name in ("site", "other", ""):
        windows.append(values_pb2.Window())
        windows[-1].CopyFrom(window)
        windows[-1].series = name
    request = pb.ForecastRequest(windows=pb.WindowList(windows=windows), coverages=[0.8], sensor="zeek")
    with grpc.insecure_channel(server.address) as channel:
        answers = inference_pb2_grpc.InferenceServiceStub(channel).Forecast(request).forecasts.forecasts
    assert [answer.own_intervals for answer in answers] == [True, False, False]
    assert list(answers[0].steps[0].intervals[0].upper) == forecast(server.address).upper[1, 0, 0].tolist()
    assert answers[1].steps == answers[2].steps
    assert len(answers[0].steps[0].values) == len(FEATURES)


@pytest.mark.parametrize(
    ("sensor", "series", "field"),
    [("a\x1fb", ["site"], "sensor"), ("zeek", ["a\nb"], "batch.series[0]"), ("zeek", ["a", "b"], "series")],
)
def test_bad_names_are_refused(server, sensor, series, field):
    with Client(server.address) as client, pytest.raises(InvalidInputError) as refused:
        client.forecast(VALUES[-ROWS:], int(TIMES[-ROWS]), coverages=COVERAGES, sensor=sensor, series=series)
    assert [violation.field for violation in refused.value.violations] == [field]


def test_intervals_outlive_a_restart_with_a_state_file_and_end_with_the_model(repository, tmp_path, server):
    expected = stream(server.address, rows())
    actual = []
    for first in range(0, COUNT, 200):
        with running_server(repository=repository, state_file=str(tmp_path / "state")) as again:
            actual += stream(again.address, rows(first, first + 200))
            last = forecast(again.address)
    np.testing.assert_array_equal(ends(actual), ends(expected))
    np.testing.assert_array_equal(last.upper, forecast(server.address).upper)
    publish_tiny(repository, version=2)
    server.rescan()
    assert not state_of(server).any()
    assert not forecast(server.address).own_intervals.any()
