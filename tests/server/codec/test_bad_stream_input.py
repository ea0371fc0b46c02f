"""Every row of the table of bad input for streams: told in band, or the end of the stream."""

import asyncio

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2

from mods_grpc.protobuf.arrays import timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2
from mods_grpc.v1.verdict_pb2 import (
    VERDICT_STATUS_LATE,
    VERDICT_STATUS_REJECTED,
    VERDICT_STATUS_SCORED,
    VERDICT_STATUS_WARMING_UP,
)
from tests.support.models.tiny import LEVELS
from tests.support.rpc.client import (
    Stream,
    at,
    observation,
    observation_batch,
    read_failure,
    read_p_values,
    read_status,
)

NAN, INF = float("nan"), float("inf")


def one(row, values=None, **changes):
    return {"observation": observation(row, values, **changes)}


def many(rows, **changes):
    return {"batch": observation_batch(rows, **changes)}


LATER = timestamp_from_nanos(4_102_444_800 * 10**9)
NAMED = [values_pb2.NamedValue(feature="conn_in", value=1)]

WHOLE_MESSAGE = {
    "no input": ({}, "FIELD_REQUIRED"),
    "an empty batch": (many([]), "EMPTY_INPUT"),
    "too large a batch": (many(list(range(65))), "BATCH_TOO_LARGE"),
    "bytes that do not fit": (many([8], values=[1, 2, 3]), "SHAPE_MISMATCH"),
    "a mask that does not fit": (many([8], missing=b"\1"), "SHAPE_MISMATCH"),
    "a mask byte above 1": (many([8], missing=b"\2\0"), "FIELD_INVALID"),
    "times of another number": (many([8, 9, 10], observe_time_unix_nano=[at(8), at(9)]), "SHAPE_MISMATCH"),
    "an index without series": (many([8], series_index=[1]), "SHAPE_MISMATCH"),
    "indices of another number": (many([8, 9], series_index=[0]), "SHAPE_MISMATCH"),
    "series of another number": (many([8, 9], series_index=[]), "SHAPE_MISMATCH"),
    "too few values": (one(8, [1]), "SHAPE_MISMATCH"),
    "no values": (one(8, []), "SHAPE_MISMATCH"),
    "no time": (
        {"observation": values_pb2.Observation(series="web", values=[1, 1])},
        "TIMESTAMP_INVALID",
    ),
    "a feature absent": (one(8, [], named_values=NAMED), "FEATURE_MISSING"),
    "a feature unknown": (one(8, [], named_values=[values_pb2.NamedValue(feature="x"), *NAMED]), "FEATURE_UNKNOWN"),
    "a feature twice": (one(8, [], named_values=NAMED * 2), "FEATURE_DUPLICATE"),
}

SINGLE = {
    "NaN": (one(8, [NAN, 1]), "INVALID_ARGUMENT", "VALUE_NAN"),
    "infinite": (one(8, [1, INF]), "INVALID_ARGUMENT", "VALUE_INFINITE"),
    "negative": (one(8, [-1, 1]), "INVALID_ARGUMENT", "VALUE_NEGATIVE"),
    "an absurd time": (one(8, observe_time=timestamp_from_nanos(0)), "INVALID_ARGUMENT", "TIMESTAMP_INVALID"),
    "a time in the future": (one(8, observe_time=LATER), "INVALID_ARGUMENT", "TIMESTAMP_FUTURE"),
    "a time off the grid": (
        one(8, observe_time=timestamp_from_nanos(at(8) + 1)),
        "INVALID_ARGUMENT",
        "INTERVAL_MISMATCH",
    ),
    "a late observation": (one(0), "OUT_OF_RANGE", "OBSERVATION_LATE"),
    "other values at the same time": (one(7, [1, 1]), "ALREADY_EXISTS", "DUPLICATE_CONFLICT"),
    "no series": (one(8, series=""), "INVALID_ARGUMENT", "SERIES_ID_INVALID"),
    "too long a series": (one(8, series="s" * 129), "INVALID_ARGUMENT", "SERIES_ID_INVALID"),
    "control characters": (one(8, series="a\x1b[31m"), "INVALID_ARGUMENT", "SERIES_ID_INVALID"),
    "a row without any value": (one(8, [0, 0], missing=[True, True]), "INVALID_ARGUMENT", "FEATURE_MISSING"),
    "a first row that is not complete": (
        one(8, [0, 1], series="new", missing=[True, False]),
        "INVALID_ARGUMENT",
        "FEATURE_MISSING",
    ),
}


@pytest.mark.parametrize("case", WHOLE_MESSAGE)
def test_a_message_that_cannot_be_read_is_answered_in_band_and_changes_nothing(warm, server, case):
    fields, reason = WHOLE_MESSAGE[case]
    before = server.snapshot()
    answer = warm.send(**fields)
    assert answer.sequence == 2
    code, actual, details = read_status(answer.error)
    assert (code, actual) == (code_pb2.INVALID_ARGUMENT, reason)
    assert details["BadRequest"].field_violations[0].field.startswith("data.")
    assert server.snapshot() == before
    assert warm.row(8).verdict.status == VERDICT_STATUS_SCORED


@pytest.mark.parametrize("case", SINGLE)
def test_a_bad_observation_is_answered_in_band_and_changes_nothing(warm, server, case):
    fields, code, reason = SINGLE[case]
    before, held = server.snapshot(), len(server.model().series._owners)
    answer = warm.send(**fields)
    assert [error.index for error in answer.errors] == [0]
    assert read_status(answer.errors[0].status)[:2] == (code_pb2.Code.Value(code), reason)
    late = reason == "OBSERVATION_LATE"
    assert answer.verdict.status == (VERDICT_STATUS_LATE if late else VERDICT_STATUS_REJECTED)
    assert server.snapshot() == before
    assert len(server.model().series._owners) == held
    assert warm.row(8).verdict.status == VERDICT_STATUS_SCORED


def test_bad_observations_of_a_batch_are_named_and_the_rest_is_applied(warm):
    values = LEVELS[8:12].copy()
    values[1, 0], values[3, 1] = NAN, -5
    answer = warm.send(batch=observation_batch([8, 9, 10, 11], values=values))
    assert [error.index for error in answer.errors] == [1, 3]
    assert [read_status(error.status)[1] for error in answer.errors] == ["VALUE_NAN", "VALUE_NEGATIVE"]
    scored, rejected = VERDICT_STATUS_SCORED, VERDICT_STATUS_REJECTED
    assert list(answer.scores.status) == [scored, rejected, scored, rejected]
    assert np.isnan(read_p_values(answer.scores)).tolist() == [False, True, False, True]
    assert warm.row(9).verdict.status == VERDICT_STATUS_LATE  # it was missing when row 10 was judged


def test_a_sequence_gap_is_answered_with_the_expected_sequence(stream):
    stream.row(0)
    answer = stream.send(sequence=5, observation=observation(1))
    code, reason, details = read_status(answer.error)
    assert (code, reason) == (code_pb2.FAILED_PRECONDITION, "SEQUENCE_GAP")
    assert details["ErrorInfo"].metadata == {"limit": "2", "actual": "5"}
    assert stream.send(sequence=2, observation=observation(1)).verdict.status == VERDICT_STATUS_WARMING_UP


def test_more_series_than_a_sensor_may_hold_are_refused_in_band_and_the_others_live(stream, server):
    limit = server.config.max_series_per_sensor
    for number in range(limit):
        assert not stream.row(0, series=f"series {number}").errors
    answer = stream.row(0, series="one too many")
    code, reason, details = read_status(answer.errors[0].status)
    assert (code, reason) == (code_pb2.RESOURCE_EXHAUSTED, "SERIES_QUOTA")
    assert details["RetryInfo"].retry_delay.seconds == 60
    assert "QuotaFailure" in details
    assert not stream.row(1, series="series 0").errors


CONFIGS = {
    "an unknown model": (pb.StreamConfig(model=pb.ModelReference(name="other")), "NOT_FOUND", "MODEL_NOT_FOUND"),
    "a model name like a path": (
        pb.StreamConfig(model=pb.ModelReference(name="/etc")),
        "INVALID_ARGUMENT",
        "MODEL_NAME_INVALID",
    ),
    "an unknown enum": (pb.StreamConfig(explain=7), "INVALID_ARGUMENT", "ENUM_UNKNOWN"),
    "an odd sensor": (pb.StreamConfig(sensor="a\0"), "INVALID_ARGUMENT", "SERIES_ID_INVALID"),
    "a budget of 0": (
        pb.StreamConfig(sensitivity=pb.Sensitivity(false_alarms_per_day=0)),
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
    ),
    "too long a gap policy": (
        pb.StreamConfig(gap_policy=pb.GapPolicy(impute_rows=10_000)),
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_config_ends_the_stream(inference, case):
    config, code, reason = CONFIGS[case]
    stream = Stream(inference, config=False)
    stream.put(config=config)
    assert stream.failure()[:2] == (getattr(grpc.StatusCode, code), reason)


def test_data_before_config_ends_the_stream(inference):
    stream = Stream(inference, config=False)
    stream.put(data=pb.StreamData(sequence=1, observation=observation(0)))
    assert stream.failure()[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_REQUIRED")


def test_config_twice_ends_the_stream(stream):
    stream.put(config=pb.StreamConfig())
    assert stream.failure()[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_REPEATED")


def test_a_message_of_no_kind_is_answered_in_band(stream):
    assert read_status(stream.ask().answer.error)[:2] == (code_pb2.INVALID_ARGUMENT, "FIELD_REQUIRED")
    assert stream.row(0).verdict.status == VERDICT_STATUS_WARMING_UP


def test_bytes_that_are_no_message_end_the_stream(channel):
    call = channel.stream_stream("/mods.v1.InferenceService/StreamDetect")(iter([b"\xff\xff"]), timeout=10)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert read_failure(caught.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


def test_a_flood_of_bad_messages_ends_the_stream(stream, server):
    for _ in range(server.config.max_bad_messages):
        assert stream.row(0, [NAN, 1]).errors
    stream.put(data=pb.StreamData(sequence=server.config.max_bad_messages + 1, observation=observation(0, [NAN, 1])))
    code, reason, details = stream.failure()
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_BAD_OBSERVATIONS")
    assert "RetryInfo" in details


def test_more_streams_than_allowed_are_refused_with_a_retry_delay(inference, server):
    asyncio.run_coroutine_threadsafe(server.app._streams._all_closed.wait(), server._loop).result(10)
    streams = [Stream(inference, sensor=f"quota {number}") for number in range(server.config.max_streams)]
    extra = Stream(inference, config=False)
    extra.put(config=pb.StreamConfig())
    code, reason, details = extra.failure()
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_QUOTA")
    assert details["RetryInfo"].retry_delay.seconds == 1
    for stream in streams:
        stream.end()
        assert stream.failure()[0] == grpc.StatusCode.OK


def test_a_half_closed_stream_ends_without_error(inference):
    stream = Stream(inference, sensor="half")
    stream._requests.put(None)
    assert stream.failure()[0] == grpc.StatusCode.OK
