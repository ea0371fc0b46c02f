"""Times and numbers in cells: every form that is read, and those that are refused because they could be misread."""

import math
from datetime import UTC, datetime

import pytest

from mods_grpc.data.cells import parse_number, parse_time
from mods_grpc.errors import DataError

NEW_YEAR = 1_546_300_800 * 10**9


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2019-01-01", NEW_YEAR),
        ("2019-01-01 00:00:00", NEW_YEAR),
        ("2019-01-01T02:00:00+02:00", NEW_YEAR),
        ("2019-01-01T02:00:00+02", NEW_YEAR),
        ("2018-12-31T19:30:00-0430", NEW_YEAR),
        ("2019-01-01T00:00:00 Z", NEW_YEAR),
        ("2019-01-01T00:00:00.250Z", NEW_YEAR + 250_000_000),
        ("2019-01-01T00:00:00.123456789Z", NEW_YEAR + 123_456_789),
        ("2019-01-01T00:00:00,5Z", NEW_YEAR + 500_000_000),
        ("2019/01/01 00:00", NEW_YEAR),
        ("20190101T000000Z", NEW_YEAR),
        (' "2019-01-01" ', NEW_YEAR),
        ("1546300800", NEW_YEAR),
        ("1546300800.123456", NEW_YEAR + 123_456_000),
        ("1546300800000", NEW_YEAR),
        ("1546300800000000", NEW_YEAR),
        ("1546300800000000001", NEW_YEAR + 1),
        ("1.5463008e9", NEW_YEAR),
        ("600", 600 * 10**9),
        ("2019", 2_019 * 10**9),
        ("-5", -5 * 10**9),
        ("1969-12-31T23:59:59.75Z", -250_000_000),
    ],
)
def test_a_time_is_read_in_many_forms_and_without_a_zone_as_utc(text: str, nanos: int) -> None:
    assert parse_time(text, "here") == nanos


@pytest.mark.parametrize("year", [1678, 1900, 1970, 2019, 2261])
@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y%m%dT%H%M%S", "%Y/%m/%d %H:%M:%S"]
)
def test_all_forms_of_one_moment_give_one_time(year: int, form: str) -> None:
    moment = datetime(year, 2, 28, 23, 59, 58, tzinfo=UTC)
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time(moment.strftime(form), "here") == (since_epoch.days * 86_400 + since_epoch.seconds) * 10**9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "now",
        "today",
        "NaT",
        "2019-06",
        "2019-1-5",
        "2019-01/31",
        "2019.01.31",
        "2019-W01-1",
        "2019-02-30",
        "2019-01-31x00:00",
        "2019-01-31T25:00:00",
        "2019-01-31T00:00:00+25:00",
        "1_546_300_800",
        "1e40",
        "inf",
        "9999-01-01",
        "1600-01-01",
    ],
)
def test_what_is_not_a_time_raises_data_error(text: str) -> None:
    with pytest.raises(DataError, match="here: expected a time such as"):
        parse_time(text, "here")


@pytest.mark.parametrize("text", ["20190131", "19991231", "201901312350"])
def test_digits_that_may_be_a_date_or_a_number_raise_data_error(text: str) -> None:
    with pytest.raises(DataError, match="may be a date or a number since 1970; write a date as 2019-01-31"):
        parse_time(text, "here")


@pytest.mark.parametrize(
    ("text", "number"), [("5", 5.0), (" +5 ", 5.0), ('"5"', 5.0), ("5.", 5.0), (".5", 0.5), ("-1e5", -1e5), ("0.1", 0.1)]
)
def test_a_number_is_read_with_space_and_quotes_around_it(text: str, number: float) -> None:
    assert parse_number(text, "a", "here") == number


@pytest.mark.parametrize("text", ["", '""', "-", "(empty)", "na", "NaN", "NULL", "None", "  "])
def test_a_missing_cell_is_nan(text: str) -> None:
    assert math.isnan(parse_number(text, "a", "here"))


@pytest.mark.parametrize(
    "text", ["inf", "-inf", "1e400", "-nan", "1_000", "0x10", "True", "1,5", "\N{ARABIC-INDIC DIGIT ONE}", "n/a", "."]
)
def test_what_is_not_a_finite_number_raises_data_error(text: str) -> None:
    with pytest.raises(DataError, match="here: expected a number in column a, found"):
        parse_number(text, "a", "here")


@pytest.mark.parametrize("character", ["9", ",", "."])
def test_a_cell_of_any_length_is_refused_at_once(character: str) -> None:
    with pytest.raises(DataError, match="here: expected a number in column a, found"):
        parse_number(character * 200_000 + "x", "a", "here")
