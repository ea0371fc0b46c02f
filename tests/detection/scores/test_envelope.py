"""The envelope is calibrated over series, and judges rows in any order of series as one by one."""

import numpy as np
import pytest

from mods_grpc.alarm_rules.envelope import EVIDENCE_STEP, MIN_BLOCKS
from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection.scores.envelope import fit_envelope, judge_in_order, make_envelope
from mods_grpc.detection.state.series_table import SeriesTable

SLIDE, HOURS = 600, 24 * 10
SIZES = np.array([1e3, 1e5, 1e7])


def make_hosts(seed, count=30, hours=HOURS):
    """Return rows `(hosts, rows, 2)` of hosts of three sizes, with bursts."""
    generator = np.random.default_rng(seed)
    rows = hours * 6
    values = SIZES[np.arange(count) % 3][:, None, None] * generator.lognormal(0, 0.6, (count, rows, 2))
    return np.round(values * np.where(generator.random((count, rows, 1)) < 0.02, generator.pareto(2, (count, rows, 1)) + 1, 1))


def fit(values, p_value=None, start=0, **options):
    count, rows, features = values.shape
    length = count * rows
    times = start + np.arange(length) * SLIDE * NANOS_PER_SECOND
    p_value = np.random.default_rng(0).random(length) if p_value is None else p_value
    members = [np.arange(start, start + rows) for start in range(0, length, rows)]
    named = {"kinds": ["sum", "count"], "small_values": [1000.0, 1.0], "samples": length, "slide_seconds": SLIDE}
    return fit_envelope(times, values.reshape(length, features), p_value, members, **(named | {"holdoff_rows": 6} | options))


def envelope_of(reference):
    return make_envelope(reference, TrainingRange(np.zeros(2), np.full(2, 1e15), ["sum", "count"], 1000))


def judge_all(envelope, values, seed=0):
    count, rows, _ = values.shape
    table = SeriesTable(1, values.shape[2])
    slots = np.array([table.allocate() for _ in range(count)])
    p_value = np.random.default_rng(seed).random((count, rows))
    judged = [
        envelope.judge(table, slots, np.full(count, row * SLIDE * NANOS_PER_SECOND), values[:, row], p_value[:, row])
        for row in range(rows)
    ]
    is_known = np.broadcast_to(np.arange(rows) >= 6 * MIN_BLOCKS, (count, rows))
    return np.stack([each.p_value for each in judged], axis=1), is_known


def test_p_values_are_right_for_hosts_of_every_size_and_of_other_sizes():
    envelope = envelope_of(fit(make_hosts(1)))
    fresh = make_hosts(2)
    p_value, is_known = judge_all(envelope, fresh)
    larger, _ = judge_all(envelope, 50 * fresh)
    for level in (0.1, 0.01, 0.001):
        for size in range(3):
            share = (p_value[size::3][is_known[size::3]] <= level).mean()
            assert 0.2 < share / level < 2
            np.testing.assert_allclose((larger[size::3][is_known[size::3]] <= level).mean(), share, rtol=0.2, atol=level / 10)


def test_blocks_are_an_hour_or_six_rows_and_features_of_means_are_left_out():
    reference = fit(make_hosts(1, count=3))
    assert reference.block_seconds == 3600
    assert reference.offsets == (1000.0, 1.0)
    assert fit(make_hosts(1, count=3), slide_seconds=3600).block_seconds == 6 * 3600
    with_mean = fit(make_hosts(1, count=3), small_values=[0.5, 1.0], kinds=["sum", "mean"])
    assert with_mean.offsets == (0.5, None)
    assert not list(reference.faults(2))
    assert list(reference.faults(3))


def test_the_clock_may_begin_before_1970():
    values = make_hosts(1, count=100, hours=6)
    for blocks in (1, 6):  # the first series are in the hours before 1970
        assert fit(values, start=-blocks * 3600 * NANOS_PER_SECOND).spread == fit(values).spread
    single = fit(make_hosts(1, count=100, hours=1), start=-3600 * NANOS_PER_SECOND)
    assert single is None


def test_too_little_data_gives_none_and_a_feature_that_never_varies_is_harmless():
    assert fit(make_hosts(1, count=2, hours=5)) is None
    values = make_hosts(1)
    values[:, :, 1] = 0
    reference = fit(values)
    envelope = envelope_of(reference)
    p_value, is_known = judge_all(envelope, values)
    assert 0.3 < (p_value[is_known] <= 0.01).mean() / 0.01 < 2
    assert len(reference.p_values) == max(map(len, reference.scores)) + 1


@pytest.mark.parametrize(("small_value", "learned", "served"), [(0.001, 0, 0), (1.0, 5, 6), (1000.0, 7, 3)])
def test_a_feature_that_is_always_the_same_neither_alarms_nor_hides_the_others(small_value, learned, served):
    values, fresh = make_hosts(1), make_hosts(2)
    values[:, :, 1], fresh[:, :, 1] = learned, served
    reference = fit(values, small_values=[1000.0, small_value])
    p_value, is_known = judge_all(envelope_of(reference), fresh)
    assert 0.3 < (p_value[is_known] <= 0.01).mean() / 0.01 < 2
    assert reference.p_values[100] < 0.05


@pytest.mark.parametrize("constant", [0, 5000])
def test_a_feature_that_never_varied_may_become_a_little_larger(constant):
    values = make_hosts(1)
    values[:, :, 0] = constant
    envelope, table = envelope_of(fit(values)), SeriesTable(1, 2)
    slots, usual = np.array([table.allocate()]), values[:1, 0]
    for row in range(6 * 24):
        envelope.judge(table, slots, np.array([row * SLIDE * NANOS_PER_SECOND]), usual, np.array([0.5]))
    times = np.array([144 * SLIDE * NANOS_PER_SECOND])
    rows = [usual + np.array([more, 0]) for more in (1, 50, 2000)]
    p_values = [envelope.judge(table, slots, times, row, np.array([0.5])).p_value[0] for row in rows]
    assert p_values[:2] == [1, 1]
    assert p_values[2] < 1e-3


def test_the_p_value_of_a_step_of_evidence_is_that_of_rows_that_reach_it():
    reference = fit(make_hosts(1))
    p_value, is_known = judge_all(envelope_of(reference), make_hosts(1))
    table = np.array(reference.p_values)
    reached = np.array([(p_value[is_known] <= p / 0.75).mean() for p in table[30:80]])
    np.testing.assert_allclose(table[30:80], reached, rtol=0.035)  # a curve has every rank within 3 %


def test_the_evidence_of_the_model_counts_by_its_own_peaks():
    values = make_hosts(1)
    lively = np.random.default_rng(3).random(values.shape[:2])
    lively[::2] **= 1.5  # every other host is stranger to the model than its p-values say
    envelope = envelope_of(fit(values, lively.ravel()))
    count, rows, _ = values.shape
    table = SeriesTable(1, 2)
    slots = np.array([table.allocate() for _ in range(count)])
    judged = []
    for row in range(rows):
        times = np.full(count, row * SLIDE * NANOS_PER_SECOND)
        judged.append(envelope.judge(table, slots, times, values[:, row], lively[:, row]).p_value)
    p_value = np.stack(judged, axis=1)[:, 100:]
    for part in (p_value[::2], p_value[1::2]):
        assert 0.3 < (part <= 0.01).mean() / 0.01 < 2.5
    strange = envelope.judge(table, slots[1:2], np.array([rows * SLIDE * NANOS_PER_SECOND]), values[1:2, 0], np.array([1e-9]))
    assert strange.p_value[0] < 1e-3
    assert strange.p_value[0] >= 10 ** -(500 * EVIDENCE_STEP) / 10


def test_rows_of_a_series_that_come_together_are_judged_in_their_order():
    envelope = envelope_of(fit(make_hosts(1)))
    generator = np.random.default_rng(4)
    values, p_value = make_hosts(5, count=3, hours=20), generator.random((3, 120))
    one, other = SeriesTable(1, 2), SeriesTable(1, 2)
    slots = np.array([one.allocate() for _ in range(3)])
    assert slots.tolist() == [other.allocate() for _ in range(3)]
    expected = [
        envelope.judge(one, slots, np.full(3, row * SLIDE * NANOS_PER_SECOND), values[:, row], p_value[:, row])
        for row in range(120)
    ]
    hosts, rows = np.repeat(np.arange(3), 120), np.tile(np.arange(120), 3)
    order = np.argsort(rows + generator.random(360) * 0.9 + hosts * 7, kind="stable")
    hosts, rows = hosts[order], rows[order]
    judged = judge_in_order(
        envelope, other, slots[hosts], rows * SLIDE * NANOS_PER_SECOND, values[hosts, rows], p_value[hosts, rows]
    )
    for name in ("p_value", "by_feature", "usual"):
        wanted = np.stack([getattr(each, name) for each in expected])[rows, hosts]
        np.testing.assert_array_equal(getattr(judged, name), wanted)
    np.testing.assert_array_equal(one.envelope, other.envelope)
