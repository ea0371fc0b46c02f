"""What a version that serves next goes on with: the same whether series are moved or copied, in no time, and all of it."""

import shutil
from collections import deque

import numpy as np
import pytest

from mods_grpc.server.series.handover import hand_over
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.snapshot import restore, capture
from mods_grpc.v1 import inference_pb2, inference_pb2_grpc
from tests.server.models.test_reload import judged, longer_window, publish_other
from tests.server.series.test_snapshot import MODELS, NAMES, OWNERS, fresh_states, judge
from tests.support.http2.client import Stream
from tests.support.models.tiny import ROWS, SLIDE, publish_tiny
from tests.support.running_server import channel_to, running_server

SECOND = 10**9


def observations(first, count, seed=3):
    generator = np.random.default_rng(seed)
    values = generator.gamma(50.0, 20.0, (first + count, 2)) * generator.choice([1, 1, 1, 8], (first + count, 1))
    number = np.arange(first, first + count)
    return number % len(NAMES), (number // len(NAMES) + 1) * SLIDE * SECOND, values[first:]


@pytest.mark.parametrize("model", MODELS, ids=["residuals", "intervals"])
@pytest.mark.parametrize("same_model", [True, False])
def test_series_that_are_moved_are_judged_as_series_that_are_copied(model, same_model):
    moved, copied = fresh_states(model[0]), fresh_states(model[0])
    for states in (moved, copied):
        judge(states, model, *observations(0, 60), adapt=True)
    by_copy, by_move = fresh_states(model[0]), fresh_states(model[0])
    restore(by_copy, capture(copied), same_model=same_model)
    hand_over(moved, by_move, same_model=same_model)
    assert len(moved) == 0
    expected, found = (judge(states, model, *observations(60, 60), adapt=True) for states in (by_copy, by_move))
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)


def test_series_stay_with_a_version_that_a_stream_has_pinned_and_are_copied():
    model = MODELS[0]
    before, now = fresh_states(model[0]), fresh_states(model[0])
    judge(before, model, *observations(0, 30), adapt=True)
    before.pins, before.stale_sensors = 1, {"zeek"}
    hand_over(before, now, same_model=True)
    assert len(before) == len(now) == len(NAMES)
    assert now.stale_sensors == {"zeek"}
    assert now.table is not before.table


def test_a_stream_that_follows_to_copied_series_goes_on_telling_what_it_answered():
    before, now = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0])
    before.add(*OWNERS[0])
    told = deque(["first"])
    before.swap_replies("zeek", told)
    before.pins = 1
    hand_over(before, now, same_model=True)
    told.append("second")
    assert list(now.swap_replies("zeek", deque())) == ["first", "second"]


def test_what_a_moved_sensor_was_answered_and_whether_it_is_doubted_goes_along():
    before, now = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0])
    before.add(*OWNERS[0])
    before.swap_replies("zeek", "answers")
    before.mark_stale({"zeek"})
    hand_over(before, now, same_model=True)
    assert now.clear_stale("zeek")
    assert now.swap_replies("zeek", None) == "answers"
    assert not before.stale_sensors


def test_how_many_series_there_are_makes_no_difference_to_how_much_memory_a_move_takes():
    detector = MODELS[0][0]
    limits = {"max_series": 10**6, "max_series_per_sensor": 10**6, "idle_seconds": 60.0}
    before, now = SeriesSlots(detector.table(ROWS), **limits), SeriesSlots(detector.table(ROWS), **limits)
    for number in range(5000):
        before.add("zeek", str(number))
    table = before.table
    hand_over(before, now, same_model=True)
    assert now.table is table
    assert len(now) == 5000
    assert before.table is not table


def test_a_stream_that_slept_while_a_version_came_and_went_goes_on_with_the_series_that_others_see(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        ended, slept = Stream(stub, sensor="ended"), Stream(stub, sensor="slept")
        for stream in (ended, slept):
            judged(stream, 8)
        ended.end()
        publish_other(tmp_path, 2, **longer_window(ROWS + 3))
        server.look()
        shutil.rmtree(tmp_path / "tiny" / "2")
        server.look()
        again = Stream(stub, sensor="ended")
        expected = judged(again, 20, 8)
        judged(slept, 12, 8)
        slept.end()
        resumed = Stream(stub, sensor="slept")
        assert resumed.opened.state == inference_pb2.STATE_ORIGIN_RESUMED
        assert [v.p_value for v in judged(resumed, 20, 12)] == [v.p_value for v in expected[4:]]
        for stream in (again, resumed):
            stream.end()
