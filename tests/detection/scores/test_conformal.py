"""Score curves: conformal p-values, their tail, and the score at a p-value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.detection.scores.conformal import Curves, make_curve

RNG = np.random.default_rng(11)


def test_a_small_sample_gives_the_exact_conformal_p_value():
    sample = RNG.exponential(1.0, 25)
    curve = Curves([make_curve(sample)])
    scores = np.concatenate([sample, RNG.exponential(1.0, 200)])
    stored = np.sort([float(f"{value:.9g}") for value in sample])
    exact = [(1 + np.sum(stored >= score)) / 26 for score in scores]
    np.testing.assert_allclose(curve.p_value(scores[:, None])[:, 0], exact)


@pytest.mark.parametrize("heavy", [False, True])
def test_p_values_of_fresh_data_are_uniform_even_far_below_one_over_n(heavy):
    draw = (lambda n: RNG.pareto(2.0, n)) if heavy else (lambda n: np.abs(RNG.normal(size=n)))
    rates = {level: [] for level in (0.5, 0.1, 0.02, 0.005)}
    for _ in range(20):
        p = Curves([make_curve(draw(3000))]).p_value(draw(20_000)[:, None])
        for level, seen in rates.items():
            seen.append((p <= level).mean() / level)
    for level, seen in rates.items():
        assert 0.85 < np.mean(seen) < 1.15, level


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=900), st.floats(1e-6, 0.999))
def test_the_score_at_a_level_is_where_the_p_value_crosses_it(sample, level):
    curve = Curves([make_curve(np.array(sample))])
    score = curve.scores_at(level)[0]
    if np.isfinite(score):
        above = np.nextafter(score, np.inf)
        assert curve.p_value(np.array([[above * (1 + 1e-9) + 1e-300]]))[0, 0] <= level * (1 + 1e-6)
    else:
        assert level < 1


def test_p_values_fall_as_scores_rise_also_where_the_tail_begins():
    curve = Curves([make_curve(RNG.gamma(2.0, 1.0, 4000))])
    p = curve.p_value(np.linspace(0, 60, 20_001)[:, None])[:, 0]
    assert (np.diff(p) <= 0).all()
    assert p[-1] > 0
