"""Requests to a server, the failures that it returns, and a stream of one message at a time."""

import queue

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mods_grpc.protobuf.arrays import pack_float64, timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2
from tests.support.models.tiny import LEVELS, SLIDE

NANOS = 10**9
START = 1_556_668_800 * NANOS


def at(row):
    return START + row * SLIDE * NANOS


def stamp(row):
    return timestamp_from_nanos(at(row))


def observation(row, values=None, series="web", **changes):
    fields = {"series": series, "observe_time": stamp(row), "values": LEVELS[row] if values is None else values}
    return values_pb2.Observation(**fields | changes)


def observation_batch(rows, series="web", values=None, **changes):
    fields = {
        "series": [series],
        "series_index": [0] * len(rows),
        "observe_time_unix_nano": [at(row) for row in rows],
        "values": pack_float64(LEVELS[rows] if values is None else np.asarray(values, float)),
    }
    return values_pb2.ObservationBatch(**fields | changes)


def window(which=range(4), **changes):
    fields = {"series": "web", "start_time": stamp(0), "rows": [values_pb2.Row(values=LEVELS[row]) for row in which]}
    return values_pb2.Window(**fields | changes)


def forecast_request(*windows, **changes):
    return pb.ForecastRequest(**{"windows": pb.WindowList(windows=windows or [window()])} | changes)


def series(rows=range(8), name="web", observations=None, **changes):
    listed = [observation(row, series="") for row in rows] if observations is None else observations
    return pb.DetectSeries(**{"series": name, "observations": pb.ObservationList(observations=listed)} | changes)


def detect_request(*listed, **changes):
    return pb.DetectRequest(**{"series": listed or [series()]} | changes)


def read_details(status):
    details = {}
    for detail in status.details:
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
            error_details_pb2.QuotaFailure,
            error_details_pb2.ResourceInfo,
            error_details_pb2.PreconditionFailure,
        ):
            if detail.Is(kind.DESCRIPTOR):
                details[kind.DESCRIPTOR.name] = kind.FromString(detail.value)
    return details


def read_failure(error):
    """Return (code, reason, details) of a failed call; every failure of ours carries ErrorInfo of our domain."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    return (error.code(), *read_status(status)[1:])


def read_status(status: status_pb2.Status):
    details = read_details(status)
    assert details["ErrorInfo"].domain == "mods.v1"
    return status.code, details["ErrorInfo"].reason, details


def assert_fails(call, request, code, reason, field):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    actual_code, actual_reason, details = read_failure(caught.value)
    assert (actual_code, actual_reason) == (code, reason)
    if field is not None:
        assert details["BadRequest"].field_violations[0].field == field
    assert all(word not in caught.value.details() for word in ("Traceback", "/", "Error:", "<class"))


class Stream:
    """A StreamDetect call, one message at a time."""

    def __init__(self, inference, config=True, timeout=30, **fields):
        self._requests = queue.SimpleQueue()
        self.call = inference.StreamDetect(iter(self._requests.get, None), timeout=timeout)
        self._sequence = 0
        if config:
            self.opened = self.ask(config=pb.StreamConfig(**{"sensor": "test"} | fields)).opened

    def put(self, **message):
        self._requests.put(pb.StreamDetectRequest(**message))

    def read(self):
        return next(self.call)

    def ask(self, **message):
        self.put(**message)
        return self.read()

    def send(self, *, sequence=None, **fields):
        self._sequence = self._sequence + 1 if sequence is None else sequence
        return self.ask(data=pb.StreamData(sequence=self._sequence, **fields)).answer

    def begin(self, **fields):
        self._sequence += 1
        self.put(data=pb.StreamData(sequence=self._sequence, **fields))

    def row(self, row, values=None, **changes):
        return self.send(observation=observation(row, values, **changes))

    def batch(self, rows, values=None, **changes):
        return self.send(batch=observation_batch(rows, values=values, **changes))

    def end(self):
        return self.ask(end=pb.StreamEnd()).ended

    def cut(self):
        self.call.cancel()
        self._requests.put(None)

    def stop_sending(self):
        self._requests.put(None)

    def failure(self):
        try:
            while True:
                next(self.call)
        except StopIteration:
            return grpc.StatusCode.OK, "", {}
        except grpc.RpcError as error:
            return read_failure(error)
        finally:
            self._requests.put(None)


def read_p_values(scores):
    return np.frombuffer(scores.p_value, "<f8")
