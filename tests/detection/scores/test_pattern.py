"""The pattern member: scores of patterns."""

import numpy as np
import pytest

from mods_grpc.detection.scores.pattern import PcaScore, fit_pca, pattern_rows

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("features", [1, 4, 38])
def test_the_score_of_a_pattern_does_not_depend_on_the_rest_of_its_batch_to_the_bit(features):
    rows = pattern_rows(features, 36)
    walk = RNG.normal(0, 1, (1000, rows, features)).cumsum(axis=1)
    reference = fit_pca(walk)
    pattern, patterns = PcaScore(reference), walk.astype(np.float32)
    whole = pattern.scores(patterns)
    for n in (1, 2, 3, 7, 15, 16, 17, 64, 255):
        np.testing.assert_array_equal(pattern.scores(patterns[:n]), whole[:n])
        np.testing.assert_array_equal(pattern.scores(patterns[-n:]), whole[-n:])
