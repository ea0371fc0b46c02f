"""Traces as a collector receives them: one span per call with its model, rows and status."""

import subprocess
import sys
import time

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc
from tests.support.models.tiny import publish_tiny
from tests.support.rpc.client import Stream, detect_request, forecast_request, window
from tests.support.running_server import channel_to, running_server
from tests.support.trace_collector import read_attributes, running_collector

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    with running_collector() as running:
        yield running


@pytest.fixture
def server(tmp_path, collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path, otlp_endpoint=collector.endpoint) as running:
        yield running


def traced(server, collector):
    """Stop the server, which sends what is left, and return the spans."""
    server.stop()
    assert server.stopped_in_time
    return collector.spans


def test_a_unary_call_is_a_span_with_model_version_rows_and_status(server, inference, collector):
    inference.Forecast(forecast_request(window(), window()))
    inference.Detect(detect_request())
    forecast, detect = traced(server, collector)
    assert collector.resources[0]["service.name"] == "mods-grpc"
    assert (forecast.name, forecast.kind) == ("mods.v1.InferenceService/Forecast", Span.SPAN_KIND_SERVER)
    assert 0 < forecast.end_time_unix_nano - forecast.start_time_unix_nano < 10**10
    expected = {"rpc.system.name": "grpc", "rpc.method": "mods.v1.InferenceService/Forecast", "rpc.response.status_code": "OK"}
    assert read_attributes(forecast) == {**expected, "mods.model": "tiny", "mods.version": 1, "mods.rows": 2}
    assert read_attributes(detect)["mods.rows"] == 4


def test_a_span_continues_the_trace_of_its_caller(server, inference, collector):
    inference.Forecast(forecast_request(), metadata=(("traceparent", f"00-{TRACE}-{PARENT}-01"),))
    inference.Forecast(forecast_request(), metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),))  # not sampled
    inference.Forecast(forecast_request(), metadata=(("traceparent", "garbage"),))
    first, second = traced(server, collector)
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert second.trace_id.hex() != TRACE
    assert second.parent_span_id == b""


def test_a_rejected_request_is_no_error_of_the_server(server, inference, collector):
    with pytest.raises(grpc.RpcError):
        inference.Forecast(pb.ForecastRequest())
    (span,) = traced(server, collector)
    assert read_attributes(span)["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_a_stream_is_one_span_that_counts_its_rows(server, inference, collector):
    stream = Stream(inference)
    for row in range(6):
        stream.row(row)
    stream.batch(list(range(6, 10)))
    stream.end()
    (span,) = traced(server, collector)
    recorded = read_attributes(span)
    assert (recorded["mods.model"], recorded["mods.rows"], recorded["rpc.response.status_code"]) == ("tiny", 10, "OK")


def test_a_cancelled_stream_is_recorded_as_cancelled(server, inference, collector):
    stream = Stream(inference)
    stream.row(0)
    stream.call.cancel()
    span = collector.arrived.get(timeout=30)
    assert read_attributes(span)["rpc.response.status_code"] == "CANCELLED"
    assert read_attributes(span)["mods.rows"] == 1


def test_a_stream_ended_by_a_drain_is_an_error(server, inference, collector):
    stream = Stream(inference)
    stream.row(0)
    (span,) = traced(server, collector)
    assert read_attributes(span)["error.type"] == "UNAVAILABLE"
    assert span.status.code == Status.STATUS_CODE_ERROR


def test_model_calls_have_spans_and_reflection_and_health_calls_have_none(server, collector):
    with channel_to(server) as channel:
        model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest())
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
    (span,) = traced(server, collector)
    assert span.name == "mods.v1.ModelService/ListModels"


def test_spans_hold_no_series_sensors_values_or_credentials(server, inference, collector):
    stream = Stream(inference, sensor="very-secret-sensor")
    stream.row(0, series="very-secret-series")
    stream.end()
    inference.Forecast(forecast_request(), metadata=(("authorization", "Bearer very-secret-token"),))
    spans = traced(server, collector)
    assert len(spans) == 2
    assert not any(b"very-secret" in span.SerializeToString() for span in spans)


def test_an_absent_collector_delays_neither_calls_nor_the_shutdown(tmp_path):
    publish_tiny(tmp_path)
    with running_collector() as collector:
        endpoint = collector.endpoint
    with running_server(repository=tmp_path, otlp_endpoint=endpoint) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        started = time.monotonic()
        for _ in range(100):
            inference.Forecast(forecast_request())
        assert time.monotonic() - started < 5
        server.stop()
        assert time.monotonic() - started < 15
        assert server.stopped_in_time


def test_opentelemetry_is_not_imported_without_an_endpoint():
    code = "import sys, mods_grpc.server.app; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
