"""The reason in words."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.alarm_rules.reason import describe_peak, find_usual_peak, format_number, format_outside, restate_p_value
from mods_grpc.detection import describe

numbers = st.floats(min_value=0, max_value=1e14)


def test_the_reason_names_feature_direction_and_size():
    reason = describe("ssh_in", 19686, 4310, 3050, 5890, 0.81, 1, 2e-6)
    assert reason == "ssh_in 19,686, above expected 4,310 (3,050-5,890), p = 2e-06; 81 % of the score"


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (1, "unusually high over several rows"),
        (-1, "unusually low over several rows"),
        (0, "with an unusual pattern over several rows"),
    ],
)
def test_inside_the_interval_the_reason_names_the_direction_of_the_strongest_evidence_and_no_interval(direction, words):
    reason = describe("conn_in", 627, 624, 590, 660, 0.4, direction, 2e-4)
    assert reason == f"conn_in 627, {words}, not in the last one alone, p = 0.0002; 40 % of the score"


def test_the_reason_of_an_ordinary_row_says_that_nothing_is_unusual():
    reason = describe("conn_in", 627, 624, 590, 660, 0.4, 0, 0.7)
    assert reason == "nothing unusual, p = 0.7; conn_in 627, expected 624 (590-660)"


def test_no_count_is_expected_to_be_negative():
    reason = describe("dns_out", 14, -0.006, -3.2, 4.1, 0.9, 1, 1e-5, 0.0)
    assert reason == "dns_out 14, above expected 0 (0-4.1), p = 1e-05; 90 % of the score"
    assert describe("balance", 0.9, -0.2, -0.6, 0.1, 0.9, 1, 1e-5) == (
        "balance 0.9, above expected -0.2 (-0.6 to 0.1), p = 1e-05; 90 % of the score"
    )


def test_a_missing_value_is_called_missing():
    assert describe("ssh_in", math.nan, 4, 2, 6, 0.81, 0, 2e-6).startswith("ssh_in missing, with an unusual pattern")


@pytest.mark.parametrize(
    ("observed", "usual", "expected"),
    [
        (77e6, 1e5, "out_bytes 77,000,000, 770 times the usual peak of this series (100,000), p = 2e-05; 81 % of the score"),
        (42, 0, "out_bytes 42, above the usual peak of this series (0), p = 2e-05; 81 % of the score"),
    ],
)
def test_by_its_envelope_a_series_has_reached_so_many_times_its_usual_peak(observed, usual, expected):
    reason = describe_peak("out_bytes", observed, usual, 0.81, 2e-5)
    assert reason == expected
    assert find_usual_peak(reason) == usual


def test_other_reasons_have_no_usual_peak():
    assert find_usual_peak("ssh_in 19,686, above expected 4,310 (3,050-5,890), p = 2e-06") is None
    assert find_usual_peak("the usual peak of this series (,-e)") is None


@pytest.mark.parametrize("observed", [627.0, 900.0, 100.0])
@pytest.mark.parametrize("before", [2e-4, 0.7])
def test_every_reason_is_stated_with_another_p_value(observed, before):
    def reason(p_value):
        return describe("conn_in", observed, 624, 590, 660, 0.4, 1, p_value)

    assert restate_p_value(reason(before), before, 5e-9) == reason(before).replace(f"p = {before:.1g}", "p = 5e-09")
    assert "p = 5e-09" in restate_p_value(describe_peak("conn_in", observed, 3, 0.4, before), before, 5e-9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (30.94, "30.9"), (999.7, "1,000"), (19686, "19,686"), (77e6, "77,000,000"), (0.00612, "0.00612")],
)
def test_numbers_are_readable_and_parseable(value, text):
    assert format_number(value) == text


@given(st.floats(-1e300, 1e300))
def test_every_number_is_parsed_back_to_three_digits(value):
    text = format_number(value)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.006)
    assert not re.match(r"-0$", text)


def test_an_interval_of_a_count_has_whole_ends():
    assert format_outside(103, 30.9, 92.4, is_whole=True) == ("103", "31-92")
    assert format_outside(3, 0.2, 0.8, is_whole=True) == ("3", "0.2-0.8")


@given(numbers, numbers, numbers, st.booleans())
def test_a_value_outside_its_interval_is_shown_outside_it(observed, one, other, is_whole):
    lower, upper = min(one, other), max(one, other)
    observed = float(round(observed)) if is_whole else observed
    value, band = format_outside(observed, lower, upper, is_whole=is_whole)
    low, _, high = band.replace(",", "").partition("-") if not re.search("e-", band) else (lower, "", upper)
    shown = float(value.replace(",", ""))
    if observed > upper:
        assert shown > float(high or low)
    if observed < lower:
        assert shown < float(low)
