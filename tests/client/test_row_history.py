"""The last rows of series: what is stored, its state in a checkpoint, and the messages that warm up a server."""

import json
from collections import OrderedDict, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.client.results import Verdict, VerdictStatus
from mods_grpc.client.streaming import row_history
from mods_grpc.client.streaming.observations import ObservationBatch, to_message
from mods_grpc.client.streaming.row_history import RowHistory, RowStore
from mods_grpc.errors import DataError

STEPS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(("append", "append", "append", "touch", "drop", "resize", "store"))), max_size=60
)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_history, "BLOCK_SERIES", 2)
        yield


def rows_by_series(store):
    return {series: (store.rows(series)[0].tolist(), store.rows(series)[1].tolist()) for series in store}


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_stored_rows_are_those_of_a_bounded_queue_per_series(steps):
    size, store, expected = 3, RowStore(3), OrderedDict()
    for time, (which, what) in enumerate(steps):
        series = f"host-{which}"
        if what == "append":
            row = np.array([time, -time], float)
            store.append(series, time, row)
            expected.setdefault(series, deque(maxlen=size)).append((time, row.tolist()))
            expected.move_to_end(series)
        elif what == "touch" and series in expected:
            store.touch(series)
            expected.move_to_end(series)
        elif what == "drop" and expected:
            store.drop_oldest()
            expected.popitem(last=False)
        elif what == "resize":
            size = 2 + which
            store = store.resized(size)
            expected = OrderedDict((name, deque(rows, maxlen=size)) for name, rows in expected.items())
        elif what == "store":
            state, store = json.loads(json.dumps(store.state())), RowStore(size)
            store.restore(state)
    assert list(store) == list(expected)
    assert rows_by_series(store) == {name: ([t for t, _ in rows], [row for _, row in rows]) for name, rows in expected.items()}
    assert all(store.last_time(name) == rows[-1][0] for name, rows in expected.items())
    names, which, times, values = store.all_rows()
    rows = [(names[index], time, row) for index, time, row in zip(which.tolist(), times.tolist(), values.tolist(), strict=True)]
    assert rows == [(name, time, row) for name, rows in expected.items() for time, row in rows]


def test_missing_values_stay_missing_through_a_checkpoint():
    store, restored = RowStore(2), RowStore(2)
    store.append("a", 1, np.array([np.nan, 2.0]))
    restored.restore(json.loads(json.dumps(store.state(), allow_nan=False)))
    np.testing.assert_array_equal(restored.rows("a")[1], [[np.nan, 2.0]])
    assert store.last_time("b") is None


def test_a_state_without_a_version_is_read_as_version_one():
    store, restored = RowStore(2), RowStore(2)
    store.append("a", 1, np.array([5.0]))
    state = store.state()
    assert state.pop("version") == 1
    restored.restore(state)
    assert rows_by_series(restored) == rows_by_series(store)


def test_a_state_of_another_version_raises_data_error():
    with pytest.raises(DataError, match="expected a state of version 1, found 2"):
        RowStore(2).restore({**RowStore(2).state(), "version": 2})


def add(history, series, nanos, status=VerdictStatus.SCORED):
    message = to_message(ObservationBatch(series=series, times=nanos, values=[[float(time)] for time in nanos]))
    history.add(message, [Verdict(series=series, observe_time=None, status=status)] * len(nanos))


def rows_of(history, max_observations=0):
    return [list(zip(m.series, m.nanos.tolist(), strict=True)) for m in history.messages(max_observations)]


def test_a_history_holds_three_windows_of_each_series_and_splits_its_messages():
    history = RowHistory(window_rows=1, max_series=0)
    add(history, "a", list(range(1, 7)))
    add(history, "b", [9])
    assert rows_of(history) == [[("a", 4), ("a", 5), ("a", 6), ("b", 9)]]
    assert rows_of(history, 2) == [[("a", 4), ("a", 5)], [("a", 6), ("b", 9)]]
    history.resize(2, 0)
    add(history, "a", list(range(7, 12)))
    assert rows_of(history) == [[("b", 9), ("a", 6), ("a", 7), ("a", 8), ("a", 9), ("a", 10), ("a", 11)]]


def test_a_history_leaves_out_the_rows_that_the_server_has():
    history = RowHistory(window_rows=2, max_series=0)
    add(history, "a", list(range(1, 5)))
    add(history, "b", [2, 3])
    add(history, "c", [7])
    messages = list(history.messages(0, {"a": 3, "b": 3, "c": 0}))
    assert [list(zip(m.series, m.nanos.tolist(), m.values[:, 0].tolist(), strict=True)) for m in messages] == [
        [("a", 4, 4.0), ("c", 7, 7.0)]
    ]
    assert list(history.messages(0, {"a": 4, "b": 9, "c": 7})) == []


def test_a_history_leaves_out_rejected_and_repeated_rows():
    history = RowHistory(window_rows=2, max_series=0)
    add(history, "a", [1, 2])
    add(history, "a", [2], VerdictStatus.DUPLICATE)
    add(history, "a", [3], VerdictStatus.REJECTED)
    add(history, "a", [1], VerdictStatus.LATE)
    assert rows_of(history) == [[("a", 1), ("a", 2)]]


def test_a_history_drops_the_least_recently_used_series_at_its_limit():
    history = RowHistory(window_rows=2, max_series=2)
    add(history, "a", [1])
    add(history, "b", [1])
    add(history, "a", [1], VerdictStatus.DUPLICATE)
    add(history, "c", [1])
    assert rows_of(history) == [[("a", 1), ("c", 1)]]


def test_a_history_holds_extra_rows_also_for_another_window():
    history = RowHistory(window_rows=1, max_series=0, extra_rows=1)
    add(history, "a", list(range(1, 9)))
    assert rows_of(history) == [[("a", 6), ("a", 7), ("a", 8)]]
    history.resize(2, 0)
    add(history, "a", list(range(9, 14)))
    assert rows_of(history) == [[("a", 9), ("a", 10), ("a", 11), ("a", 12), ("a", 13)]]
    assert history.store.last_time("a") == 13


def test_a_history_without_rows_has_no_messages():
    assert rows_of(RowHistory(window_rows=2, max_series=0)) == []
