"""Panes from sliding windows: exact or not at all."""

import numpy as np
import pytest

from mods_grpc.client import PaneRecovery
from mods_grpc.errors import InvalidInputError

SLIDE, PANES = 600, 6
START = 1_556_668_800


def make_windows(panes):
    """Return the windows that end with each pane, NaN for those that began before the first one."""
    windows = np.full(panes.shape, np.nan)
    for row in range(PANES - 1, len(panes)):
        windows[row] = panes[row + 1 - PANES : row + 1].sum(axis=0)
    return windows


def times_of(n):
    return np.datetime64(START, "s") + np.arange(n) * np.timedelta64(SLIDE, "s")


def recover(windows, recovery=None, first=0, series="web"):
    recovery = recovery or PaneRecovery(windows.shape[1], PANES, SLIDE)
    return np.array(
        [recovery.recover(series, time, row) for time, row in zip(times_of(first + len(windows))[first:], windows, strict=True)]
    )


def test_panes_of_quiet_series_become_exact_and_are_those_that_were_counted():
    panes = np.random.default_rng(1).poisson([0.2, 0.5, 1.0], (2000, 3)).astype(float)
    recovered = recover(make_windows(panes))
    exact = ~np.isnan(recovered)
    np.testing.assert_array_equal(recovered[exact], panes[exact])
    first = exact.argmax(axis=0)
    assert (first < [60, 200, 1500]).all()
    assert all(exact[row:, j].all() for j, row in enumerate(first))


def test_panes_of_a_site_that_is_never_quiet_stay_unknown_and_say_so():
    panes = np.random.default_rng(2).poisson(5000.0, (2000, 1)).astype(float)
    recovery = PaneRecovery(1, PANES, SLIDE)
    assert np.isnan(recover(make_windows(panes), recovery)).all()
    assert not recovery.is_exact("web").any()


def test_a_window_of_zero_is_not_needed_where_every_phase_had_a_pane_of_zero():
    panes = np.random.default_rng(3).integers(1, 9, (300, 1)).astype(float)
    for phase in range(PANES):
        panes[30 + 7 * phase + 6 * phase] = 0.0
    windows = make_windows(panes)
    assert np.nanmin(windows) > 0
    recovered = recover(windows)
    last_zero = int(np.flatnonzero(panes[:, 0] == 0)[-1])
    assert np.isnan(recovered[:last_zero]).all()
    np.testing.assert_array_equal(recovered[last_zero:], panes[last_zero:])


def test_sums_of_fractions_are_exact_but_for_rounding():
    rng = np.random.default_rng(4)
    panes = rng.gamma(0.5, 1e6, (20_000, 1)) * (rng.random((20_000, 1)) < 0.15)
    panes[10_000:] *= 1e-6
    recovered = recover(make_windows(panes))
    exact = ~np.isnan(recovered)
    assert exact.mean() > 0.99
    np.testing.assert_allclose(recovered[exact], panes[exact], rtol=0, atol=1e-5)
    assert (recovered[exact] >= 0).all()


@pytest.mark.parametrize("hole", ["row", "value"])
def test_a_hole_starts_anew(hole):
    panes = np.random.default_rng(5).poisson(0.3, (400, 2)).astype(float)
    windows = make_windows(panes)
    recovery = PaneRecovery(2, PANES, SLIDE)
    before = recover(windows[:200], recovery)
    assert recovery.is_exact("web").all()
    busy = windows[201:260] + 100.0
    if hole == "value":
        missing = windows[200].copy()
        missing[0] = np.nan
        assert np.isnan(recover(missing[None], recovery, 200)[0, 0])
        busy[:, 1] -= 100.0
    after = recover(busy, recovery, 201)
    assert np.isnan(after[:, 0]).all()  # never quiet since then
    if hole == "value":
        np.testing.assert_array_equal(after[:, 1], panes[201:260, 1])
    assert not np.isnan(before[199]).any()


def test_windows_that_no_panes_could_make_start_anew():
    panes = np.random.default_rng(6).poisson(0.3, (200, 1)).astype(float)
    windows = make_windows(panes)
    recovery = PaneRecovery(1, PANES, SLIDE)
    recover(windows[:100], recovery)
    assert recovery.is_exact("web").all()
    assert np.isnan(recover(np.array([[40.0], [0.5], [40.0]]), recovery, 100)[1:]).all()


def test_state_that_was_saved_goes_on_to_the_bit():
    panes = np.random.default_rng(7).poisson(0.6, (600, 2)).astype(float)
    windows = make_windows(panes)
    expected = recover(windows)
    for split in (3, 40, 300):
        first = PaneRecovery(2, PANES, SLIDE)
        recover(windows[:split], first)
        recover(windows[:split], first, series="other")
        state = first.save()
        assert state.numbers.shape == (2, 2 * PANES + 2, 2)
        second = PaneRecovery(2, PANES, SLIDE)
        second.restore(state)
        np.testing.assert_array_equal(recover(windows[split:], second, split), expected[split:])
        second.forget("web")
        assert second.save().names == ("other",)
        assert not second.is_exact("web").any()


def test_series_do_not_mix_and_late_rows_change_nothing():
    panes = np.random.default_rng(8).poisson(0.3, (300, 1)).astype(float)
    windows, recovery = make_windows(panes), PaneRecovery(1, PANES, SLIDE)
    expected, times = recover(windows), times_of(300)
    for row in range(300):
        np.testing.assert_array_equal(recovery.recover("web", times[row], windows[row]), expected[row])
        recovery.recover("busy", times[row], windows[row] + 7.0)
        if row:
            assert np.isnan(recovery.recover("web", times[row - 1], [3.0])).all()
    assert recovery.is_exact("web").all()
    assert not recovery.is_exact("busy").any()


@pytest.mark.parametrize("windows", [[1.0], [1.0, -1.0], [1.0, np.inf], [[1.0, 1.0]]])
def test_values_that_no_window_has_are_refused(windows):
    with pytest.raises(InvalidInputError):
        PaneRecovery(2, PANES, SLIDE).recover("web", times_of(1)[0], windows)


@pytest.mark.parametrize("arguments", [(0, 6, 600), (1, 1, 600), (1, 6, 0)])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(InvalidInputError):
        PaneRecovery(*arguments)


def test_state_of_another_shape_is_refused():
    with pytest.raises(InvalidInputError):
        PaneRecovery(2, PANES, SLIDE).restore(PaneRecovery(3, PANES, SLIDE).save())
