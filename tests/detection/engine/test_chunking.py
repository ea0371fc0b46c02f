"""A batch has the same scores in chunks as in one piece, to the bit."""

import numpy as np
import pytest

from mods_grpc.detection.engine.chunking import Chunking
from tests.support.monitors import (
    DETECTOR,
    FEATURES,
    LEVELS,
    QUANTILES,
    ROWS,
    assert_same,
    copy_state,
    make_monitor,
    make_times,
    observe,
    read_columns,
)

SERIES, STEPS = 23, 14
RNG = np.random.default_rng(5)
VALUES = RNG.gamma(50.0, 20.0, (STEPS, SERIES, FEATURES)) * np.where(RNG.random((STEPS, SERIES, 1)) < 0.05, 9.0, 1.0)


def backwards(function, chunks):
    """Process the last chunk first: chunks must not depend on each other."""
    return [function(chunk) for chunk in chunks[::-1]][::-1]


def score(monitor, slots):
    """Score step by step, with the series in alternating order; explain every other one, the last first."""
    steps = []
    for step in range(STEPS):
        some = slots if step % 5 else slots[::-1]
        verdicts = observe(monitor, some, np.repeat(make_times(1, step), SERIES), VALUES[step])
        steps.append((read_columns(verdicts), vars_of(verdicts.explain(np.arange(SERIES)[::-2]))))
    return steps


def vars_of(why):
    return {name: getattr(why, name) for name in ("feature_p", "share", "direction", "scale")}


@pytest.mark.parametrize("adapt", [False, True], ids=["fixed", "adapting, own scales"])
@pytest.mark.parametrize("rows", [1, 7, 16])
@pytest.mark.parametrize("detector", [DETECTOR, QUANTILES], ids=["forecast", "quantiles"])
def test_chunks_change_no_score(rows, adapt, detector):
    whole, slots = make_monitor(series=SERIES, adapt=adapt, detector=detector)
    chunked, _ = make_monitor(series=SERIES, adapt=adapt, chunking=Chunking(rows, backwards), detector=detector)
    for (one, why), (other, also) in zip(score(whole, slots), score(chunked, slots), strict=True):
        assert_same(one, other)
        assert_same(why, also)
    for before, after in zip(copy_state(whole), copy_state(chunked), strict=True):
        np.testing.assert_array_equal(before, after)


def test_several_rows_of_a_series_have_the_same_scores_in_chunks():
    (whole, slots), (chunked, _) = make_monitor(), make_monitor(chunking=Chunking(5, backwards))
    each, times = np.repeat(slots, 60), make_times(60)
    one, other = (observe(monitor, each, times, LEVELS[:60]) for monitor in (whole, chunked))
    assert np.isfinite(one.p_value[ROWS:]).all()
    assert_same(read_columns(one), read_columns(other))
