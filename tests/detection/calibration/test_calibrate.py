"""p-values mean what they say, and intervals cover as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Detector, Monitor, Phase, calibrate, describe, significance_from_budget
from mods_grpc.detection.calibration.calibrate import extremal_index
from mods_grpc.detection.scores.conformal import Curves, make_curve
from mods_grpc.detection.scores.evidence import EvidenceTable
from mods_grpc.detection.scores.pattern import PcaScore, fit_pca, pattern_rows
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.errors import DataError

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


ROWS, HORIZON, SLIDE = 3, 2, 600


def persistence(windows, times):
    return np.repeat(windows[:, -1:], HORIZON, axis=1)


def walks(n=3000, features=3):
    """Counts whose logs wander about a level, together and each on its own."""
    noise = RNG.normal(0, 0.1, (n, features)) + RNG.normal(0, 0.1, (n, 1))
    return np.exp(6 + noise)


def calibrated(values, kinds, **options):
    n = len(values)
    options = {"training": slice(0, n // 2), "calibration": slice(n // 2, n)} | options
    calibration = calibrate(
        persistence,
        np.arange(n) * SLIDE * NANOS_PER_SECOND,
        values,
        kinds=kinds,
        rows=ROWS,
        slide_seconds=SLIDE,
        holdoff_rows=6,
        **options,
    )
    return Detector(calibration, ResidualSpace(kinds), (values.min(0), values.max(0)))


def judged(detector, values, significance=0.01):
    table = detector.table(ROWS)
    n = len(values)
    monitor = Monitor(detector, persistence, table, slide_seconds=SLIDE, holdoff_rows=6)
    slots, times = np.full(n, table.allocate()), np.arange(n) * SLIDE * NANOS_PER_SECOND
    return monitor.observe(slots, times, values, reported=np.ones(n, bool), significance=significance, impute_rows=3)


@pytest.mark.parametrize("features", [1, 3, 40])
def test_intervals_have_the_stated_coverage_and_the_fused_p_is_uniform_on_dependent_features(features):
    kinds = ["count", "sum", *["mean"] * 38][:features]
    detector = calibrated(walks(8000, features), kinds)
    fresh = walks(20_000, features)
    windows = np.lib.stride_tricks.sliding_window_view(fresh, ROWS, axis=0).transpose(0, 2, 1)[:-HORIZON]
    observed = np.stack([fresh[ROWS + k : len(windows) + ROWS + k] for k in range(HORIZON)], axis=1)
    for coverage in (0.8, 0.95, 0.99):
        low, high = detector.path_interval(persistence(windows, None), coverage)
        inside = ((low <= observed) & (observed <= high)).mean((0,))
        assert np.abs(inside - coverage).max() < 0.02 + 0.1 * (1 - coverage)
    p_value = judged(detector, fresh).p_value[ROWS:]
    for level in (0.2, 0.05, 0.01):
        assert 0.7 < (p_value <= level).mean() / level < 1.4


def test_a_missing_feature_neither_raises_nor_lowers_the_alarm_of_the_others():
    values = walks()
    detector = calibrated(values, ["count"] * 3)
    rows = values[:12].copy()
    rows[-1, 0] *= 20
    partial = rows.copy()
    partial[-1, 1] = np.nan
    whole, without = judged(detector, rows), judged(detector, partial)
    assert whole.p_value[-1] < 1e-3
    assert without.p_value[-1] < 1e-3
    (share,) = without.explain(np.array([-1])).share
    assert share.sum() == pytest.approx(1)
    assert share[0] > 0.6
    assert share[1] == 0


def test_one_anomalous_feature_is_not_hidden_by_features_that_are_often_slightly_unusual_together():
    generator = np.random.default_rng(0)
    together, alone = generator.standard_t(3, (8000, 1)), generator.normal(0, 1, (8000, 4))
    detector = calibrated(np.exp(6 + 0.1 * together + 0.05 * alone), ["count"] * 4)
    rows = np.full((30, 4), np.exp(6.0))
    rows[-1, 0] *= 2
    assert judged(detector, rows).p_value[-1] < 4e-4


def test_a_level_shift_is_anomalous_as_long_as_it_lasts():
    values = walks(6000, 1)
    detector = calibrated(values, ["count"])
    rows = walks(60, 1)
    rows[20:] *= 5
    p_value = judged(detector, rows).p_value
    assert (p_value[20:] < 0.01).all()
    assert np.median(p_value[ROWS:20]) > 0.1


def test_the_table_has_the_p_value_of_the_curve_within_a_percent_of_the_score():
    curves = [make_curve(RNG.gamma(2.0, 1.0, 4000)), make_curve(RNG.pareto(2.0, 300)), make_curve(np.zeros(50))]
    table = EvidenceTable(curves)
    scores = np.geomspace(0.1, 100, 5000)[:, None] * np.ones(3)
    found = table.p_and_neg_log10_p(table.indices(scores))[0]
    exact, below = Curves(curves).p_value(scores), Curves(curves).p_value(scores * 0.992)
    assert ((exact <= found) & (found <= below)).all()
    np.testing.assert_allclose(table.neg_log10_p(table.indices(scores)), np.minimum(-np.log10(found), 20))
    assert table.p_and_neg_log10_p(table.indices(np.array([[0.0, np.nan, 0.0]])))[0].tolist() == [[1.0, 1.0, 1.0]]
    assert table.p_and_neg_log10_p(table.indices(np.array([[np.inf] * 3])))[0][0, 2] == pytest.approx(1 / 51)


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


def test_calibration_rejects_a_range_that_is_too_short():
    with pytest.raises(DataError, match="at least 20 rows"):
        calibrated(walks(60, 1), ["count"], calibration=slice(40, 50))


def test_a_feature_that_never_moved_alarms_when_it_does():
    detector = calibrated(np.zeros((200, 1)), ["count"])
    found = judged(detector, np.array([[0.0], [0.0], [0.0], [0.0], [1.0]]))
    assert found.p_value[3] == 1.0
    assert found.p_value[4] < 0.02
    assert found.out_of_distribution[3:].tolist() == [False, True]


def test_a_budget_of_one_a_day_at_ten_minutes_is_one_in_144():
    assert significance_from_budget(1.0, 600) == pytest.approx(1 / 144)
    assert significance_from_budget(1.0, 600, 0.25) == pytest.approx(1 / 36)
    assert significance_from_budget(1.0, 600, 0.01) == 0.2
    assert significance_from_budget(144.0, 600, 0.01) == 1.0


@pytest.mark.parametrize("run", [1, 5])
def test_runs_of_anomalous_rows_count_as_one_episode_each(run):
    evidence = RNG.normal(size=20_000 // run).repeat(run) + RNG.normal(0, 1e-9, 20_000)
    assert extremal_index(evidence, 6) == pytest.approx(1 / run, rel=0.2)
    assert extremal_index(np.zeros(100), 6) == 1.0


@pytest.mark.parametrize("budget", [0.5, 4.0])
def test_the_realised_rate_of_episodes_is_the_budget_though_evidence_lasts(budget):
    detector = calibrated(walks(8000, 2), ["count"] * 2)
    calibration = detector.calibration
    level = significance_from_budget(budget, SLIDE, calibration.extremal_index)
    found = judged(detector, walks(30_000, 2), level)
    days = 30_000 * SLIDE / 86_400
    assert 1 / 1.5 < (found.phase == Phase.STARTED).sum() / days / budget < 1.5


def test_the_reason_names_feature_direction_and_size():
    text = describe("ssh_in", 19686, 4310, 3050, 5890, 2e-6, 0.81, 1, 1e-6)
    assert text == "ssh_in 19 686, above expected 4 310 (3 050-5 890), p = 2e-06; 81 % of the score"


@pytest.mark.parametrize(("direction", "word"), [(1, "unusually high"), (-1, "unusually low"), (0, "unusual")])
def test_inside_the_interval_the_reason_names_the_direction_of_the_strongest_evidence(direction, word):
    text = describe("conn_in", 627, 624, 590, 660, 0.9, 0.4, direction, 2e-4)
    told = (
        f"conn_in 627, {word} over several rows; from the last one expected 624 (590-660), p = 0.0002 in all; 40 % of the score"
    )
    assert text == told


def test_the_reason_of_an_ordinary_row_says_that_nothing_is_unusual():
    text = describe("conn_in", 627, 624, 590, 660, 0.9, 0.4, 0, 0.7)
    assert text == "nothing unusual, p = 0.7 in all; conn_in 627, expected 624 (590-660)"


@pytest.mark.parametrize(("factor", "direction"), [(5.0, 1), (0.2, -1)])
def test_a_level_that_shifted_keeps_its_direction_though_the_forecast_follows_it(factor, direction):
    values = walks(6000, 1)
    detector = calibrated(values, ["count"])
    rows = walks(60, 1)
    rows[20:] *= factor
    found = judged(detector, rows)
    assert (np.sign(rows[40:, 0] - found.expected[40:, 0]) == -direction).any()
    told = found.explain(np.arange(len(found.outcome))).direction[:, 0]
    assert (told[20:] == direction).all()
    assert (told[ROWS:20] == 0).mean() > 0.5


def test_a_long_range_is_calibrated_as_a_whole():
    detector = calibrated(
        np.random.default_rng(0).gamma(50.0, 20.0, (10_000, 1)), ["count"], training=slice(0, 500), calibration=slice(500, 10_000)
    )
    calibration = detector.calibration
    counts = {calibration.samples, *(curve.samples for curve in (*calibration.member_curves, calibration.fused))}
    assert counts == {9500}
