"""Every row of the protocol's table of bad input, for unary calls: the code, the reason, the field."""

import grpc
import numpy as np
import pytest

from mods_grpc.protobuf.arrays import pack_float64, timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, values_pb2
from tests.support.models.tiny import LEVELS, publish_tiny
from tests.support.rpc.client import assert_fails, at, forecast_request, read_failure, window
from tests.support.running_server import channel_to, running_server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAN, INF = float("nan"), float("inf")


def rows_with(row, value, feature=0):
    values = LEVELS[:4].copy()
    values[row, feature] = value
    return [values_pb2.Row(values=found) for found in values]


def batch_of(windows=1, **changes):
    fields = {"start_time_unix_nano": [at(0)], "values": pack_float64(np.tile(LEVELS[:4], (windows, 1)))}
    return values_pb2.WindowBatch(**fields | changes)


FORECASTS = {
    "no input": (pb.ForecastRequest(), INVALID, "FIELD_REQUIRED", "input"),
    "no windows": (pb.ForecastRequest(windows=pb.WindowList()), INVALID, "EMPTY_INPUT", "windows.windows"),
    "no rows": (forecast_request(window(())), INVALID, "EMPTY_INPUT", "windows.windows[0].rows"),
    "too few rows": (forecast_request(window(range(3))), INVALID, "WINDOW_TOO_SHORT", "windows.windows[0].rows"),
    "too many rows": (forecast_request(window(range(65))), INVALID, "WINDOW_TOO_LONG", "windows.windows[0].rows"),
    "too many windows": (forecast_request(*[window()] * 65), INVALID, "BATCH_TOO_LARGE", "windows.windows"),
    "too large a batch": (pb.ForecastRequest(batch=batch_of(65)), INVALID, "BATCH_TOO_LARGE", "batch.values"),
    "an empty batch": (pb.ForecastRequest(batch=batch_of(0)), INVALID, "EMPTY_INPUT", "batch.values"),
    "a byte too many": (pb.ForecastRequest(batch=batch_of(values=bytes(65))), INVALID, "SHAPE_MISMATCH", "batch.values"),
    "times of another number": (
        pb.ForecastRequest(batch=batch_of(3, start_time_unix_nano=[at(0), at(1)])),
        INVALID,
        "SHAPE_MISMATCH",
        "batch.start_time_unix_nano",
    ),
    "a mask of another size": (pb.ForecastRequest(batch=batch_of(missing=b"\1")), INVALID, "SHAPE_MISMATCH", "batch.missing"),
    "ragged rows": (
        forecast_request(window(rows=[*rows_with(0, 1)[:3], values_pb2.Row(values=[1])])),
        INVALID,
        "SHAPE_MISMATCH",
        "windows.windows[0].rows[3].values",
    ),
    "NaN": (forecast_request(window(rows=rows_with(2, NAN))), INVALID, "VALUE_NAN", "windows.windows[0].rows[2].values[0]"),
    "infinite": (
        forecast_request(window(rows=rows_with(1, INF, 1))),
        INVALID,
        "VALUE_INFINITE",
        "windows.windows[0].rows[1].values[1]",
    ),
    "a negative count": (
        forecast_request(window(rows=rows_with(3, -1))),
        INVALID,
        "VALUE_NEGATIVE",
        "windows.windows[0].rows[3].values[0]",
    ),
    "a negative count in a batch": (
        pb.ForecastRequest(batch=batch_of(values=pack_float64(-LEVELS[:4]))),
        INVALID,
        "VALUE_NEGATIVE",
        "batch.values[window 0, row 0, feature 0]",
    ),
    "a first row that is missing": (
        forecast_request(window(rows=[values_pb2.Row(values=[0, 1], missing=[True, False]), *rows_with(0, 1)[1:]])),
        INVALID,
        "FEATURE_MISSING",
        "windows.windows[0].rows[0].missing",
    ),
    "no time": (
        forecast_request(values_pb2.Window(rows=rows_with(0, 1))),
        INVALID,
        "TIMESTAMP_INVALID",
        "windows.windows[0].start_time",
    ),
    "an absurd time": (
        forecast_request(window(start_time=timestamp_from_nanos(0))),
        INVALID,
        "TIMESTAMP_INVALID",
        "windows.windows[0].start_time",
    ),
    "a time in the future": (
        forecast_request(window(start_time=timestamp_from_nanos(4_102_444_800 * 10**9))),
        INVALID,
        "TIMESTAMP_FUTURE",
        "windows.windows[0].start_time",
    ),
    "horizon 0": (forecast_request(horizon=0), INVALID, "HORIZON_INVALID", "horizon"),
    "horizon above the model's": (forecast_request(horizon=4), grpc.StatusCode.OUT_OF_RANGE, "HORIZON_TOO_LONG", ""),
    "coverage 1": (forecast_request(coverages=[0.9, 1.0]), INVALID, "FIELD_INVALID", "coverages[1]"),
    "coverage NaN": (forecast_request(coverages=[NAN]), INVALID, "FIELD_INVALID", "coverages[0]"),
    "an odd series": (forecast_request(window(series="a\nb")), INVALID, "SERIES_ID_INVALID", "windows.windows[0].series"),
    "a model name like a path": (
        forecast_request(model=pb.ModelReference(name="../tiny")),
        INVALID,
        "MODEL_NAME_INVALID",
        "model.name",
    ),
    "a model name too long": (
        forecast_request(model=pb.ModelReference(name="m" * 65)),
        INVALID,
        "MODEL_NAME_INVALID",
        "model.name",
    ),
    "an unknown model": (
        forecast_request(model=pb.ModelReference(name="other")),
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        None,
    ),
    "an unknown version": (
        forecast_request(model=pb.ModelReference(name="tiny", version=2)),
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        None,
    ),
    "version 0": (
        forecast_request(model=pb.ModelReference(name="tiny", version=0)),
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        None,
    ),
}


@pytest.mark.parametrize("case", FORECASTS)
def test_a_bad_forecast_request_is_answered_with_its_violations(inference, case):
    request, code, reason, field = FORECASTS[case]
    assert_fails(inference.Forecast, request, code, reason, field)


@pytest.mark.parametrize(
    "method", ["InferenceService/Forecast", "InferenceService/Detect", "ModelService/ListModels", "ModelService/GetModel"]
)
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe\x12\x02\xff\xfe"], ids=["not protobuf", "bad UTF-8"])
def test_bytes_that_are_no_message_are_an_invalid_argument(channel, method, data):
    call = channel.unary_unary(f"/mods.v1.{method}")
    with pytest.raises(grpc.RpcError) as caught:
        call(data, timeout=10)
    assert read_failure(caught.value)[:2] == (INVALID, "MALFORMED_REQUEST")


def test_a_message_above_the_limit_is_refused_by_grpc(inference, server):
    request = pb.ForecastRequest(batch=values_pb2.WindowBatch(values=bytes(server.config.max_message_bytes + 1)))
    with pytest.raises(grpc.RpcError) as caught:
        inference.Forecast(request, timeout=10)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_above_the_limit_is_refused_by_grpc(inference, server):
    metadata = (("x", "y" * (server.config.max_metadata_bytes + 1_000)),)
    with pytest.raises(grpc.RpcError) as caught:
        inference.Forecast(forecast_request(), timeout=10, metadata=metadata)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_hundred_violations_are_returned_as_twenty_and_a_count(inference):
    rows = [values_pb2.Row(values=[-1, -1])] * 50
    with pytest.raises(grpc.RpcError) as caught:
        inference.Forecast(forecast_request(window(rows=rows)), timeout=10)
    violations = read_failure(caught.value)[2]["BadRequest"].field_violations
    assert len(violations) == 21
    assert violations[20].description == "and 80 more violations"


def test_a_name_is_needed_only_where_there_is_a_choice_and_pages_must_be_sane(directory):
    assert directory.GetModel(model_pb2.GetModelRequest()).model.name == "tiny"
    for request, reason in (
        (model_pb2.ListModelsRequest(page_size=1001), "FIELD_INVALID"),
        (model_pb2.ListModelsRequest(page_token="no such"), "FIELD_INVALID"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            directory.ListModels(request, timeout=10)
        assert read_failure(caught.value)[:2] == (INVALID, reason)


def test_an_answer_above_the_limit_is_refused_with_its_size(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path, max_message_bytes=4096) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        request = pb.ForecastRequest(batch=batch_of(8), coverages=[0.5])
        assert inference.Forecast(request, timeout=10).batch.lower
        request.coverages.extend([0.6, 0.7, 0.8, 0.9, 0.91, 0.92, 0.93, 0.94])
        with pytest.raises(grpc.RpcError) as caught:
            inference.Forecast(request, timeout=10)
        code, reason, details = read_failure(caught.value)
        assert (code, reason) == (INVALID, "BATCH_TOO_LARGE")
        assert details["ErrorInfo"].metadata["limit"] == "4096"
