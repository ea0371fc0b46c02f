"""Forecast, Detect and the model directory when all is well, checked against what one can compute by hand."""

import shutil

import numpy as np
import pytest

from mods_grpc.protobuf.arrays import pack_float64, unpack_float64
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL, EXPLAIN_NONE, VERDICT_STATUS_SCORED, VERDICT_STATUS_WARMING_UP
from tests.support.models.tiny import CALIBRATION, FEATURES, HORIZON, LEVELS, ROWS, SLIDE, publish_tiny
from tests.support.rpc.client import (
    at,
    detect_request,
    forecast_request,
    observation,
    observation_batch,
    read_p_values,
    series,
    window,
)
from tests.support.running_server import channel_to, running_server

NANOS = 10**9


def test_a_forecast_is_the_whole_path_with_its_times_in_raw_units(inference, server):
    response = inference.Forecast(forecast_request())
    assert response.horizon == HORIZON
    assert list(response.features) == list(FEATURES)
    assert response.model.digest == server.model().digest
    (forecast,) = response.forecasts.forecasts
    assert forecast.series == "web"
    assert [step.forecast_time.seconds * NANOS for step in forecast.steps] == [at(ROWS + k) for k in range(HORIZON)]
    for step in forecast.steps:
        np.testing.assert_allclose(step.values, LEVELS[:ROWS].mean(0), rtol=1e-12)


def test_only_the_last_rows_of_a_longer_window_count(inference):
    longer = inference.Forecast(forecast_request(window(range(10)))).forecasts.forecasts[0]
    np.testing.assert_allclose(longer.steps[0].values, LEVELS[6:10].mean(0), rtol=1e-12)
    assert longer.steps[0].forecast_time.seconds * NANOS == at(10)


def test_intervals_nest_and_contain_the_forecast(inference):
    request = forecast_request(coverages=[0.5, 0.8, 0.99], horizon=2)
    steps = inference.Forecast(request).forecasts.forecasts[0].steps
    assert len(steps) == 2
    for step in steps:
        lower, upper = (np.array([getattr(interval, end) for interval in step.intervals]) for end in ("lower", "upper"))
        assert [interval.coverage for interval in step.intervals] == [0.5, 0.8, 0.99]
        assert (np.diff(lower, axis=0) < 0).all()
        assert (np.diff(upper, axis=0) > 0).all()
        assert (lower[0] < step.values).all()
        assert (upper[0] > step.values).all()


def test_rows_and_columns_are_forecast_alike(inference):
    windows = [window(range(i, i + ROWS)) for i in range(5)]
    listed = inference.Forecast(forecast_request(*windows, coverages=[0.9])).forecasts.forecasts
    values = np.stack([LEVELS[i : i + ROWS] for i in range(5)])
    batch = values_pb2.WindowBatch(start_time_unix_nano=[at(i) for i in range(5)], values=pack_float64(values))
    columns = inference.Forecast(pb.ForecastRequest(batch=batch, coverages=[0.9])).batch
    shape = (5, HORIZON, len(FEATURES))
    np.testing.assert_array_equal(unpack_float64(columns.values, shape), [[step.values for step in f.steps] for f in listed])
    np.testing.assert_array_equal(
        unpack_float64(columns.lower, (1, *shape))[0], [[step.intervals[0].lower for step in f.steps] for f in listed]
    )
    np.testing.assert_array_equal(
        unpack_float64(columns.upper, (1, *shape))[0], [[step.intervals[0].upper for step in f.steps] for f in listed]
    )
    assert list(columns.first_forecast_time_unix_nano) == [at(i + ROWS) for i in range(5)]


def test_a_missing_value_of_a_window_is_the_last_known_one(inference):
    rows = [values_pb2.Row(values=LEVELS[row]) for row in range(ROWS)]
    rows[2] = values_pb2.Row(values=[LEVELS[2, 0], 0], missing=[False, True])
    actual = inference.Forecast(forecast_request(window(rows=rows))).forecasts.forecasts[0].steps[0].values
    carried = LEVELS[:ROWS].copy()
    carried[2, 1] = carried[1, 1]
    np.testing.assert_allclose(actual, carried.mean(0), rtol=1e-12)


def test_detect_judges_every_row_that_has_a_window_before_it(inference):
    response = inference.Detect(detect_request(series(range(20)), explain=EXPLAIN_ALL))
    (part,) = response.series
    assert list(part.scores.status) == [VERDICT_STATUS_SCORED] * (20 - ROWS)
    assert list(part.scores.observe_time_unix_nano) == [at(row) for row in range(ROWS, 20)]
    assert response.significance == pytest.approx(1 / 144 / CALIBRATION.extremal_index)
    for row, verdict in enumerate(part.verdicts, start=ROWS):
        for j, feature in enumerate(verdict.features):
            assert feature.expected == pytest.approx(LEVELS[row - ROWS : row, j].mean())
            assert feature.observed == LEVELS[row, j]
            assert feature.lower < feature.expected < feature.upper
        assert verdict.score == pytest.approx(-np.log10(verdict.p_value))
        assert verdict.reason


def test_detect_judges_as_many_of_the_last_rows_as_asked_for(inference):
    every = inference.Detect(detect_request(series(range(20)))).series[0].scores
    last = inference.Detect(detect_request(series(range(20), judge_rows=3))).series[0].scores
    np.testing.assert_array_equal(read_p_values(last), read_p_values(every)[-3:])


def test_detect_keeps_series_apart_and_in_order(inference):
    two = inference.Detect(detect_request(series(range(12), name="a"), series(range(3, 15), name="b"))).series
    assert [part.series for part in two] == ["a", "b"]
    alone = inference.Detect(detect_request(series(range(3, 15), name="b"))).series[0]
    assert two[1].scores == alone.scores


def test_detect_reads_rows_and_columns_alike(inference):
    listed = inference.Detect(detect_request(series(range(12)))).series[0]
    batch = observation_batch(list(range(12)), series_index=[])
    del batch.series[:]
    columns = inference.Detect(detect_request(pb.DetectSeries(series="web", batch=batch))).series[0]
    assert listed == columns


def test_detect_fills_gaps_where_the_policy_says_so(inference):
    observations = [observation(row, series="") for row in range(12) if row not in (8, 9)]
    request = detect_request(series(observations=observations), gap_policy=pb.GapPolicy(impute_rows=2), explain=EXPLAIN_ALL)
    verdicts = inference.Detect(request).series[0].verdicts
    assert [verdict.gap_filled for verdict in verdicts] == [0, 0, 0, 0, 2, 0]
    request.gap_policy.reset = True
    request.explain = EXPLAIN_NONE
    assert list(inference.Detect(request).series[0].scores.status)[-2:] == [VERDICT_STATUS_WARMING_UP] * 2


def test_a_budget_is_turned_into_a_significance_level(inference):
    for sensitivity, level in (
        (pb.Sensitivity(false_alarms_per_day=0.5), 0.5 / 144 / CALIBRATION.extremal_index),
        (pb.Sensitivity(significance=0.02), 0.02),
        (None, 1 / 144 / CALIBRATION.extremal_index),
    ):
        response = inference.Detect(detect_request(sensitivity=sensitivity))
        assert response.significance == pytest.approx(level)
        assert response.false_alarms_per_day == pytest.approx(level * 144 * CALIBRATION.extremal_index)


def test_a_large_request_is_the_same_as_a_small_one(repository):
    """Large requests run on a thread; the answer must not depend on it."""
    with running_server(repository=repository) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        values = np.stack([LEVELS[i : i + ROWS] for i in range(500)] * 4)
        batch = values_pb2.WindowBatch(start_time_unix_nano=[at(0)], values=pack_float64(values))
        actual = unpack_float64(inference.Forecast(pb.ForecastRequest(batch=batch)).batch.values, (2000, HORIZON, 2))
        np.testing.assert_allclose(actual[:, 0], values.mean(1), rtol=1e-12)


def test_the_directory_describes_features_window_and_state(directory, server):
    model = directory.GetModel(model_pb2.GetModelRequest(name="tiny")).model
    assert model.state == model_pb2.MODEL_STATE_READY
    assert [feature.name for feature in model.features] == list(FEATURES)
    assert [feature.kind for feature in model.features] == [model_pb2.FEATURE_KIND_COUNT, model_pb2.FEATURE_KIND_SUM]
    assert (model.window_rows, model.horizon, model.slide.seconds, model.window.seconds) == (ROWS, HORIZON, SLIDE, 3600)
    assert model.digest == server.model().digest
    assert model.provider == "CPUExecutionProvider"


def test_pages_of_models_join_up(tmp_path):
    for name in ("b", "a"):
        for version in (1, 2, 10):
            publish_tiny(tmp_path, name, version)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        listing = channel.unary_unary(
            "/mods.v1.ModelService/ListModels",
            request_serializer=model_pb2.ListModelsRequest.SerializeToString,
            response_deserializer=model_pb2.ListModelsResponse.FromString,
        )
        listed, token = [], ""
        for _ in range(3):
            page = listing(model_pb2.ListModelsRequest(page_size=2, page_token=token))
            listed += [(model.name, model.version) for model in page.models]
            token = page.next_page_token
        assert token == ""
        assert listed == [("a", 10), ("a", 2), ("a", 1), ("b", 10), ("b", 2), ("b", 1)]


def test_the_model_is_read_once_and_not_on_every_prediction(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        shutil.rmtree(tmp_path / "tiny")
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        assert inference.Forecast(forecast_request(), timeout=10).horizon == HORIZON
