"""The measures of regularity, against values computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.ids.beacons.regularity import measure_regularity

DAY = 86_400.0


def measure(times, sizes=(100.0,) * 4, begin=0.0, end=DAY):
    return measure_regularity(np.array(times, dtype=float), np.array(sizes, dtype=float), begin, end)


def test_a_perfect_beacon_of_a_whole_day_scores_1_in_all():
    regularity = measure(np.arange(0, DAY, 60), [321.0] * 1_440)
    assert (regularity.intervals.median, regularity.intervals.deviation, regularity.intervals.skew) == (60, 0, 0)
    assert (regularity.sizes.median, regularity.sizes.deviation) == (321, 0)
    assert (regularity.intervals.score, regularity.sizes.score, regularity.duration) == (1, 1, pytest.approx(1, abs=1e-3))
    assert regularity.histogram == pytest.approx(1, abs=0.01)
    assert regularity.score == pytest.approx(1, abs=0.01)


def test_skew_and_dispersion_are_of_the_quartiles_and_of_the_median():
    # intervals 10, 20, 30, 40, 90: halves without the middle are 10, 20 and 40, 90, so that the quartiles are 15, 30, 65
    intervals = measure([0, 30, 40, 130, 150, 190]).intervals
    assert intervals.skew == pytest.approx((15 + 65 - 2 * 30) / (65 - 15))
    assert (intervals.median, intervals.deviation) == (30, 10)  # of 20, 10, 0, 10, 60
    assert intervals.score == pytest.approx(((1 - 0.4) + (1 - 10 / 30)) / 2)


def test_a_skew_of_quartiles_less_than_10_apart_is_none():
    assert measure([0, 1, 3, 6, 7, 15]).intervals.skew == 0


def test_a_dispersion_above_the_median_scores_0():
    sizes = measure([0, 10, 20, 30, 40], [1, 1, 1, 1_000, 10_000, 100_000]).sizes
    assert sizes.deviation / sizes.median > 0.9
    assert measure([0, 10, 20, 30], [2, 0, 2, 0, 8, 9]).sizes.score == pytest.approx((1 + 0) / 2)


def test_connections_that_send_nothing_are_all_of_one_size_and_without_sizes_nothing_is_known():
    assert measure([0, 10, 20, 30], [0.0] * 9).sizes.score == 1
    assert measure([0, 10, 20, 30], [0.0, 0.0, 1.0, 1.0]).sizes.score == 0.5
    assert measure([0, 10, 20, 30], []).sizes.score == 0


@pytest.mark.parametrize(
    ("times", "stated", "score"),
    [(60, 1, 0), (60, 29, 0), (60, 30, 1), (60, 60, 1), (61, 30, 0), (4, 3, 0), (4, 4, 1), (6, 3, 0), (7, 4, 1)],
)
def test_sizes_count_only_if_half_of_the_connections_and_four_say_them(times, stated, score):
    sizes = measure(np.arange(times) * 10.0, [255.0] * stated).sizes
    assert (sizes.median, sizes.deviation, sizes.score) == (255, 0, score)


@pytest.mark.parametrize("times", [[], [5.0], [0.1, 0.2, 0.3, 0.4, 0.9], [0, 1, 2, 2.5]])
def test_fewer_than_four_different_seconds_have_no_regularity(times):
    assert measure(times) is None


def test_bursts_have_an_uneven_histogram_and_two_heights_an_even_one():
    bursts = [hour * 3_600 + number for hour in (0, 9, 23) for number in range(50)]
    assert measure(bursts).histogram == 0
    two = [hour * 3_600 + second for hour in range(24) for second in range(0, 3_600, 300 if hour % 2 else 30)]
    assert measure([*two, 24 * 3_600]).histogram == 1


def test_a_duration_needs_six_hours_and_grows_with_coverage_or_the_run_of_hours():
    def duration(hours, end=DAY):
        return measure([3_600.0 * hour + 60 * k for hour in hours for k in range(4)], end=end).duration

    assert duration(range(5)) == 0
    assert duration(range(6)) == pytest.approx(6 / 12)
    assert duration(range(12)) == 1
    assert duration([0, 4, 8, 12, 16, 20], end=10 * DAY) == pytest.approx(1 / 12, abs=1e-3)
    assert duration([0, 4, 8, 12, 16, 20]) == pytest.approx((20 * 3_600 + 180) / DAY)


@given(st.lists(st.integers(0, 100_000), min_size=4, max_size=60), st.lists(st.integers(0, 10**9), max_size=60))
def test_every_score_lies_between_0_and_1(times, sizes):
    regularity = measure(sorted(times), sizes, 0.0, 100_000.0)
    if regularity is not None:
        parts = (regularity.intervals.score, regularity.sizes.score, regularity.histogram, regularity.duration)
        assert all(0 <= part <= 1 for part in (*parts, regularity.score))


def test_jitter_lowers_the_score_step_by_step():
    draw = np.random.default_rng(1)
    scores = []
    for jitter in (0, 10, 30, 120):
        times = np.sort(np.arange(200) * 60.0 + draw.uniform(0, jitter, 200))
        scores.append(measure(times, [100.0] * 200).score)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.99 > scores[2] > scores[3]
