"""Calibrated detectors: p-values are uniform on ordinary rows, and intervals have the stated coverage."""

from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Detector, Monitor, Phase, calibrate, significance_from_budget
from mods_grpc.detection.calibration.calibrate import measure_episode_rates
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.errors import DataError

RNG = np.random.default_rng(11)


ROWS, HORIZON, SLIDE = 3, 2, 600


def persistence(windows, times):
    return np.repeat(windows[:, -1:], HORIZON, axis=1)


def walks(n=3000, features=3):
    """Return counts whose logarithms vary about a level, in common and independently."""
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


def scored(detector, values, significance=0.01, **options):
    table = detector.table(ROWS)
    n = len(values)
    monitor = Monitor(detector, persistence, table, slide_seconds=SLIDE, holdoff_rows=6, **options)
    slots, times = np.full(n, table.allocate()), np.arange(n) * SLIDE * NANOS_PER_SECOND
    return monitor.observe(slots, times, values, reported=np.ones(n, bool), significance=significance, impute_rows=3)


@pytest.mark.parametrize("features", [1, 3, pytest.param(40, marks=pytest.mark.slow)])
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
    p_value = scored(detector, fresh).p_value[ROWS:]
    for level, least in ((0.2, 0.7), (0.05, 0.7), (0.01, 0.45)):  # the tail, from 0.02 down, is rather too heavy
        assert least < (p_value <= level).mean() / level < 1.4


def test_a_missing_feature_neither_raises_nor_lowers_the_alarm_of_the_others():
    values = walks()
    detector = calibrated(values, ["count"] * 3)
    rows = values[:12].copy()
    rows[-1, 0] *= 20
    partial = rows.copy()
    partial[-1, 1] = np.nan
    whole, without = scored(detector, rows), scored(detector, partial)
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
    assert scored(detector, rows).p_value[-1] < 1.5e-3


def test_a_level_shift_is_anomalous_as_long_as_it_lasts():
    values = walks(6000, 1)
    detector = calibrated(values, ["count"])
    rows = walks(60, 1)
    rows[20:] *= 5
    p_value = scored(detector, rows).p_value
    assert (p_value[20:] < 0.01).all()
    assert np.median(p_value[ROWS:20]) > 0.1


def test_calibration_rejects_a_range_that_is_too_short():
    with pytest.raises(DataError, match="at least 20 rows"):
        calibrated(walks(60, 1), ["count"], calibration=slice(40, 50))


def test_a_feature_that_never_moved_alarms_when_it_does():
    detector = calibrated(np.zeros((200, 1)), ["count"])
    verdicts = scored(detector, np.array([[0.0], [0.0], [0.0], [0.0], [1.0]]))
    assert verdicts.p_value[3] == 1.0
    assert verdicts.p_value[4] < 0.02
    assert verdicts.out_of_distribution[3:].tolist() == [False, True]


def test_a_budget_of_one_a_day_at_ten_minutes_is_one_in_144():
    calibration = calibrated(walks(1000), ["count"] * 3).calibration

    def level(budget, index, rates=()):
        return significance_from_budget(budget, 600, replace(calibration, extremal_index=index, episode_rates=rates))

    assert level(1.0, 1.0) == pytest.approx(1 / 144)
    assert level(1.0, 0.25) == pytest.approx(1 / 36)
    assert level(1.0, 0.01) == 0.2
    assert level(144.0, 0.01) == 1.0
    rates = ((0.002, 0.001), (0.02, 0.005), (0.1, 0.01))
    assert level(0.036, 0.5, rates) == pytest.approx(0.0005), "in proportion below the strictest"
    assert level(0.144, 0.5, rates) == pytest.approx(0.002)
    assert level(0.72, 0.5, rates) == pytest.approx(0.02)
    assert 0.02 < level(1.0, 0.5, rates) < 0.1
    assert level(2.88, 0.5, rates) == pytest.approx(0.2)


@pytest.mark.parametrize("run", [1, 5])
def test_runs_of_anomalous_rows_count_as_one_episode_each(run):
    evidence = RNG.normal(size=20_000 // run).repeat(run) + RNG.normal(0, 1e-9, 20_000)
    rates = measure_episode_rates(evidence, 6)
    level, rate = rates[0]
    assert rate / level == pytest.approx(1 / run, rel=0.2)
    assert list(rates) == sorted(rates)
    assert measure_episode_rates(np.zeros(100), 6) == ()


@pytest.mark.parametrize("budget", [0.5, 4.0])
def test_the_realised_rate_of_episodes_is_the_budget_though_evidence_lasts(budget):
    detector = calibrated(walks(8000, 2), ["count"] * 2)
    calibration = detector.calibration
    level = significance_from_budget(budget, SLIDE, calibration)
    verdicts = scored(detector, walks(30_000, 2), level)
    days = 30_000 * SLIDE / 86_400
    assert 1 / 1.5 < (verdicts.phase == Phase.STARTED).sum() / days / budget < 1.5


@pytest.mark.parametrize(("factor", "direction"), [(5.0, 1), (0.2, -1)])
def test_a_level_that_shifted_keeps_its_direction_though_the_forecast_follows_it(factor, direction):
    values = walks(6000, 1)
    detector = calibrated(values, ["count"])
    rows = walks(60, 1)
    rows[20:] *= factor
    verdicts = scored(detector, rows)
    assert (np.sign(rows[40:, 0] - verdicts.expected[40:, 0]) == -direction).any()
    directions = verdicts.explain(np.arange(len(verdicts.outcome))).direction[:, 0]
    assert (directions[20:] == direction).all()
    assert (directions[ROWS:20] == 0).mean() > 0.5


def test_a_long_range_is_calibrated_as_a_whole():
    detector = calibrated(
        np.random.default_rng(0).gamma(50.0, 20.0, (10_000, 1)), ["count"], training=slice(0, 500), calibration=slice(500, 10_000)
    )
    calibration = detector.calibration
    counts = {calibration.samples, *(curve.samples for curve in (*calibration.member_curves, calibration.fused))}
    assert counts == {9500}
