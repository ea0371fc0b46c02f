import numpy as np

from tests.support.training.data import make_walk
from training.data.feature import describe_column
from training.data.gaps import find_gaps, forward_fill
from training.data.series import DataReport, make_series

START = np.datetime64("2024-03-30T00:00:00")  # the clock is put forward on the 31st, a Sunday, at 02:00


def grid(hours: int) -> np.ndarray:
    return START + np.arange(6 * hours) * np.timedelta64(600, "s")


def test_an_hour_that_is_missing_in_the_night_to_a_sunday_is_a_change_of_the_clock() -> None:
    times = grid(48)
    sunday = (times >= np.datetime64("2024-03-31T02:00")) & (times < np.datetime64("2024-03-31T03:00"))
    holes = find_gaps(times, sunday, [], 600)
    assert (holes.count, holes.longest, holes.clock_changes) == (1, 6, 1)


def test_other_holes_are_no_change_of_the_clock() -> None:
    times = grid(48)
    saturday = (times >= np.datetime64("2024-03-30T02:00")) & (times < np.datetime64("2024-03-30T03:00"))
    longer = (times >= np.datetime64("2024-03-31T01:00")) & (times < np.datetime64("2024-03-31T05:00"))
    holes = find_gaps(times, saturday | longer, [], 600)
    assert (holes.count, holes.longest, holes.clock_changes) == (2, 24, 0)


def test_an_hour_that_is_repeated_in_the_night_to_a_sunday_is_a_change_of_the_clock() -> None:
    times = grid(48)
    nothing = np.zeros(len(times), dtype=np.bool_)
    autumn = np.datetime64("2024-10-27T02:00:00") + np.arange(6) * np.timedelta64(600, "s")
    assert find_gaps(times, nothing, autumn, 600).clock_changes == 1
    assert find_gaps(times, nothing, autumn[:2], 600).clock_changes == 0
    assert find_gaps(times, nothing, autumn + np.timedelta64(1, "D"), 600).clock_changes == 0


def test_a_series_reports_its_holes() -> None:
    walk = make_walk(days=2)
    kept = np.ones(len(walk.times), dtype=np.bool_)
    kept[50:60] = kept[100:103] = False
    series = make_series(
        walk.times[kept],
        walk.values[kept],
        [describe_column(f"x{i}", "conn", "in_count_uid") for i in range(2)],
        window_seconds=3600,
        slide_seconds=600,
        report=DataReport(),
    )
    assert (series.report.holes, series.report.longest_hole, series.report.inserted) == (2, 10, 13)


def test_missing_values_take_the_last_known_one() -> None:
    nan = np.nan
    values = np.array([[nan, nan], [1, nan], [nan, nan], [3, nan]])
    np.testing.assert_array_equal(forward_fill(values), [[1, 0], [1, 0], [1, 0], [3, 0]])
