"""The nearest-windows member: distances to windows of the training range."""

import numpy as np
import pytest

from mods_grpc.detection.scores.nearest import MAX_WINDOWS, PARTS, WINDOW_ROWS, NearestScore, decode_windows, fit_nearest

RNG = np.random.default_rng(11)


def walks(count, features, rows=WINDOW_ROWS):
    return RNG.normal(0, 1, (count, rows, features)).cumsum(axis=1)


@pytest.mark.parametrize("features", [1, 4, 15, 38])
@pytest.mark.parametrize("count", [57, 5000])
def test_a_distance_does_not_depend_on_the_rest_of_its_batch_to_the_bit(features, count):
    score = NearestScore(fit_nearest(walks(count, features)))
    patterns = walks(300, features, WINDOW_ROWS + 2).astype(np.float32)
    whole = score.scores(patterns)
    for n in (1, 2, 3, 7, 15, 16, 17, 64, 255, 257):
        np.testing.assert_array_equal(score.scores(patterns[:n]), whole[:n])
        np.testing.assert_array_equal(score.scores(patterns[-n:]), whole[-n:])
    single = score.single()
    flat = patterns[:, -WINDOW_ROWS:].reshape(len(patterns), -1)
    alone = [single.score(single.scaled(row[: single.earlier]), row[single.earlier :]) for row in flat]
    np.testing.assert_array_equal(alone, whole)


@pytest.mark.parametrize("count", [50, 1000, 1003])
def test_the_distance_is_the_mean_over_the_parts_of_that_to_the_nearest_window(count):
    reference = fit_nearest(walks(count, 3))
    windows = decode_windows(reference)
    assert len(windows) == min(count, MAX_WINDOWS)
    patterns = walks(40, 3)
    scaled = np.clip((patterns - reference.centre) / reference.scale, -30, 30)
    distances = np.sqrt(np.square(scaled[:, None] - windows[None]).sum(axis=(2, 3)))
    expected = np.mean([distances[:, part::PARTS].min(axis=1) for part in range(PARTS)], axis=0)
    np.testing.assert_allclose(NearestScore(reference).scores(patterns.astype(np.float32)), expected, rtol=1e-3, atol=0.02)


def test_the_feature_that_differs_from_the_nearest_window_has_the_largest_share():
    windows = walks(500, 4)
    score = NearestScore(fit_nearest(windows))
    patterns = windows[:3].astype(np.float32)
    patterns[0, -1, 2] += 50
    patterns[1, 3:6, 0] -= 50
    shares = score.shares(patterns)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[0].argmax() == 2
    assert shares[0, 2] > 0.9
    assert shares[1].argmax() == 0


def test_too_few_windows_make_no_member():
    assert fit_nearest(walks(49, 2)) is None


def test_rows_in_an_order_that_never_was_are_far_although_each_is_ordinary():
    cycle = np.arange(5000) % 20  # which evenly spaced windows would meet in a few phases only
    values = np.sin(2 * np.pi * cycle / 20) + RNG.normal(0, 0.05, 5000)
    windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW_ROWS)[..., None]
    score = NearestScore(fit_nearest(windows))
    ordinary, shuffled = windows[-100:], RNG.permuted(windows[-100:], axis=1)
    assert np.median(score.scores(shuffled.astype(np.float32))) > 5 * np.median(score.scores(ordinary.astype(np.float32)))
