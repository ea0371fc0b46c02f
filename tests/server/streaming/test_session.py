"""StreamDetect: what is promised of a stream."""

import grpc
import numpy as np
import pytest

from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import (
    EXPLAIN_ALL,
    EXPLAIN_NONE,
    VERDICT_STATUS_DUPLICATE,
    VERDICT_STATUS_SCORED,
    VERDICT_STATUS_WARMING_UP,
)
from tests.support.models.tiny import CALIBRATION, FEATURES, LEVELS, ROWS, SLIDE, publish_tiny
from tests.support.rpc.client import (
    Stream,
    at,
    observation,
    observation_batch,
    read_p_values,
    stamp,
)
from tests.support.running_server import channel_to, running_server

NAN, INF = float("nan"), float("inf")


def test_the_stream_opens_with_the_model_and_its_limits(stream, server):
    opened = stream.opened
    assert list(opened.features) == list(FEATURES)
    assert (opened.window_rows, opened.window.seconds, opened.slide.seconds) == (ROWS, 3600, SLIDE)
    assert opened.significance == pytest.approx(1 / 144 / CALIBRATION.extremal_index)
    assert opened.false_alarms_per_day == pytest.approx(1)
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
    stream = Stream(inference, sensor=f"explain {explain}", explain=explain, sensitivity=pb.Sensitivity(significance=1e-3))
    stream.batch(list(range(4)))
    values = LEVELS[4:10].copy()
    values[5] *= 30
    answer = stream.batch(list(range(4, 10)), values)
    stream.cut()
    assert len(answer.verdicts) == full
    assert list(answer.scores.anomalous) == [False] * 5 + [True]
    assert (read_p_values(answer.scores) > 0).all()


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
        return np.concatenate([read_p_values(first), read_p_values(rest)])

    one, other = Stream(inference, sensor="named"), Stream(inference, sensor="columns")
    by_row = [verdict.p_value if verdict.HasField("p_value") else NAN for verdict in verdicts(one)]
    np.testing.assert_array_equal(by_row, columns(other))
    one.cut()
    other.cut()


def test_the_same_observation_again_is_a_duplicate_and_changes_nothing(warm, server):
    state = server.snapshot()
    assert warm.row(7).verdict.status == VERDICT_STATUS_DUPLICATE
    assert warm.row(5).verdict.status == VERDICT_STATUS_DUPLICATE
    assert server.snapshot() == state


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


def test_a_stream_can_reset_the_window_after_any_gap(inference):
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


def test_a_stream_says_up_to_which_row_the_server_has_the_series_of_its_client(inference):
    names = ["web", "unknown", "short"]
    first = Stream(inference, sensor="asked", series=names)
    assert list(first.opened.last_observe_time_unix_nano) == [0, 0, 0]
    first.batch(list(range(8)))
    first.row(3, series="short")
    first.row(3, [np.nan, np.nan], series="refused")
    first.cut()
    second = Stream(inference, sensor="asked", series=[*names, "refused"])
    assert list(second.opened.last_observe_time_unix_nano) == [at(7), 0, at(3), 0]
    second.cut()
    third = Stream(inference, sensor="asked")
    assert list(third.opened.last_observe_time_unix_nano) == []
    third.cut()


def test_answers_lost_with_the_connection_of_several_streams_of_a_sensor_are_replayed(inference):
    names = ("a", "b", "c")
    streams = [Stream(inference, sensor="several") for _ in names]
    for row in range(8):
        for stream, name in zip(streams, names, strict=True):
            stream.row(row, series=name)
    lost = [stream.row(8, LEVELS[8] * 30, series=name) for stream, name in zip(streams, names, strict=True)]
    for stream in streams:
        stream.cut()
    again = [Stream(inference, sensor="several") for _ in names]
    for stream, name, answer in zip(again, names, lost, strict=True):
        assert stream.row(8, LEVELS[8] * 30, series=name).verdict == answer.verdict
        assert stream.row(9, series=name).verdict.status == VERDICT_STATUS_SCORED
        stream.cut()


def test_what_a_lost_stream_had_sent_may_be_handled_after_the_new_one_has_begun(inference):
    lost = Stream(inference, sensor="late", explain=EXPLAIN_ALL)
    lost.batch(list(range(8)))
    again = Stream(inference, sensor="late", explain=EXPLAIN_ALL)
    assert again.row(8).verdict.status == VERDICT_STATUS_SCORED
    assert lost.row(8).verdict.status == VERDICT_STATUS_DUPLICATE
    late = lost.batch([9, 10, 11])
    replayed = again.batch([9, 10, 11])
    assert (replayed.scores, replayed.verdicts) == (late.scores, late.verdicts)
    assert list(replayed.scores.status) == [VERDICT_STATUS_SCORED] * 3
    lost.cut()
    again.cut()


def test_of_several_lost_streams_the_oldest_may_be_handled_last(inference):
    lost = Stream(inference, sensor="oldest")
    for name in "xy":
        lost.send(batch=observation_batch(list(range(8)), series=name))
    Stream(inference, sensor="oldest").cut()
    again = Stream(inference, sensor="oldest")
    assert again.row(8, series="x").verdict.status == VERDICT_STATUS_SCORED
    assert lost.row(8, series="x").verdict.status == VERDICT_STATUS_DUPLICATE
    late = lost.row(8, series="y")
    assert again.row(8, series="y").verdict == late.verdict
    assert again.row(8, series="y").verdict.status == VERDICT_STATUS_DUPLICATE
    lost.cut()
    again.cut()


def test_a_stream_of_a_new_sensor_that_is_lost_may_be_handled_late(inference):
    lost, again = Stream(inference, sensor="new and lost"), Stream(inference, sensor="new and lost")
    late = lost.batch(list(range(8)))
    assert again.batch(list(range(8))).scores == late.scores
    lost.cut()
    again.cut()


def test_a_stream_that_pinned_a_version_does_not_answer_for_one_of_the_next_version(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        inference = inference_pb2_grpc.InferenceServiceStub(channel)
        pinned = Stream(inference, model=pb.ModelReference(name="tiny", version=1))
        pinned.batch(list(range(8)))
        publish_tiny(tmp_path, version=2)
        server.rescan()
        stream = Stream(inference)
        for row in (8, 9):
            assert stream.row(row).verdict.status == VERDICT_STATUS_SCORED
            assert pinned.row(row).verdict.status == VERDICT_STATUS_SCORED
        pinned.row(10)
        assert stream.row(10).verdict.status == VERDICT_STATUS_SCORED
        assert stream.row(11).verdict.gap_filled == 0
        pinned.cut()
        stream.cut()


def test_a_message_that_waited_beside_the_same_one_of_a_lost_stream_gets_its_answer(inference, server):
    lost = Stream(inference, sensor="beside", explain=EXPLAIN_ALL)
    lost.batch(list(range(8)))
    again = Stream(inference, sensor="beside", explain=EXPLAIN_ALL)
    rows = list(range(8, 8 + server.config.max_observations // 2))
    with server.locked_series() as wait_for_jobs:
        for number, stream in enumerate((lost, again), 1):
            stream.begin(batch=observation_batch(rows))
            wait_for_jobs(number)
    first, second = lost.read().answer, again.read().answer
    assert list(first.scores.status) == [VERDICT_STATUS_SCORED] * len(rows)
    assert second.scores == first.scores
    lost.cut()
    again.cut()


def test_an_answer_lost_with_its_connection_is_replayed_to_the_same_message(inference):
    first = Stream(inference, sensor="lost", explain=EXPLAIN_ALL)
    first.batch(list(range(8)))
    lost = first.row(8, LEVELS[8] * 30)
    first.cut()
    second = Stream(inference, sensor="lost", explain=EXPLAIN_ALL)
    replayed = second.row(8, LEVELS[8] * 30)
    assert replayed.sequence == 1
    assert replayed.verdict == lost.verdict
    assert second.row(8, LEVELS[8] * 30).verdict.status == VERDICT_STATUS_SCORED  # still the same message as before
    assert second.row(9).verdict.status == VERDICT_STATUS_SCORED
    assert second.row(8, LEVELS[8] * 30).verdict.status == VERDICT_STATUS_DUPLICATE
    second.cut()
