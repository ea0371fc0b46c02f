"""Rows of one series whose times repeat."""

import numpy as np

from mods_grpc.data.distinct_rows import merge_duplicates

NAN = float("nan")


def test_rows_are_sorted_by_time() -> None:
    rows = merge_duplicates(np.array([30, 10, 20]), np.array([[3.0], [1.0], [2.0]]))
    assert rows.times.tolist() == [10, 20, 30]
    assert rows.values[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert (rows.duplicates, rows.contradictions, rows.repeated.tolist()) == (0, 0, [])


def test_a_missing_cell_is_completed_from_the_other_rows_of_its_time() -> None:
    rows = merge_duplicates(np.array([10, 10, 20]), np.array([[1.0, NAN], [NAN, 2.0], [3.0, 4.0]]))
    assert rows.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (rows.duplicates, rows.contradictions, rows.repeated.tolist()) == (1, 0, [10])


def test_cells_that_contradict_each_other_become_missing_whatever_follows() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.0], [1.0, 5.0]])
    rows = merge_duplicates(np.array([10, 10, 10]), values)
    np.testing.assert_array_equal(rows.values, [[NAN, 5.0]])
    assert (rows.duplicates, rows.contradictions, rows.repeated.tolist()) == (1, 1, [10])


def test_no_rows_stay_no_rows() -> None:
    rows = merge_duplicates(np.array([], dtype=np.int64), np.empty((0, 2)))
    assert rows.values.shape == (0, 2)
