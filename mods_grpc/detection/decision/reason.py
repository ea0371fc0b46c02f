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
    band = f"{format_number(expected)} ({format_number(lower)}-{format_number(upper)})"
    if fused_p > MIN_ORDINARY_P:
        return f"nothing unusual, p = {fused_p:.1g} in all; {feature} {format_number(observed)}, expected {band}"
    if lower <= observed <= upper:
        return (
            f"{feature} {format_number(observed)}, {DIRECTION_TEXT[direction]} over several rows; "
            f"from the last one expected {band}, p = {fused_p:.1g} in all; {100 * share:.0f} % of the score"
        )
    side = "above" if observed > expected else "below"
    return f"{feature} {format_number(observed)}, {side} expected {band}, p = {p_value:.1g}; {100 * share:.0f} % of the score"


def format_number(value: float) -> str:
    """Format a number for readers: digits in groups of three, three significant digits below 1 000."""
    if math.isfinite(value) and abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
