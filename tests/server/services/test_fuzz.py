"""Whatever bytes come: a status of ours with a reason, never UNKNOWN, never an internal error, and the server lives."""

import struct

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mods_grpc.protobuf.arrays import pack_float64, timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, values_pb2
from tests.support.models.tiny import LEVELS
from tests.support.rpc.client import (
    at,
    detect_request,
    forecast_request,
    observation,
    observation_batch,
    read_failure,
    read_status,
    series,
    stamp,
    window,
)

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
REFERENCE = pb.ModelReference(name="tiny", version=1)
NAMED = [values_pb2.NamedValue(feature="conn_in", value=5), values_pb2.NamedValue(feature="bytes_in", value=5)]
VALID = {
    "InferenceService/Forecast": [
        forecast_request(model=REFERENCE, horizon=2, coverages=[0.5, 0.9]),
        forecast_request(window(rows=[values_pb2.Row(values=[1, 2], missing=[False, False])] * 5)),
        pb.ForecastRequest(batch=values_pb2.WindowBatch(start_time_unix_nano=[at(0)], values=pack_float64(LEVELS[:4]))),
    ],
    "InferenceService/Detect": [
        detect_request(model=REFERENCE, sensitivity=pb.Sensitivity(significance=0.01), gap_policy=pb.GapPolicy(impute_rows=2)),
        detect_request(series(judge_rows=2), explain=2),
        detect_request(pb.DetectSeries(series="web", batch=observation_batch(list(range(8)))), explain=2),
        detect_request(series(observations=[observation(row, [], "", named_values=NAMED) for row in range(6)])),
    ],
    "ModelService/ListModels": [model_pb2.ListModelsRequest(page_size=1), model_pb2.ListModelsRequest(page_token="tiny/1")],
    "ModelService/GetModel": [model_pb2.GetModelRequest(name="tiny", version=1)],
}
STREAM = [
    pb.StreamDetectRequest(config=pb.StreamConfig(sensor="fuzz", explain=2, sensitivity=pb.Sensitivity(false_alarms_per_day=2))),
    pb.StreamDetectRequest(data=pb.StreamData(sequence=1, batch=observation_batch(list(range(8))))),
    pb.StreamDetectRequest(data=pb.StreamData(sequence=2, observation=observation(8))),
    pb.StreamDetectRequest(data=pb.StreamData(sequence=3, observation=observation(9, [], named_values=NAMED), warm_up=True)),
]


@st.composite
def mutated(draw, data):
    """Bytes with a few of them set, cut out, put in or repeated."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(result)))
        end = min(len(result), start + draw(st.integers(0, 12)))
        kind = draw(st.sampled_from(["set", "cut", "put", "repeat", "number"]))
        if kind == "set":
            result[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        elif kind == "cut":
            del result[start:end]
        elif kind == "put":
            result[start:start] = draw(st.binary(max_size=8))
        elif kind == "repeat":
            result[start:start] = result[start:end]
        else:
            result[start : start + 8] = struct.pack("<d", draw(st.floats()))
    return bytes(result)


def bytes_of(messages):
    return st.one_of(st.binary(max_size=60), *(mutated(message.SerializeToString()) for message in messages))


def assert_ours(error):
    code, reason, _ = read_failure(error)
    # the largest of numbers are valid and can overflow in the model's mean, which the protocol calls INTERNAL
    assert code != grpc.StatusCode.UNKNOWN
    assert code != grpc.StatusCode.INTERNAL or reason == "MODEL_OUTPUT_INVALID", error


@pytest.fixture
def still_serving(inference):
    yield
    assert inference.Forecast(forecast_request(), timeout=10).model.version == 1


def call(channel, method, data):
    try:
        channel.unary_unary(f"/mods.v1.{method}")(data, timeout=10)
    except grpc.RpcError as error:
        assert_ours(error)


@pytest.mark.parametrize("method", VALID)
def test_unary_requests_of_any_bytes(channel, still_serving, method):
    @FUZZ
    @given(bytes_of(VALID[method]))
    def fuzz(data):
        call(channel, method, data)

    fuzz()


def talk(channel, messages):
    """Send bytes one after the other, each after the answer to the one before."""
    answers = []
    stream = channel.stream_stream("/mods.v1.InferenceService/StreamDetect")(iter(messages), timeout=10)
    try:
        for data in stream:
            answer = pb.StreamDetectResponse.FromString(data).answer
            answers.append(answer)
            for status in (*([answer.error] if answer.HasField("error") else []), *(error.status for error in answer.errors)):
                code, reason, _ = read_status(status)
                assert code != code_pb2.UNKNOWN
                assert code != code_pb2.INTERNAL or reason == "MODEL_OUTPUT_INVALID"
    except grpc.RpcError as error:
        assert_ours(error)
    return answers


def test_streams_of_any_bytes(channel, still_serving):
    @FUZZ
    @given(st.lists(bytes_of(STREAM), min_size=1, max_size=4), st.booleans())
    def fuzz(messages, begin_well):
        talk(channel, [STREAM[0].SerializeToString(), *messages] if begin_well else messages)

    fuzz()


FOREIGN = {
    "grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest(service="readiness"),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(list_services=""),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(file_by_filename="x"),
}


FOREIGN_CODES = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)


def assert_polite(error):
    assert error.code() in FOREIGN_CODES
    assert "class" not in error.details()


@pytest.mark.parametrize("method", FOREIGN)
def test_health_and_reflection_of_any_bytes(server, channel, still_serving, method):
    """Not ours, but on our ports: no class names, never UNKNOWN; a name that is not served is NOT_FOUND."""

    @FUZZ
    @given(bytes_of([FOREIGN[method]]))
    def fuzz(data):
        for place in (channel, health):
            try:
                if method.endswith("Check"):
                    place.unary_unary(f"/{method}")(data, timeout=10)
                else:
                    next(place.stream_stream(f"/{method}")(iter([data]), timeout=10))
            except grpc.RpcError as error:
                assert_polite(error)

    with grpc.insecure_channel(server.health_address) as health:
        fuzz()


EXTREMES = st.sampled_from([0.0, -0.0, 5e-324, 2.2e-308, 1.0, 1e15, 1e150, 1e300, 1.7e308, float("nan"), float("inf"), -1e308])
ANY_NUMBER = st.one_of(EXTREMES, st.floats())
ANY_TIME = st.one_of(
    st.integers(0, 12).map(at), st.sampled_from([-(2**63), 2**63 - 1, 0, -1, at(0) + 1]), st.integers(-(2**63), 2**63 - 1)
)
ANY_TEXT = st.one_of(
    st.sampled_from(["", "web", "../x", "s" * 200, "a\0b"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)


@st.composite
def rows(draw, low=0, high=9):
    """Observations that look right but for their numbers and times."""
    result = []
    for row in range(draw(st.integers(low, high))):
        time = at(row) if draw(st.integers(0, 9)) else draw(ANY_TIME)
        values = LEVELS[row].tolist() if draw(st.integers(0, 4)) else [draw(ANY_NUMBER), draw(ANY_NUMBER)]
        result.append((time, values))
    return result


@st.composite
def sensitivities(draw):
    kind = draw(st.sampled_from(["significance", "false_alarms_per_day"]))
    return pb.Sensitivity(**{kind: draw(ANY_NUMBER)})


def batch_of(drawn, name="web"):
    values = pack_float64([number for _, pair in drawn for number in pair])
    return values_pb2.ObservationBatch(
        series=[name], series_index=[0] * len(drawn), observe_time_unix_nano=[time for time, _ in drawn], values=values
    )


def test_detect_of_any_numbers_times_and_names(inference, still_serving):
    @FUZZ
    @given(rows(4, 9), sensitivities(), ANY_TEXT, st.integers(0, 4), st.integers(0, 200), st.booleans())
    def fuzz(drawn, sensitivity, name, explain, impute, default):
        request = detect_request(
            pb.DetectSeries(series=name, batch=batch_of(drawn)),
            explain=explain,
            gap_policy=pb.GapPolicy(impute_rows=impute),
            **{} if default else {"sensitivity": sensitivity},
        )
        try:
            inference.Detect(request, timeout=10)
        except grpc.RpcError as error:
            assert_ours(error)

    fuzz()


def test_forecasts_of_any_numbers(inference, still_serving):
    @FUZZ
    @given(rows(4, 6), ANY_TIME, st.lists(ANY_NUMBER, max_size=3), st.integers(0, 2**32 - 1))
    def fuzz(drawn, start, coverages, horizon):
        result = window(rows=[values_pb2.Row(values=values) for _, values in drawn], start_time=timestamp_from_nanos(start))
        try:
            inference.Forecast(forecast_request(result, coverages=coverages, horizon=horizon % 5), timeout=10)
        except grpc.RpcError as error:
            assert_ours(error)

    fuzz()


def test_streams_of_any_numbers_and_times(channel, still_serving):
    @FUZZ
    @given(st.lists(rows(0, 9), min_size=1, max_size=3), ANY_TEXT, st.booleans())
    def fuzz(batches, sensor, warm_up):
        messages = [pb.StreamDetectRequest(config=pb.StreamConfig(sensor=sensor, explain=2))]
        for sequence, drawn in enumerate(batches, 1):
            data = pb.StreamData(sequence=sequence, batch=batch_of(drawn), warm_up=warm_up)
            messages.append(pb.StreamDetectRequest(data=data))
        talk(channel, [message.SerializeToString() for message in messages])

    fuzz()


def test_times_that_wrap_around_are_refused(inference):
    """Differences of 64-bit times can overflow and come out ascending; every single time is looked at."""
    slide = 600 * 10**9
    times = [at(row) for row in range(6)]
    low = -(2**63) // slide * slide + slide + times[5] % slide
    middle = low + (2**63 - slide) // slide * slide
    drawn = [(time, [1.0, 1.0]) for time in [*times, low, middle, at(6)]]
    request = detect_request(pb.DetectSeries(series="web", batch=batch_of(drawn)), gap_policy=pb.GapPolicy(impute_rows=2))
    with pytest.raises(grpc.RpcError) as caught:
        inference.Detect(request, timeout=10)
    code, reason, details = read_failure(caught.value)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TIMESTAMP_INVALID")
    assert details["BadRequest"].field_violations[0].field == "series[0].batch.observe_time_unix_nano[6]"


@pytest.mark.parametrize("significance", [5e-324, 1e-310, 1e-300, 1e-17, 1 - 1e-16])
def test_any_significance_above_0_and_below_1_gives_verdicts_with_intervals(inference, significance):
    request = detect_request(series(range(8)), explain=2, sensitivity=pb.Sensitivity(significance=significance))
    for verdict in inference.Detect(request, timeout=10).series[0].verdicts:
        assert verdict.anomalous == (verdict.p_value <= significance)
        assert all(part.lower <= part.upper for part in verdict.features)


@pytest.mark.parametrize("coverage", [5e-324, 1e-17, 1 - 1e-16])
def test_any_coverage_above_0_and_below_1_gives_intervals(inference, coverage):
    (forecast,) = inference.Forecast(forecast_request(coverages=[coverage]), timeout=10).forecasts.forecasts
    for step in forecast.steps:
        assert (np.array(step.intervals[0].lower) <= step.intervals[0].upper).all()


def test_methods_and_services_that_do_not_exist_are_unimplemented(channel):
    for path in ("/mods.v1.InferenceService/Train", "/mods.v2.InferenceService/Detect", "/x"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_same_server_still_watches(channel):
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    request = detect_request(series(observations=[observation(row, series="", observe_time=stamp(row)) for row in range(8)]))
    assert len(stub.Detect(request, timeout=10).series[0].scores.status) == 4
