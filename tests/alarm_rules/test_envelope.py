"""Series are judged by what they usually reach themselves."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.alarm_rules.envelope import EVIDENCE_STEP, MEDIAN, MIN_BLOCKS, NO_BLOCK, NUMBERS, POOLED_SHARE, SPREAD, Envelope
from mods_grpc.alarm_rules.training_range import TrainingRange

NS, HOUR = 10**9, 3600
LEVELS = np.arange(1, 501)
# a score of s mean excesses has a -log10 p of s / 2, but for the last column, which is the model's
RULE = Envelope(
    block_seconds=HOUR,
    offsets=(1000.0, 1.0, None),
    spread=(1.0, 1.0, 1.0, 0.5),
    scores=[(LEVELS * EVIDENCE_STEP * 2).tolist()] * 3 + [(LEVELS * EVIDENCE_STEP).tolist()],
    p_values=10 ** -(np.arange(501) * EVIDENCE_STEP),
    training_range=TrainingRange(np.zeros(3), np.full(3, 1e15), ["sum", "count", "mean"], 1000),
)


def new_state(count=1, columns=4):
    return SimpleNamespace(
        envelope=np.full((count, NUMBERS, columns), np.nan, np.float32),
        envelope_block=np.full(count, NO_BLOCK),
        envelope_blocks=np.zeros(count, np.int32),
    )


def judge(state, minute, rows, p_value=0.5, slots=None):
    rows = np.atleast_2d(np.asarray(rows, float))
    slots = np.arange(len(rows)) if slots is None else slots
    return RULE.judge(state, slots, np.full(len(rows), minute * 60 * NS), rows, np.full(len(rows), p_value))


def teach(state, rows, hours=24, first=0):
    """Let each series see its own row every ten minutes, somewhat varied."""
    generator = np.random.default_rng(1)
    for minute in range(first * 60, (first + hours) * 60, 10):
        judge(state, minute, np.asarray(rows, float) * generator.lognormal(0, 0.2, np.shape(rows)))
    return (first + hours) * 60


def test_what_one_host_does_every_hour_is_strange_on_another():
    state, burst = new_state(2), [50e6, 3.0, 0.0]
    minute = teach(state, [[50e6, 3, 0], [40e3, 3, 0]])
    server, desk = judge(state, minute, [burst, burst]).p_value
    assert server > 0.1
    assert desk < 1e-3


def test_a_series_is_known_after_some_blocks_and_the_current_one_does_not_count():
    state = new_state()
    for block in range(MIN_BLOCKS + 1):
        for minute in range(0, 60, 10):
            judged = judge(state, block * 60 + minute, [[1000.0, 5, 0]], p_value=1e-4)
            assert (judged.p_value[0] == 1e-4) == (block < MIN_BLOCKS), "until then the model decides"
    strange = judge(state, MIN_BLOCKS * 60 + 55, [[1e9, 5, 0]])
    again = judge(state, MIN_BLOCKS * 60 + 56, [[1e9, 5, 0]])
    assert strange.p_value == again.p_value < 1e-3


def test_the_strongest_column_counts_and_is_named_and_several_do_not_add_up():
    state = new_state(3)
    minute = teach(state, [[1000.0, 5, 0]] * 3)
    one, both, fall = np.split(np.array([[1e6, 5, 0], [1e6, 400, 0], [0, 0, 0]], float), 3)
    alone, together = judge(state, minute, np.concatenate([one, both, fall])), None
    assert alone.p_value[0] == pytest.approx(alone.p_value[1], rel=0.3)
    assert alone.by_feature[0].argmax() == 0
    assert alone.by_feature[0, 1] < 1
    assert alone.p_value[2] > 0.1
    together = judge(state, minute + 1, fall, p_value=1e-6, slots=np.array([2]))
    assert together.p_value[0] < 1e-3, "a fall is what the model sees"
    assert not together.by_feature.any()


def test_the_usual_peak_is_in_raw_units_and_none_where_it_is_negligible():
    state = new_state(2)
    minute = teach(state, [[50e6, 300, 0], [20, 0.2, 0]])
    usual = judge(state, minute, [[50e6, 3, 0]] * 2).usual
    assert 40e6 < usual[0, 0] < 100e6
    assert 250 < usual[0, 1] < 600
    assert usual[1].tolist()[:2] == [0, 0]
    assert np.isnan(usual[:, 2]).all()


def test_a_feature_of_means_and_missing_values_say_nothing():
    state = new_state(2)
    minute = teach(state, [[1000.0, 5, 0.3]] * 2)
    judged = judge(state, minute, [[1000.0, 5, 1e9], [np.nan, np.nan, np.nan]])
    assert (judged.p_value > 0.1).all()
    for later in range(minute + 10, minute + 180, 10):
        judge(state, later, [[np.nan, 5, 0]], slots=np.array([1]))
    assert np.isfinite(state.envelope[1, MEDIAN, 0])
    assert judge(state, minute + 200, [[1e9, 5, 0]], slots=np.array([1])).p_value[0] < 1e-3


def test_one_enormous_block_moves_the_envelope_little():
    state = new_state()
    minute = teach(state, [[1e5, 5, 0]], hours=7 * 24)
    before, spread = state.envelope[0, MEDIAN, 0], state.envelope[0, SPREAD, 0]
    judge(state, minute, [[1e15, 5, 0]])
    after = judge(state, minute + 60, [[3e6, 5, 0]])
    assert state.envelope[0, MEDIAN, 0] - before < 0.1
    assert state.envelope[0, SPREAD, 0] < 1.1 * spread
    assert after.p_value[0] < 1e-3


def test_what_is_most_unusual_to_the_model_counts_with_its_share_of_the_budget_whatever_the_series_is_used_to():
    state = new_state()
    minute = 0
    for minute in range(0, 24 * 60, 10):
        judge(state, minute, [[1000.0, 5, 0]], p_value=1e-6)
    judged = judge(state, minute + 10, [[1000.0, 5, 0]], p_value=1e-6)
    assert judged.p_value[0] == pytest.approx(1e-6 / POOLED_SHARE)
    assert not judged.by_feature.any()


def test_far_above_the_range_of_all_series_counts_only_if_it_is_enormous():
    rule = Envelope(
        block_seconds=HOUR,
        offsets=(1000.0,),
        spread=(1.0, 0.5),
        scores=[[1e9]] * 2,  # nothing is unusual
        p_values=(1.0, 0.5),
        training_range=TrainingRange(np.zeros(1), np.full(1, 1e6), ["sum"], 999),
    )
    state = new_state(columns=2)
    for hour in range(2 * MIN_BLOCKS):
        rule.judge(state, np.zeros(1, int), np.array([hour * HOUR * NS]), np.array([[1e3]]), np.array([0.5]))
    at = np.array([2 * MIN_BLOCKS * HOUR * NS])
    for times, expected in ((50.0, 1.0), (200.0, 0.002 / 200)):
        p_value = np.array([0.002 / times])  # as the model has it
        judged = rule.judge(state, np.zeros(1, int), at, np.array([[times * 1e6]]), p_value)
        assert judged.p_value[0] == pytest.approx(expected)


@pytest.mark.parametrize("constant", [0.0, 5.0, 6.0, 1_234_567.0])
def test_what_a_series_always_has_is_not_above_its_usual_peak(constant):
    rule = Envelope(
        block_seconds=HOUR,
        offsets=(1000.0, 0.001),
        spread=(0.1, 0.1, 0.3),
        scores=[[0.0] * 200] * 2 + [[1e9]],  # both features were the same in all rows of the calibration
        p_values=10 ** -(np.arange(201) * EVIDENCE_STEP),
        training_range=TrainingRange(np.zeros(2), np.full(2, 1e15), ["sum"] * 2, 1000),
    )
    state = new_state(columns=3)
    for hour in range(2 * MIN_BLOCKS):
        times, rows = np.array([hour * HOUR * NS]), np.full((1, 2), constant)
        judged = rule.judge(state, np.zeros(1, int), times, rows, np.array([0.5]))
    assert judged.p_value[0] == 1
    assert judged.usual[0] == pytest.approx([constant if constant > 500 else 0, constant], rel=1e-4, abs=0), (
        "few bytes are as good as none"
    )


def test_the_median_of_a_series_that_changed_for_good_reaches_the_new_peak():
    state = new_state()
    minute = teach(state, [[1e3, 5, 0]], hours=6)
    for hour in range(200):
        judged = judge(state, minute + 60 * hour, [[7e6, 6, 0]])
    assert not judged.by_feature.any()
    assert judged.p_value[0] == 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_judging_many_series_together_is_judging_each_alone_to_the_bit(seed, count):
    generator = np.random.default_rng(seed)
    whole, alone = new_state(count), new_state(count)
    minute = 0
    for _ in range(40):
        minute += int(generator.integers(1, 50))
        slots = np.flatnonzero(generator.random(count) < 0.8)
        rows = np.round(generator.lognormal(5, 3, (len(slots), 3)))
        rows[generator.random(rows.shape) < 0.1] = np.nan
        p_value = generator.random(len(slots)) ** 8
        times = np.full(len(slots), minute * 60 * NS)
        together = RULE.judge(whole, slots, times, rows, p_value)
        for index in range(len(slots)):
            part = slice(index, index + 1)
            one = RULE.judge(alone, slots[part], times[part], rows[part], p_value[part])
            for column, expected in zip(one, together, strict=True):
                np.testing.assert_array_equal(column[0], expected[index])
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(whole, name), getattr(alone, name))
