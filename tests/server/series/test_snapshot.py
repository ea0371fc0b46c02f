"""What a server hands on of its series, to another version or to the next process, is all that verdicts depend on."""

import itertools
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.detection import Detector, Monitor
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.server.persistence.snapshot_file import SavedModel, SavedState, read_state, write_state
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.server.series.snapshot import restore, capture
from tests.support.models.quantile import QUANTILE_CALIBRATION, quantile_forecast
from tests.support.models.tiny import CALIBRATION, LEVELS, ROWS, SLIDE, mean_forecast

MODELS = [
    (Detector(calibration, ResidualSpace(["count", "sum"]), (LEVELS.min(axis=0), LEVELS.max(axis=0))), forecast)
    for calibration, forecast in ((CALIBRATION, mean_forecast), (QUANTILE_CALIBRATION, quantile_forecast))
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
    options = {"slide_seconds": SLIDE, "holdoff_rows": 6, "adapt": adapt, "own_scales": adapt}
    monitor = Monitor(*model, states.table, **options)
    found = monitor.observe(slots, times, values, judged=np.ones(len(slots), bool), significance=0.02, impute_rows=2)
    states.release_empty(slots)
    names = ("outcome", "p_value", "anomalous", "expected", "drift", "gap_filled", "phase", "start", "peak_time", "peak")
    return {name: np.asarray(getattr(found, name)) for name in names}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), adapt=st.booleans(), model=st.sampled_from(MODELS))
def test_taking_writing_reading_and_adopting_the_state_changes_no_verdict(data, adapt, model):
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


def test_a_snapshot_keeps_the_answers_that_fit_its_series_while_the_stream_goes_on():
    states = fresh_states(MODELS[0][0])
    states.add(*OWNERS[0])
    told = deque(["first"])
    states.swap_replies("zeek", told)
    snapshot = capture(states)
    told.append("second")
    assert list(snapshot.answers["zeek"]) == ["first"]


def test_sensors_are_grouped_whole_and_none_is_left_out():
    states = SeriesSlots(MODELS[0][0].table(ROWS), max_series=99, max_series_per_sensor=99, idle_seconds=60.0)
    for sensor, count in (("a", 3), ("b", 1), ("c", 5), ("d", 2)):
        for number in range(count):
            states.add(sensor, str(number))
    states.swap_replies("answers alone", deque())
    groups = list(states.sensor_groups(4))
    assert groups == [["answers alone", "a", "b"], ["c"], ["d"]]
    assert [capture(states, group).sensors for group in groups] == [("a",) * 3 + ("b",), ("c",) * 5, ("d",) * 2]
