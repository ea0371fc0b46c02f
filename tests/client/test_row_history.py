"""The last rows of many series in arrays are those that a queue for each would keep."""

import json
from collections import OrderedDict, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.client.streaming import kept_rows
from mods_grpc.client.streaming.kept_rows import KeptRows

STEPS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(("append", "append", "append", "touch", "drop", "resize", "store"))), max_size=60
)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_rows, "BLOCK_SERIES", 2)
        yield


def queues(kept):
    return {series: (kept.rows(series)[0].tolist(), kept.rows(series)[1].tolist()) for series in kept}


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_rows_are_kept_as_queues_would_keep_them(steps):
    size, kept, expected = 3, KeptRows(3), OrderedDict()
    for time, (which, what) in enumerate(steps):
        series = f"host-{which}"
        if what == "append":
            row = np.array([time, -time], float)
            kept.append(series, time, row)
            expected.setdefault(series, deque(maxlen=size)).append((time, row.tolist()))
            expected.move_to_end(series)
        elif what == "touch" and series in expected:
            kept.touch(series)
            expected.move_to_end(series)
        elif what == "drop" and expected:
            kept.drop_oldest()
            expected.popitem(last=False)
        elif what == "resize":
            size = 2 + which
            kept = kept.resized(size)
            expected = OrderedDict((name, deque(rows, maxlen=size)) for name, rows in expected.items())
        elif what == "store":
            stored, kept = json.loads(json.dumps(kept.state())), KeptRows(size)
            kept.restore(stored)
    assert list(kept) == list(expected)
    assert queues(kept) == {name: ([t for t, _ in rows], [row for _, row in rows]) for name, rows in expected.items()}
    assert all(kept.last(name) == rows[-1][0] for name, rows in expected.items())
    names, which, times, values = kept.all_rows()
    found = [(names[index], time, row) for index, time, row in zip(which.tolist(), times.tolist(), values.tolist(), strict=True)]
    assert found == [(name, time, row) for name, rows in expected.items() for time, row in rows]


def test_what_is_missing_stays_missing_through_a_checkpoint():
    kept, other = KeptRows(2), KeptRows(2)
    kept.append("a", 1, np.array([np.nan, 2.0]))
    other.restore(json.loads(json.dumps(kept.state(), allow_nan=False)))
    np.testing.assert_array_equal(other.rows("a")[1], [[np.nan, 2.0]])
    assert kept.last("b") is None
