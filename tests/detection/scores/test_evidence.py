"""Evidence: its table, its sums with the bits of numpy's, and tempering."""

import numpy as np
import pytest

from mods_grpc.detection.scores.conformal import Curves, make_curve
from mods_grpc.detection.scores.evidence import NEGLIGIBLE, EvidenceTable, temper, total

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


def test_the_table_has_the_p_value_of_the_curve_within_a_percent_of_the_score():
    curves = [make_curve(RNG.gamma(2.0, 1.0, 4000)), make_curve(RNG.pareto(2.0, 300)), make_curve(np.zeros(50))]
    table = EvidenceTable(curves)
    scores = np.geomspace(0.1, 100, 5000)[:, None] * np.ones(3)
    p_value = table.p_and_neg_log10_p(table.indices(scores))[0]
    exact, below = Curves(curves).p_value(scores), Curves(curves).p_value(scores * 0.992)
    assert ((exact <= p_value) & (p_value <= below)).all()
    np.testing.assert_allclose(table.neg_log10_p(table.indices(scores)), np.minimum(-np.log10(p_value), 20))
    assert table.p_and_neg_log10_p(table.indices(np.array([[0.0, np.nan, 0.0]])))[0].tolist() == [[1.0, 1.0, 1.0]]
    assert table.p_and_neg_log10_p(table.indices(np.array([[np.inf] * 3])))[0][0, 2] == pytest.approx(1 / 51)
