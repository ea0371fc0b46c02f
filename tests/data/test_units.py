"""Spans of time as file names write them."""

import pytest

from mods_grpc.data.units import format_span


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "01m"), (600, "10m"), (5_400, "90m"), (86_400, "01d"), (7, "07s"), (90_000, "25h")]
)
def test_a_span_is_written_in_the_largest_unit_that_divides_it(seconds: int, text: str) -> None:
    assert format_span(seconds) == text
