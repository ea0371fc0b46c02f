"""Sums of strengths: those of numpy, to the bit, whatever the shape."""

import numpy as np
import pytest

from mods_grpc.detection.strength import total

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("count", range(13))
def test_a_total_is_what_numpy_sums_to_the_bit(count):
    wide = RNG.gamma(1.0, 1.0, (1000, 3, count + 2))
    for strengths in (np.ascontiguousarray(wide[..., :count]), wide[..., :count], wide[:, 0, 1 : count + 1], wide[:1, 0, :count]):
        np.testing.assert_array_equal(total(strengths), np.add.reduce(strengths, axis=-1))
