"""Sums of strengths: those of numpy, to the bit, whatever the shape; and what features count for in them."""

import numpy as np
import pytest

from mods_grpc.detection.scores.evidence import NEGLIGIBLE, temper, total

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("count", range(13))
def test_a_total_has_the_bits_of_numpy_s_sum(count):
    wide = RNG.gamma(1.0, 1.0, (1000, 3, count + 2))
    for strengths in (np.ascontiguousarray(wide[..., :count]), wide[..., :count], wide[:, 0, 1 : count + 1], wide[:1, 0, :count]):
        np.testing.assert_array_equal(total(strengths), np.add.reduce(strengths, axis=-1))


def test_evidence_below_the_threshold_hardly_counts_and_above_it_counts_in_full():
    discount = 1.3 * (1 - NEGLIGIBLE)
    below, at, above = temper(np.array([0.5, 1.3, 4.3]), discount)
    assert (below, at) == pytest.approx((0.5 * NEGLIGIBLE, 1.3 * NEGLIGIBLE))
    assert above - at == pytest.approx(3.0)
    assert (np.diff(temper(np.linspace(0, 20, 1000), discount)) > 0).all()


def test_without_a_threshold_evidence_is_unchanged_to_the_bit():
    strengths = RNG.gamma(1.0, 1.0, (50, 4, 3))
    np.testing.assert_array_equal(temper(strengths, 0.0), strengths)
