"""The reason in words."""

import pytest

from mods_grpc.alarm_rules.reason import describe_peak
from mods_grpc.detection import describe


def test_the_reason_names_feature_direction_and_size():
    reason = describe("ssh_in", 19686, 4310, 3050, 5890, 2e-6, 0.81, 1, 1e-6)
    assert reason == "ssh_in 19 686, above expected 4 310 (3 050-5 890), p = 2e-06; 81 % of the score"


@pytest.mark.parametrize(("direction", "word"), [(1, "unusually high"), (-1, "unusually low"), (0, "unusual")])
def test_inside_the_interval_the_reason_names_the_direction_of_the_strongest_evidence(direction, word):
    reason = describe("conn_in", 627, 624, 590, 660, 0.9, 0.4, direction, 2e-4)
    expected = (
        f"conn_in 627, {word} over several rows; from the last one expected 624 (590-660), p = 0.0002 in all; 40 % of the score"
    )
    assert reason == expected


def test_the_reason_of_an_ordinary_row_says_that_nothing_is_unusual():
    reason = describe("conn_in", 627, 624, 590, 660, 0.9, 0.4, 0, 0.7)
    assert reason == "nothing unusual, p = 0.7 in all; conn_in 627, expected 624 (590-660)"


@pytest.mark.parametrize(
    ("observed", "usual", "expected"),
    [
        (
            77e6,
            1e5,
            "out_bytes 77 000 000, 770 times the usual peak of this series (100 000), p = 2e-05 in all; 81 % of the score",
        ),
        (42, 0, "out_bytes 42, above the usual peak of this series (0), p = 2e-05 in all; 81 % of the score"),
    ],
)
def test_by_its_envelope_a_series_has_reached_so_many_times_its_usual_peak(observed, usual, expected):
    assert describe_peak("out_bytes", observed, usual, 0.81, 2e-5) == expected
