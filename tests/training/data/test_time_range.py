import numpy as np
import pytest

from mods_grpc.errors import DataError
from training.data.time_range import parse_interval, parse_intervals


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("<2019-06-01,2019-06-03)", "2019-06-01T00:00:00", "2019-06-03T00:00:00"),
        ("<2019-06-01,2019-06-03>", "2019-06-01T00:00:00", "2019-06-04T00:00:00"),
        ("(2019-06-01,2019-06-03)", "2019-06-02T00:00:00", "2019-06-03T00:00:00"),
        (" < 2019-06 , 2019-07 > ", "2019-06-01T00:00:00", "2019-08-01T00:00:00"),
        ("<2019-06-01T10:00,2019-06-01 12:00:30>", "2019-06-01T10:00:00", "2019-06-01T12:00:31"),
        ("2019-04-15 -- 2019-04-30", "2019-04-15T00:00:00", "2019-05-01T00:00:00"),
        ("2018", "2018-01-01T00:00:00", "2019-01-01T00:00:00"),
    ],
)
def test_a_range_includes_exactly_what_its_brackets_say(text: str, start: str, end: str) -> None:
    interval = parse_interval(text)
    assert (str(interval.start), str(interval.end)) == (start, end)


@pytest.mark.parametrize(
    "text", ["", "<2019-06-01", "2019-13", "[2019-06-01,2019-06-03)", "<2019-06-03,2019-06-01)", "<2019-6-1,2019-6-3)"]
)
def test_what_is_no_range_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(DataError, match="time range"):
        parse_interval(text)


def test_a_list_of_ranges_splits_between_them_and_not_inside() -> None:
    intervals = parse_intervals("<2019-06-01,2019-06-03), 2019-07, (2019-01,2019-03>")
    assert [str(interval) for interval in intervals] == [
        "<2019-06-01T00:00:00,2019-06-03T00:00:00)",
        "<2019-07-01T00:00:00,2019-08-01T00:00:00)",
        "<2019-02-01T00:00:00,2019-04-01T00:00:00)",
    ]
    assert parse_intervals("  ") == ()


def test_an_interval_lists_the_days_it_touches() -> None:
    days = parse_interval("<2019-06-01T22:00,2019-06-03)").days()
    assert days == [np.datetime64("2019-06-01"), np.datetime64("2019-06-02")]
