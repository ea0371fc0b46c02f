"""The reason in words: one line that names the feature, the direction and the size."""

import math


def describe(
    feature: str, observed: float, expected: float, lower: float, upper: float, p_value: float, share: float, fused_p: float
) -> str:
    """Say why, for example "ssh_in 19 686, above expected 4 310 (3 050-5 890), p = 2e-06; 81 % of the score".

    Where the value lies in the interval of one step, it is its level, its course over several steps or the pattern of
    the last rows that is unusual, and the line says so.

    Args:
        feature: Name of the feature with the largest share of the score.
        observed: Its value in raw units.
        expected: The forecast.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        p_value: Its own p-value.
        share: Its share of the score, 0 to 1.
        fused_p: The p-value of all evidence.
    """
    direction = "above" if observed > expected else "below"
    band = f"{number(lower)}-{number(upper)}"
    if lower <= observed <= upper:
        return (
            f"{feature} {number(observed)}, {direction} expected {number(expected)} ({band}), "
            f"unusual over several rows, p = {fused_p:.1g} in all; {100 * share:.0f} % of the score"
        )
    return (
        f"{feature} {number(observed)}, {direction} expected {number(expected)} ({band}), "
        f"p = {p_value:.1g}; {100 * share:.0f} % of the score"
    )


def number(value: float) -> str:
    """Write a number for people: thousands in groups, three significant digits below 1 000."""
    if math.isfinite(value) and abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
