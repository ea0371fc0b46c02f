"""Panes and windows: one from the other, and nothing where they do not tell."""

import numpy as np
import pytest

from mods_grpc.data.panes import add_panes, recover_panes, undo_windows

SLIDE = 600


def make_panes(seed, rows=40, features=2):
    return np.random.default_rng(seed).poisson(30.0, (rows, features)).astype(np.float64)


@pytest.mark.parametrize("m", [2, 3, 6])
@pytest.mark.parametrize("hole", [None, 20])
def test_windows_are_sums_of_panes_and_panes_follow_back_from_the_last_ones(m, hole):
    panes, times = make_panes(m), np.arange(40) * SLIDE
    if hole is not None:
        times[hole:] += SLIDE
    windows = add_panes(times, panes, m, SLIDE)
    for row in range(40):
        is_whole = row >= m - 1 and (hole is None or not row - m + 1 < hole <= row)
        expected = panes[row - m + 1 : row + 1].sum(axis=0) if is_whole else [np.nan, np.nan]
        np.testing.assert_array_equal(windows[row], expected)
    undone = undo_windows(times[m - 1 :], windows[m - 1 :], panes[-m:], SLIDE)
    first = 0 if hole is None else hole
    np.testing.assert_array_equal(undone[max(0, first - m + 1) :], panes[max(m - 1, first) :])
    assert np.isnan(undone[: max(0, first - m + 1)]).all()


def test_panes_do_not_follow_from_windows_that_are_no_sums_of_them():
    windows = np.array([[9.0], [1.0], [5.0]])
    undone = undo_windows(np.arange(3) * SLIDE, windows, np.array([[2.0], [3.0]]), SLIDE)
    assert np.isnan(undone[0]).all()
    np.testing.assert_array_equal(undone[1:], [[2.0], [3.0]])


def test_panes_are_exact_where_only_one_choice_makes_the_windows():
    panes = make_panes(1)[:, 0]
    panes[[10, 17, 24]] = 0.0  # of each of three phases one
    sums = np.convolve(panes, np.ones(3), "valid")
    np.testing.assert_array_equal(recover_panes(sums, 3), panes[2:])
    assert recover_panes(sums + 3, 3) is None  # each may be 1 more
    assert recover_panes(sums[:2], 3) is None


def test_fewer_panes_than_make_a_window_make_none() -> None:
    for count in range(6):
        assert np.isnan(add_panes(np.arange(count, dtype=np.int64) * SLIDE, np.ones((count, 2)), 6, SLIDE)).all()
