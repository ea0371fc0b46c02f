"""The series' own intervals in an evaluation are those that a server has before each row."""

import numpy as np
import pytest

from mods_grpc.detection import Monitor
from tests.support.monitors import DETECTOR, HORIZON, ROWS, SLIDE, forecast_mean, make_times, observe
from training.evaluation.intervals import measure_coverage, measure_crps, track_quantiles

N = 900
VALUES = np.random.default_rng(5).gamma(8.0, 125.0, (N, 2))  # more than twice as restless as what the detector was calibrated on
ORIGINS = np.arange(ROWS, N - HORIZON + 1)
WINDOWS = VALUES[ORIGINS[:, None] + np.arange(-ROWS, 0)]
TARGETS = VALUES[ORIGINS[:, None] + np.arange(HORIZON)]
FORECASTS = forecast_mean(WINDOWS, ORIGINS)
QUANTILES = track_quantiles(DETECTOR, ORIGINS, TARGETS, FORECASTS)


@pytest.mark.parametrize("at", [0, 1, 5, 300, len(ORIGINS) - 1])
def test_quantiles_before_a_row_are_those_of_a_monitor_that_has_seen_the_rows_before(at: int) -> None:
    table = DETECTOR.table(ROWS)
    slot = table.allocate()
    monitor = Monitor(DETECTOR, forecast_mean, table, slide_seconds=SLIDE, holdoff_rows=6, own_intervals=True)
    observe(monitor, np.full(ORIGINS[at], slot), make_times(ORIGINS[at]), VALUES[: ORIGINS[at]])
    np.testing.assert_allclose(QUANTILES[at], table.quantiles[slot], rtol=1e-4, atol=1e-4)  # the monitor stores float32
    assert QUANTILES[at].any() == (at > 0)


def test_own_intervals_cover_better_and_their_crps_is_that_of_the_pinball_loss() -> None:
    names = ["a", "b"]
    static = measure_coverage(DETECTOR, TARGETS[200:], FORECASTS[200:], names)
    own = measure_coverage(DETECTOR, TARGETS[200:], FORECASTS[200:], names, quantiles=QUANTILES[200:])
    errors = [np.mean([abs(c.realised - c.nominal) for c in each]) for each in (static, own)]
    assert errors[1] < 0.5 * errors[0]
    scores = measure_crps(DETECTOR, TARGETS, FORECASTS, WINDOWS[:, -1], names, QUANTILES)
    assert {(score.feature, score.step) for score in scores} == {(name, step) for name in names for step in (1, HORIZON)}
    first = next(score for score in scores if (score.feature, score.step) == ("a", 1))
    loss = np.zeros(len(ORIGINS))
    for level in np.arange(1, 100) / 100:
        ends = DETECTOR.path_interval(FORECASTS, max(abs(1 - 2 * level), 1e-9), QUANTILES)
        away = TARGETS[:, 0, 0] - ends[int(level > 0.5)][:, 0, 0]
        loss += np.maximum(level * away, (level - 1) * away)
    unchanged = np.abs(TARGETS[:, 0, 0] - WINDOWS[:, -1, 0]).mean()
    assert first.own == pytest.approx(2 * loss.mean() / 99 / unchanged, rel=1e-6)
    assert first.own < first.calibration
