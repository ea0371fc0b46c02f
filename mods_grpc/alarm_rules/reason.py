"""The reason of a verdict in words: one line that names the feature, the direction and the size."""

import math

DIRECTION_TEXT = {1: "unusually high", -1: "unusually low", 0: "unusual"}
MIN_ORDINARY_P = 0.2  # rows with a higher p-value have nothing unusual


def describe(
    feature: str,
    observed: float,
    expected: float,
    lower: float,
    upper: float,
    p_value: float,
    share: float,
    direction: int,
    fused_p: float,
) -> str:
    """Return the reason, such as "ssh_in 19 686, above expected 4 310 (3 050-5 890), p = 2e-06; 81 % of the score".

    If the value lies inside its one-step interval, the evidence is its level, its sum over several rows or the pattern of the
    last rows; the line says so, and in which direction.

    Args:
        feature: Name of the feature with the largest share of the score.
        observed: Its value in raw units.
        expected: The forecast.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        p_value: Its own p-value.
        share: Its share of the score, 0 to 1.
        direction: Direction of its strongest evidence: 1 too high, -1 too low, 0 neither.
        fused_p: p-value of all evidence.
    """
    value, middle, low, high = format_numbers(observed, expected, lower, upper)
    band = f"{middle} ({low}-{high})"
    if fused_p > MIN_ORDINARY_P:
        return f"nothing unusual, p = {fused_p:.1g} in all; {feature} {value}, expected {band}"
    if lower <= observed <= upper:
        return (
            f"{feature} {value}, {DIRECTION_TEXT[direction]} over several rows; from the last one expected {band}, "
            f"p = {fused_p:.1g} in all; {100 * share:.0f} % of the score"
        )
    side = "above" if observed > expected else "below"
    return f"{feature} {value}, {side} expected {band}, p = {p_value:.1g}; {100 * share:.0f} % of the score"


def describe_peak(feature: str, observed: float, usual: float, share: float, p_value: float) -> str:
    """Return the reason of a row that is judged by the envelope of its series.

    Such as "out_bytes_sent 77 000 000, 770 times the usual peak of this series (100 000), p = 2e-05 in all; 81 % of the score".

    Args:
        feature: Name of the feature with the largest share of the score.
        observed: Its value in raw units.
        usual: What the highest value of an hour usually is.
        share: Its share of the score, 0 to 1.
        p_value: p-value of all evidence.
    """
    value, peak, times = format_numbers(observed, usual, observed / usual if usual > 0 else 0.0)
    if p_value > MIN_ORDINARY_P:
        return f"nothing unusual, p = {p_value:.1g} in all; {feature} {value}, usual peak of this series {peak}"
    above = f"{times} times" if usual > 0 else "above"
    rest = f"p = {p_value:.1g} in all; {100 * share:.0f} % of the score"
    return f"{feature} {value}, {above} the usual peak of this series ({peak}), {rest}"


def restate_p_value(reason: str, before: float, after: float) -> str:
    """Return what `describe` returned with another p-value of all evidence."""
    return reason.replace(f"p = {before:.1g} in all", f"p = {after:.1g} in all")


def format_numbers(*values: float) -> list[str]:
    """Format numbers for readers: digits in groups of three, three significant digits below 1 000."""
    texts = []
    for value in values:
        is_large = math.isfinite(value) and abs(value) >= 1000
        texts.append(f"{value:,.0f}".replace(",", " ") if is_large else f"{value:.3g}")
    return texts
