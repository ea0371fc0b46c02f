"""Admission control: rate limits per caller, and a bounded queue that knows how long its jobs take."""

import grpc
import pytest

from mods_grpc.errors import DeadlineError, QuotaError, Reason
from mods_grpc.server.scheduling.admission import AdmissionQueue, RateLimiter
from mods_grpc.v1 import inference_pb2_grpc
from tests.support.rpc.client import forecast_request
from tests.support.running_server import running_server


def test_an_exceeded_rate_limit_states_the_time_to_wait(repository):
    with (
        running_server(repository=repository, max_messages_per_second=5.0) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        calls = [inference.Forecast.future(forecast_request(), timeout=10) for _ in range(50)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_rate_limits_apply_per_caller():
    rates = RateLimiter(2.0)
    for _ in range(4):
        rates.acquire("zeek")
    with pytest.raises(QuotaError) as caught:
        rates.acquire("zeek")
    assert caught.value.reason is Reason.RATE_LIMIT
    assert 0 < caught.value.retry_seconds <= 0.5
    rates.acquire("suricata")


def test_a_full_admission_queue_rejects_immediately():
    admission = AdmissionQueue(2, 1)
    admission.admit(None)
    admission.admit(None)
    with pytest.raises(QuotaError) as caught:
        admission.admit(None)
    assert caught.value.reason is Reason.OVERLOADED
    admission.done(1.0)
    admission.admit(None)


def test_an_unattainable_deadline_is_rejected_but_not_forever():
    admission = AdmissionQueue(8, 1)
    admission.admit(None)
    admission.done(1.0)
    with pytest.raises(DeadlineError) as caught:
        admission.admit(0.5)
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
    for _ in range(4):
        try:
            admission.admit(0.5)
        except DeadlineError:
            continue
    assert admission.pending > 0
