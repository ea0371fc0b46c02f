"""Snapshots and hand-overs hold everything that verdicts depend on, whether series are moved or copied, or written to a file."""

import itertools
import shutil
import tempfile
import weakref
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.detection import Detector, Monitor
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.server.persistence import snapshot_file
from mods_grpc.server.persistence.snapshot_file import SavedModel, SavedState, read_state, write_state
from mods_grpc.server.series.replay_cache import CachedReply, ReplayCache
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.snapshot import capture, hand_over, restore
from mods_grpc.v1 import inference_pb2, inference_pb2_grpc
from tests.server.models.test_reload import longer_window, publish_other, score_rows
from tests.support.models.quantile import QUANTILE_CALIBRATION, forecast_quantiles
from tests.support.models.tiny import CALIBRATION, LEVELS, ROWS, SLIDE, forecast_mean, publish_tiny
from tests.support.rpc.client import Stream
from tests.support.running_server import channel_to, running_server

MODELS = [
    (Detector(calibration, ResidualSpace(["count", "sum"]), (LEVELS.min(axis=0), LEVELS.max(axis=0))), forecast)
    for calibration, forecast in ((CALIBRATION, forecast_mean), (QUANTILE_CALIBRATION, forecast_quantiles))
]
NAMES = ("web", "mail", "dns")
OWNERS = [("zeek", name) for name in NAMES]
SECOND = 10**9


def fresh_states(detector):
    return SeriesSlots(detector.table(ROWS), max_series=10, max_series_per_sensor=5, idle_seconds=3600.0)


def through_a_file(snapshot):
    state = SavedState(models=(SavedModel(name="tiny", version=1, digest="d", grid=(SLIDE,), series=snapshot),), complete=True)
    with tempfile.TemporaryDirectory() as folder:
        write_state(Path(folder) / "state", state)
        return read_state(Path(folder) / "state").models[0].series


def judge(states, model, series, times, values, adapt):
    slots = np.array([states.add(*OWNERS[which]) for which in series])
    own = {"own_scales": adapt, "own_envelope": adapt, "own_intervals": adapt}
    options = {"slide_seconds": SLIDE, "holdoff_rows": 6, "adapt": adapt, **own}
    monitor = Monitor(*model, states.table, **options)
    verdicts = monitor.observe(slots, times, values, reported=np.ones(len(slots), bool), significance=0.02, impute_rows=2)
    states.release_empty(slots)
    names = ("outcome", "p_value", "anomalous", "expected", "drift", "gap_filled", "phase", "start", "peak_time", "peak")
    quantiles = {"quantiles": verdicts.explain(np.arange(len(slots))).quantiles}
    return {name: np.asarray(getattr(verdicts, name)) for name in names} | quantiles


@settings(max_examples=40, deadline=None)
@given(data=st.data(), adapt=st.booleans(), model=st.sampled_from(MODELS))
def test_capturing_writing_reading_and_restoring_the_state_changes_no_verdict(data, adapt, model):
    n = data.draw(st.integers(10, 90))
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    series = generator.integers(0, len(NAMES), n)
    position = np.zeros(len(NAMES), np.int64)
    times = np.empty(n, np.int64)
    for i, which in enumerate(series):
        position[which] += generator.choice([1, 1, 1, 1, 1, 1, 2, 5])
        times[i] = position[which] * SLIDE * SECOND
    values = generator.gamma(50.0, 20.0, (n, 2)) * generator.choice([1, 1, 1, 1, 10], (n, 1))
    values[generator.random(n) < 0.1, 0] = np.nan
    expected = judge(fresh_states(model[0]), model, series, times, values, adapt)
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(1, n - 1), min_size=1, max_size=3))})
    states, parts = fresh_states(model[0]), []
    for a, b in itertools.pairwise(cuts):
        held, states = states, fresh_states(model[0])
        assert restore(states, through_a_file(capture(held)), same_model=True) == len(held)
        parts.append(judge(states, model, series[a:b], times[a:b], values[a:b], adapt))
    for name, column in expected.items():
        np.testing.assert_array_equal(column, np.concatenate([part[name] for part in parts]), err_msg=name)


@pytest.mark.parametrize("same_model", [True, False])
def test_own_intervals_take_no_room_where_there_are_none_and_replace_those_that_were_there(same_model):
    states, model = fresh_states(MODELS[0][0]), MODELS[0]
    count, generator = 40, np.random.default_rng(1)
    values, times = generator.gamma(50.0, 20.0, (count, 2)), np.arange(1, count + 1) * SLIDE * SECOND
    judge(states, model, np.zeros(count, int), times, values, adapt=False)
    judge(states, model, np.ones(count, int), times, values, adapt=True)
    snapshot = through_a_file(capture(states))
    assert (len(snapshot.quantiles), len(snapshot.quantile_rows)) == (1, 2)
    restored = fresh_states(MODELS[0][0])
    judge(restored, model, np.zeros(20, int), times[:20], values[:20], adapt=True)
    restore(restored, snapshot, same_model=same_model)
    own, has_any = restored.own_quantiles("zeek", ["web", "mail", "dns"])
    assert has_any.tolist() == [False, same_model, False]
    np.testing.assert_array_equal(own[1], states.own_quantiles("zeek", ["mail"])[0][0] if same_model else 0.0)


def test_a_state_file_from_before_own_intervals_is_read(monkeypatch):
    states = fresh_states(MODELS[0][0])
    judge(states, MODELS[0], np.zeros(9, int), np.arange(1, 10) * SLIDE * SECOND, np.ones((9, 2)), adapt=False)
    monkeypatch.setattr(snapshot_file, "_ARRAYS", tuple({*snapshot_file._ARRAYS} - snapshot_file._QUANTILES))
    snapshot = through_a_file(capture(states))
    assert snapshot.quantile_rows.tolist() == [0]
    assert restore(fresh_states(MODELS[0][0]), snapshot, same_model=True) == 1


def test_a_snapshot_keeps_the_answers_that_fit_its_series_while_the_stream_goes_on():
    states = fresh_states(MODELS[0][0])
    states.add(*OWNERS[0])
    replies = deque(["first"])
    states.swap_replies("zeek", replies)
    snapshot = capture(states)
    replies.append("second")
    assert list(snapshot.answers["zeek"]) == ["first"]


def test_a_snapshot_keeps_the_last_answer_to_each_series_of_all_streams_of_a_sensor():
    states = fresh_states(MODELS[0][0])
    states.add(*OWNERS[0])
    for name in "abc":
        cache = ReplayCache()
        cache.last = states.last_replies("zeek")
        states.swap_replies("zeek", cache.entries)
        cache.store(name, name.encode(), b"reply")
    answers = capture(states).answers
    assert [request for request, _ in answers["zeek"]] == [b"a", b"b", b"c"]
    restored = fresh_states(MODELS[0][0])
    restore(restored, capture(states), same_model=True)
    restored.restore_last_replies(bytes.decode)
    assert restored.last_replies("zeek").lookup("a", b"a") == b"reply"


def test_restored_replies_are_released_once_their_client_has_sent_something_new():
    states, restored, stream = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0]), ReplayCache()
    states.add(*OWNERS[0])
    states.swap_replies("zeek", deque(CachedReply(b"a", b"%d" % number) for number in range(9)))
    snapshot = capture(states)
    replies = weakref.ref(snapshot.answers["zeek"])
    restore(restored, snapshot, same_model=True)
    restored.restore_last_replies(bytes.decode)
    del snapshot
    stream.last = restored.last_replies("zeek")
    stream.attach(restored.swap_replies("zeek", stream.entries))
    assert replies() is not None
    stream.note_new()
    assert replies() is None


def test_sensors_are_grouped_whole_and_none_is_left_out():
    states = SeriesSlots(MODELS[0][0].table(ROWS), max_series=99, max_series_per_sensor=99, idle_seconds=60.0)
    for sensor, count in (("a", 3), ("b", 1), ("c", 5), ("d", 2)):
        for number in range(count):
            states.add(sensor, str(number))
    states.swap_replies("answers alone", deque())
    groups = list(states.sensor_groups(4))
    assert groups == [["answers alone", "a", "b"], ["c"], ["d"]]
    assert [capture(states, group).sensors for group in groups] == [("a",) * 3 + ("b",), ("c",) * 5, ("d",) * 2]


def observations_after(first, count, seed=3):
    generator = np.random.default_rng(seed)
    values = generator.gamma(50.0, 20.0, (first + count, 2)) * generator.choice([1, 1, 1, 8], (first + count, 1))
    number = np.arange(first, first + count)
    return number % len(NAMES), (number // len(NAMES) + 1) * SLIDE * SECOND, values[first:]


@pytest.mark.parametrize("model", MODELS, ids=["residuals", "intervals"])
@pytest.mark.parametrize("same_model", [True, False])
def test_moved_series_get_the_same_verdicts_as_copied_ones(model, same_model):
    moved, copied = fresh_states(model[0]), fresh_states(model[0])
    for states in (moved, copied):
        judge(states, model, *observations_after(0, 60), adapt=True)
    by_copy, by_move = fresh_states(model[0]), fresh_states(model[0])
    restore(by_copy, capture(copied), same_model=same_model)
    hand_over(moved, by_move, same_model=same_model)
    assert len(moved) == 0
    expected, actual = (judge(states, model, *observations_after(60, 60), adapt=True) for states in (by_copy, by_move))
    for name, column in expected.items():
        np.testing.assert_array_equal(actual[name], column, err_msg=name)


def test_series_stay_with_a_version_that_a_stream_has_pinned_and_are_copied():
    model = MODELS[0]
    previous, current = fresh_states(model[0]), fresh_states(model[0])
    judge(previous, model, *observations_after(0, 30), adapt=True)
    previous.pin("zeek")
    previous.mark_stale({"zeek"})
    hand_over(previous, current, same_model=True)
    assert len(previous) == len(current) == len(NAMES)
    assert current.stale_sensors == {"zeek"}
    assert current.table is not previous.table


def series_and_times(states):
    return {owner: int(states.table.last_time[slot]) for slot, owner in states._owners.items()}


def add_rows(states, *rows):
    """Add a series for each sensor, name and time in seconds."""
    for sensor, name, seconds in rows:
        slot = states.add(sensor, name)
        states.table.filled[slot], states.table.last_time[slot], states.table.factor[slot] = ROWS, seconds, 0.5


def test_only_the_series_of_pinned_sensors_are_copied_and_the_others_move():
    previous, current = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0])
    add_rows(previous, ("pinned", "web", 3), ("other", "web", 4))
    previous.pin("pinned")
    previous.mark_stale({"pinned", "other"})
    replies, last, table = deque(), previous.last_replies("pinned"), previous.table
    previous.swap_replies("pinned", replies)
    hand_over(previous, current, same_model=False)
    assert series_and_times(current) == {("pinned", "web"): 3, ("other", "web"): 4}
    assert series_and_times(previous) == {("pinned", "web"): 3}
    assert current.table is table
    assert (previous.stale_sensors, current.stale_sensors) == ({"pinned"}, {"pinned", "other"})
    learned = [states.table.factor[states.find_slot("pinned", "web")] for states in (previous, current)]
    assert learned == [0.5, 1.0]
    for states in (previous, current):
        assert states.last_replies("pinned") is last
        assert states.swap_replies("pinned", deque()) is replies


def test_a_version_keeps_the_series_of_its_pinned_streams_when_it_serves_again():
    previous, current = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0])
    add_rows(current, ("pinned", "newer", 9), ("pinned", "equal", 5), ("pinned", "older", 1), ("left", "web", 2))
    add_rows(previous, ("pinned", "newer", 8), ("pinned", "equal", 5), ("pinned", "older", 7), ("other", "web", 6), ("o", "w", 6))
    current.mark_stale({"left"})
    previous.mark_stale({"other"})
    current.pin("pinned")
    last = current.last_replies("pinned")
    hand_over(previous, current, same_model=False)
    expected = {("pinned", "newer"): 9, ("pinned", "equal"): 5, ("pinned", "older"): 7, ("left", "web"): 2}
    assert series_and_times(current) == expected | {("other", "web"): 6, ("o", "w"): 6}
    learned = {name: current.table.factor[current.find_slot("pinned", name)] for name in ("newer", "equal", "older")}
    assert learned == {"newer": 0.5, "equal": 0.5, "older": 1.0}
    assert current.stale_sensors == {"left", "other"}
    assert current.last_replies("pinned") is last
    assert series_and_times(previous) == {}


def test_a_version_with_another_window_leaves_the_one_before_the_series_of_its_pinned_streams_only():
    detector = MODELS[0][0]
    previous = fresh_states(detector)
    current = SeriesSlots(detector.table(ROWS + 1), max_series=10, max_series_per_sensor=5, idle_seconds=3600.0)
    add_rows(previous, ("pinned", "web", 3), ("other", "web", 4))
    previous.pin("pinned")
    hand_over(previous, current, same_model=False)
    assert series_and_times(current) == {("pinned", "web"): 3, ("other", "web"): 4}
    assert series_and_times(previous) == {("pinned", "web"): 3}


def test_the_replies_of_a_stream_stay_cached_when_its_series_are_copied():
    previous, current = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0])
    previous.add(*OWNERS[0])
    replies = deque(["first"])
    previous.swap_replies("zeek", replies)
    previous.pin("zeek")
    hand_over(previous, current, same_model=True)
    replies.append("second")
    assert list(current.swap_replies("zeek", deque())) == ["first", "second"]


def test_cached_replies_and_stale_marks_move_with_the_series():
    previous, current = fresh_states(MODELS[0][0]), fresh_states(MODELS[0][0])
    previous.add(*OWNERS[0])
    previous.swap_replies("zeek", "answers")
    previous.mark_stale({"zeek"})
    hand_over(previous, current, same_model=True)
    assert current.stale_sensors == {"zeek"}
    assert current.swap_replies("zeek", None) == "answers"
    assert not previous.stale_sensors


def test_moving_series_allocates_no_memory_per_series():
    detector = MODELS[0][0]
    limits = {"max_series": 10**6, "max_series_per_sensor": 10**6, "idle_seconds": 60.0}
    previous, current = SeriesSlots(detector.table(ROWS), **limits), SeriesSlots(detector.table(ROWS), **limits)
    for number in range(5000):
        previous.add("zeek", str(number))
    table = previous.table
    hand_over(previous, current, same_model=True)
    assert current.table is table
    assert len(current) == 5000
    assert previous.table is not table


def test_a_stream_that_was_idle_while_a_version_came_and_went_continues_with_the_current_series(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, channel_to(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        ended, slept = Stream(stub, sensor="ended"), Stream(stub, sensor="slept")
        for stream in (ended, slept):
            score_rows(stream, 8)
        ended.end()
        publish_other(tmp_path, 2, **longer_window(ROWS + 3))
        server.rescan()
        shutil.rmtree(tmp_path / "tiny" / "2")
        server.rescan()
        again = Stream(stub, sensor="ended")
        expected = score_rows(again, 20, 8)
        score_rows(slept, 12, 8)
        slept.end()
        resumed = Stream(stub, sensor="slept")
        assert resumed.opened.state == inference_pb2.STATE_ORIGIN_RESUMED
        assert [v.p_value for v in score_rows(resumed, 20, 12)] == [v.p_value for v in expected[4:]]
        for stream in (again, resumed):
            stream.end()
