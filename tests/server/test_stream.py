"""StreamDetect: what is promised of a stream, and every row of the table of bad input for streams."""

import asyncio

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2
from talking import (
    Stream,
    at,
    failure_of,
    observation,
    observation_batch,
    p_values,
    reading,
    stamp,
)
from tiny_model import CALIBRATION, FEATURES, LEVELS, ROWS, SLIDE

from mods_grpc.messages import timestamp_from_nanos
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2
from mods_grpc.v1.verdict_pb2 import (
    EXPLAIN_ALL,
    EXPLAIN_NONE,
    VERDICT_STATUS_DUPLICATE,
    VERDICT_STATUS_LATE,
    VERDICT_STATUS_REJECTED,
    VERDICT_STATUS_SCORED,
    VERDICT_STATUS_WARMING_UP,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def stream(inference, request):
    opened = Stream(inference, sensor=request.node.name[:100])
    yield opened
    opened.cut()


@pytest.fixture
def warm(stream):
    stream.batch(list(range(8)))
    return stream


def snapshot(server, stream_name="web"):
    """Everything a series' verdicts depend on, as bytes."""
    states = server.model().states
    slots = [slot for slot, (_, name) in sorted(states._owners.items()) if name == stream_name]
    return [array[slots].tobytes() for array in states.table._arrays()]


def test_the_stream_opens_with_what_a_client_must_know(stream, server):
    opened = stream.opened
    assert list(opened.features) == list(FEATURES)
    assert (opened.window_rows, opened.window.seconds, opened.slide.seconds) == (ROWS, 3600, SLIDE)
    assert opened.significance == pytest.approx(1 / 144 / CALIBRATION.extremal_index)
    assert opened.state == pb.STATE_ORIGIN_FRESH
    assert opened.limits.max_observations == server.config.max_observations


def test_rows_are_answered_in_order_and_judged_once_the_window_is_full(stream):
    for row in range(10):
        answer = stream.row(row)
        assert answer.sequence == row + 1
        assert not answer.HasField("error")
        assert answer.verdict.status == (VERDICT_STATUS_WARMING_UP if row < ROWS else VERDICT_STATUS_SCORED)
        assert answer.verdict.HasField("p_value") == (row >= ROWS)
    assert stream.end().last_sequence == 10
    assert stream.failure()[0] == grpc.StatusCode.OK


def test_every_response_names_version_and_digest(stream, server):
    stream.put(data=pb.StreamData(sequence=1, observation=observation(0)))
    response = stream.read()
    assert (response.model.name, response.model.version) == ("tiny", 1)
    assert response.model.digest == server.model().digest


def test_an_anomaly_is_explained_by_feature_direction_and_size(warm):
    verdict = warm.row(8, LEVELS[8] * [1, 30]).verdict
    assert verdict.anomalous
    assert verdict.episode.id == "20190501T012000Z"
    assert [part.feature for part in verdict.features] == list(FEATURES)
    assert sum(part.share for part in verdict.features) == pytest.approx(1)
    assert verdict.features[1].expected == pytest.approx(LEVELS[4:8, 1].mean())
    assert verdict.features[1].upper < verdict.features[1].observed
    assert verdict.reason.startswith("bytes_in ")
    assert "above expected" in verdict.reason


@pytest.mark.parametrize(("explain", "full"), [(EXPLAIN_NONE, 0), (0, 1), (EXPLAIN_ALL, 6)])
def test_a_batch_explains_what_was_asked_for(inference, explain, full):
    stream = Stream(inference, sensor=f"explain {explain}", explain=explain, sensitivity=pb.Sensitivity(significance=1e-4))
    stream.batch(list(range(4)))
    values = LEVELS[4:10].copy()
    values[5] *= 30
    answer = stream.batch(list(range(4, 10)), values)
    stream.cut()
    assert len(answer.verdicts) == full
    assert list(answer.scores.anomalous) == [False] * 5 + [True]
    assert (p_values(answer.scores) > 0).all()


def test_named_values_missing_values_and_columns_say_the_same_as_rows(inference):
    def verdicts(stream):
        for row in range(6):
            yield stream.row(row).verdict
        yield stream.send(
            observation=values_pb2.Observation(
                series="web",
                observe_time=stamp(6),
                named_values=[
                    values_pb2.NamedValue(feature="bytes_in"),
                    values_pb2.NamedValue(feature="conn_in", value=LEVELS[6, 0]),
                ],
            )
        ).verdict
        yield stream.row(7).verdict

    def columns(stream):
        first = stream.batch(list(range(6))).scores
        mask = bytes([0, 1, 0, 0])
        rest = stream.send(batch=observation_batch([6, 7], values=[[LEVELS[6, 0], 0], LEVELS[7]], missing=mask)).scores
        return np.concatenate([p_values(first), p_values(rest)])

    one, other = Stream(inference, sensor="named"), Stream(inference, sensor="columns")
    by_row = [verdict.p_value if verdict.HasField("p_value") else NAN for verdict in verdicts(one)]
    np.testing.assert_array_equal(by_row, columns(other))
    one.cut()
    other.cut()


def test_the_same_observation_again_is_a_duplicate_and_changes_nothing(warm, server):
    before = snapshot(server)
    assert warm.row(7).verdict.status == VERDICT_STATUS_DUPLICATE
    assert warm.row(5).verdict.status == VERDICT_STATUS_DUPLICATE
    assert snapshot(server) == before


def test_warm_up_rows_are_applied_and_not_judged(stream):
    for row in range(6):
        answer = stream.send(observation=observation(row), warm_up=True)
        assert answer.verdict.status == VERDICT_STATUS_WARMING_UP
    assert stream.row(6).verdict.status == VERDICT_STATUS_SCORED


def test_a_gap_is_imputed_and_counted_and_a_longer_one_warms_up_again(inference):
    stream = Stream(inference, sensor="gap", gap_policy=pb.GapPolicy(impute_rows=2))
    stream.batch(list(range(6)))
    filled = stream.row(8).verdict
    assert (filled.status, filled.gap_filled) == (VERDICT_STATUS_SCORED, 2)
    assert stream.row(12).verdict.status == VERDICT_STATUS_WARMING_UP
    stream.cut()


def test_a_stream_may_ask_to_start_afresh_after_any_gap(inference):
    stream = Stream(inference, sensor="reset", gap_policy=pb.GapPolicy(reset=True))
    stream.batch(list(range(6)))
    assert stream.row(7).verdict.status == VERDICT_STATUS_WARMING_UP
    stream.cut()


def test_series_of_different_sensors_do_not_meet(inference):
    one, other = Stream(inference, sensor="one"), Stream(inference, sensor="other")
    one.batch(list(range(8)))
    assert other.row(8).verdict.status == VERDICT_STATUS_WARMING_UP
    one.cut()
    other.cut()
    again = Stream(inference, sensor="one")
    assert (again.opened.state, again.opened.series_held) == (pb.STATE_ORIGIN_RESUMED, 1)
    assert again.row(8).verdict.status == VERDICT_STATUS_SCORED
    again.cut()


def test_an_answer_lost_with_its_connection_is_given_again_to_the_same_message(inference):
    first = Stream(inference, sensor="lost", explain=EXPLAIN_ALL)
    first.batch(list(range(8)))
    lost = first.row(8, LEVELS[8] * 30)
    first.cut()
    second = Stream(inference, sensor="lost", explain=EXPLAIN_ALL)
    found = second.row(8, LEVELS[8] * 30)
    assert found.sequence == 1
    assert found.verdict == lost.verdict
    assert second.row(8, LEVELS[8] * 30).verdict.status == VERDICT_STATUS_SCORED  # still the same message as before
    assert second.row(9).verdict.status == VERDICT_STATUS_SCORED
    assert second.row(8, LEVELS[8] * 30).verdict.status == VERDICT_STATUS_DUPLICATE
    second.cut()


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
    before = snapshot(server)
    answer = warm.send(**fields)
    assert answer.sequence == 2
    code, found, details = reading(answer.error)
    assert (code, found) == (code_pb2.INVALID_ARGUMENT, reason)
    assert details["BadRequest"].field_violations[0].field.startswith("data.")
    assert snapshot(server) == before
    assert warm.row(8).verdict.status == VERDICT_STATUS_SCORED


@pytest.mark.parametrize("case", SINGLE)
def test_a_bad_observation_is_answered_in_band_and_changes_nothing(warm, server, case):
    fields, code, reason = SINGLE[case]
    before, held = snapshot(server), len(server.model().states._owners)
    answer = warm.send(**fields)
    assert [error.index for error in answer.errors] == [0]
    assert reading(answer.errors[0].status)[:2] == (code_pb2.Code.Value(code), reason)
    late = reason == "OBSERVATION_LATE"
    assert answer.verdict.status == (VERDICT_STATUS_LATE if late else VERDICT_STATUS_REJECTED)
    assert snapshot(server) == before
    assert len(server.model().states._owners) == held
    assert warm.row(8).verdict.status == VERDICT_STATUS_SCORED


def test_bad_observations_of_a_batch_are_named_and_the_rest_is_applied(warm):
    values = LEVELS[8:12].copy()
    values[1, 0], values[3, 1] = NAN, -5
    answer = warm.send(batch=observation_batch([8, 9, 10, 11], values=values))
    assert [error.index for error in answer.errors] == [1, 3]
    assert [reading(error.status)[1] for error in answer.errors] == ["VALUE_NAN", "VALUE_NEGATIVE"]
    scored, rejected = VERDICT_STATUS_SCORED, VERDICT_STATUS_REJECTED
    assert list(answer.scores.status) == [scored, rejected, scored, rejected]
    assert np.isnan(p_values(answer.scores)).tolist() == [False, True, False, True]
    assert warm.row(9).verdict.status == VERDICT_STATUS_LATE  # it was missing when row 10 was judged


def test_a_sequence_that_jumps_is_told_the_expected_one_and_may_go_on(stream):
    stream.row(0)
    answer = stream.send(sequence=5, observation=observation(1))
    code, reason, details = reading(answer.error)
    assert (code, reason) == (code_pb2.FAILED_PRECONDITION, "SEQUENCE_GAP")
    assert details["ErrorInfo"].metadata == {"limit": "2", "actual": "5"}
    assert stream.send(sequence=2, observation=observation(1)).verdict.status == VERDICT_STATUS_WARMING_UP


def test_more_series_than_a_sensor_may_hold_are_refused_in_band_and_the_others_live(stream, server):
    limit = server.config.max_series_per_sensor
    for number in range(limit):
        assert not stream.row(0, series=f"series {number}").errors
    answer = stream.row(0, series="one too many")
    code, reason, details = reading(answer.errors[0].status)
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
    assert reading(stream.ask().answer.error)[:2] == (code_pb2.INVALID_ARGUMENT, "FIELD_REQUIRED")
    assert stream.row(0).verdict.status == VERDICT_STATUS_WARMING_UP


def test_bytes_that_are_no_message_end_the_stream(channel):
    call = channel.stream_stream("/mods.v1.InferenceService/StreamDetect")(iter([b"\xff\xff"]), timeout=10)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert failure_of(caught.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


def test_a_flood_of_bad_messages_ends_the_stream(stream, server):
    for _ in range(server.config.max_bad_messages):
        assert stream.row(0, [NAN, 1]).errors
    stream.put(data=pb.StreamData(sequence=server.config.max_bad_messages + 1, observation=observation(0, [NAN, 1])))
    code, reason, details = stream.failure()
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_BAD_OBSERVATIONS")
    assert "RetryInfo" in details


def test_more_streams_than_allowed_are_told_when_to_retry(inference, server):
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
