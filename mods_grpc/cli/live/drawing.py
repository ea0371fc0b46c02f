"""Drawings of one line: the last values of a feature, and where its value lies in the forecast band."""

import math
from collections.abc import Iterable

from mods_grpc.client import FeatureVerdict

BAND_WIDTH = 24
_BARS = "▁▂▃▄▅▆▇█"


def draw_sparkline(values: Iterable[float]) -> str:
    """Draw values as bars, scaled from the lowest to the highest of them."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in finite)


def draw_band(feature: FeatureVerdict) -> str:
    """Draw the forecast band as a line, the forecast as a tick and the observed value as a dot; far outside as <<< or >>>."""
    low, high = feature.lower, feature.upper
    if not high > low:
        return ""
    start, end = BAND_WIDTH // 4, BAND_WIDTH - BAND_WIDTH // 4
    cells = [" "] * start + ["─"] * (end - start) + [" "] * start

    def column_of(value: float) -> int:
        return start + round((value - low) / (high - low) * (end - start - 1))

    cells[max(start, min(end - 1, column_of(feature.expected)))] = "┼"
    if feature.observed is not None:
        at = column_of(feature.observed)
        if 0 <= at < BAND_WIDTH:
            cells[at] = "●"
        else:
            cells[:3], cells[-3:] = (["<"] * 3, cells[-3:]) if at < 0 else (cells[:3], [">"] * 3)
    return "".join(cells)
