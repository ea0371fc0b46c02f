"""The reason of a verdict in words: one line that names the feature, the direction and the size."""

import math
import re

DIRECTION_TEXT = {
    1: "unusually high over several rows",
    -1: "unusually low over several rows",
    0: "with an unusual pattern over several rows",
}
MIN_ORDINARY_P = 0.2  # rows with a higher p-value have nothing unusual
GROUPED_FROM, POWERS_FROM = 1e3, 1e15  # in between, numbers have their digits in groups of three
MAX_DIGITS = 17  # which tell any two numbers apart
_USUAL_PEAK = re.compile(r"the usual peak of this series \(([0-9.,e+-]+)\)")


def describe(
    feature: str,
    observed: float,
    expected: float,
    lower: float,
    upper: float,
    share: float,
    direction: int,
    p_value: float,
    minimum: float = -math.inf,
) -> str:
    """Return the reason, such as "ssh_in 19,686, above expected 4,310 (3,050-5,890), p = 2e-06; 81 % of the score".

    If the value lies inside its one-step interval, the evidence is its level, its sum over several rows or the pattern of the
    last rows; the line says so, in which direction, and gives no interval.

    Args:
        feature: Name of the feature with the largest share of the score.
        observed: Its value in raw units, NaN if missing.
        expected: The forecast.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        share: Its share of the score, 0 to 1.
        direction: Direction of its strongest evidence: 1 too high, -1 too low, 0 neither.
        p_value: p-value of all evidence.
        minimum: The smallest value that the feature can have: 0 for counts and sums.
    """
    expected, lower, upper = max(expected, minimum), max(lower, minimum), max(upper, minimum)
    value, band = format_outside(observed, lower, upper)
    forecast = f"expected {format_number(expected)} ({band})"
    if math.isnan(observed):
        value = "missing"
    if p_value > MIN_ORDINARY_P:
        return f"nothing unusual, {_format_p(p_value)}; {feature} {value}, {forecast}"
    rest = f"{_format_p(p_value)}; {100 * share:.0f} % of the score"
    if math.isnan(observed):
        return f"{feature} {value}, {DIRECTION_TEXT[direction]}, {rest}"
    if lower <= observed <= upper:
        return f"{feature} {value}, {DIRECTION_TEXT[direction]}, not in the last one alone, {rest}"
    return f"{feature} {value}, {'above' if observed > upper else 'below'} {forecast}, {rest}"


def describe_peak(feature: str, observed: float, usual: float, share: float, p_value: float) -> str:
    """Return the reason of a row that is judged by the envelope of its series.

    Such as "out_bytes_sent 77,000,000, 770 times the usual peak of this series (100,000), p = 2e-05; 81 % of the score".

    Args:
        feature: Name of the feature with the largest share of the score.
        observed: Its value in raw units.
        usual: What the highest value of an hour usually is.
        share: Its share of the score, 0 to 1.
        p_value: p-value of all evidence.
    """
    if p_value > MIN_ORDINARY_P:
        value, peak = format_number(observed), format_number(usual)
        return f"nothing unusual, {_format_p(p_value)}; {feature} {value}, usual peak of this series {peak}"
    rest = f"{_format_p(p_value)}; {100 * share:.0f} % of the score"
    return f"{feature} {format_number(observed)}, {compare_with_peak(observed, usual)}, {rest}"


def compare_with_peak(observed: float, usual: float) -> str:
    """Return how far a value is above the usual peak of its series, such as "770 times the usual peak of this series (100)"."""
    above = f"{format_number(observed / usual)} times" if usual > 0 and observed / usual >= 1.005 else "above"
    return f"{above} the usual peak of this series ({format_number(usual)})"


def find_usual_peak(reason: str) -> float | None:
    """Return the usual peak that `describe_peak` wrote into a reason; None in other reasons."""
    match = _USUAL_PEAK.search(reason)
    try:
        return float(match[1].replace(",", "")) if match else None
    except ValueError:
        return None


def restate_p_value(reason: str, before: float, after: float) -> str:
    """Return what `describe` or `describe_peak` returned with another p-value of all evidence."""
    return reason.replace(f"{_format_p(before)}; ", f"{_format_p(after)}; ")


def _format_p(p_value: float) -> str:
    return f"p = {p_value:.1g}"


def format_number(value: float, digits: int = 3) -> str:
    """Format a number for readers: digits in groups of three by commas, three significant digits below 1,000."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else f"{value}"
    value = float(f"{value:.{MAX_DIGITS if abs(value) >= GROUPED_FROM else digits}g}") + 0.0  # no -0, and no 1e+03 for 999.7
    if not GROUPED_FROM <= abs(value) < POWERS_FROM:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def format_outside(observed: float, lower: float, upper: float, *, is_whole: bool = False) -> tuple[str, str]:
    """Format a value and an interval, such as "103" and "31-92", with so many digits that both show whether it lies outside.

    Args:
        observed: The value.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        is_whole: Whether only whole numbers can occur, so that only those in the interval are of interest.
    """
    if is_whole and math.isfinite(lower) and math.isfinite(upper) and math.ceil(lower) <= math.floor(upper):
        lower, upper = float(math.ceil(lower)), float(math.floor(upper))
    for digits in range(3, MAX_DIGITS + 1):
        value, low, high = (format_number(each, digits) for each in (observed, lower, upper))
        if (value == low) <= (observed >= lower) and (value == high) <= (observed <= upper):
            break
    if low == high:
        return value, low
    return value, f"{low} to {high}" if lower < 0 else f"{low}-{high}"
