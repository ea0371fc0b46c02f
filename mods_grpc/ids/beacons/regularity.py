"""How regular a list of connections is: the measures of RITA 5 (github.com/activecm/rita, analysis/beacons.go).

All scores lie between 0 and 1; 1 is perfectly regular.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from mods_grpc.array_types import Floats

BINS = 24
BIMODAL_MIN_BINS = 11  # RITA's histogram_bimodal_min_hours_seen
BIMODAL_OUTLIERS = 1  # RITA's histogram_bimodal_outlier_removal
MODE_SENSITIVITY = 0.05  # RITA's histogram_mode_sensitivity
MIN_VALUES = 4  # different seconds of connections, as RITA has it, and sizes
MIN_STATED_SHARE = 0.5  # of the connections, which say their bytes
MIN_HOURS = 6  # RITA's duration_min_hours_seen
IDEAL_HOURS = 12  # RITA's duration_consistency_ideal_hours_seen
_MIN_RANGE = 10.0  # below it quartiles are too near for a skew
_HOUR_SECONDS = 3_600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispersion:
    """Median, skew and dispersion of values.

    Attributes:
        median: The median.
        deviation: Median absolute deviation from it.
        skew: Bowley's skewness of the quartiles, -1 to 1; 0 if the quartiles are less than 10 apart.
        score: Mean of 1 - |skew| and 1 - deviation / median.
    """

    median: float
    deviation: float
    skew: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Regularity:
    """The regularity of the connections of a pair.

    Attributes:
        intervals: Of the times between connections in different seconds, in seconds.
        sizes: Of the bytes that the originator sent. Where fewer than `MIN_VALUES` connections, or a share of them below
            `MIN_STATED_SHARE`, say so, the score is 0: the others may have sent anything.
        histogram: How evenly the connections are spread over the time from the first to the last one.
        duration: How much of the logs' time they cover, or for how many hours without a gap; 0 below `MIN_HOURS` hours.
    """

    intervals: Dispersion
    sizes: Dispersion
    histogram: float
    duration: float

    @property
    def score(self) -> float:
        """Mean of intervals, sizes and histogram. A young destination has no duration yet, so that is no part of it."""
        return (self.intervals.score + self.sizes.score + self.histogram) / 3


def measure_regularity(times: Floats, sizes: Floats, begin: float, end: float) -> Regularity | None:
    """Return the regularity of connections; None if they are in fewer than four different seconds, as RITA has it.

    Args:
        times: When the connections began, `(n,)`, seconds since 1970, in order.
        sizes: Bytes that the originator sent, `(m,)`, of those connections that say so.
        begin: When the logs begin, seconds since 1970.
        end: When they end.
    """
    seconds = np.unique(np.floor(times))
    if len(seconds) < MIN_VALUES:
        return None
    of_sizes = _disperse(sizes)
    if len(sizes) < max(MIN_VALUES, MIN_STATED_SHARE * len(times)):
        of_sizes = replace(of_sizes, score=0.0)
    return Regularity(
        intervals=_disperse(np.diff(seconds)),
        sizes=of_sizes,
        histogram=_histogram_score(times),
        duration=_duration_score(times, begin, end),
    )


def _disperse(values: Floats) -> Dispersion:
    """Measure n values, `(n,)`; of none all is 0."""
    if not len(values):
        return Dispersion(median=0.0, deviation=0.0, skew=0.0, score=0.0)
    ordered = np.sort(values)
    half = len(ordered) // 2
    median = float(np.median(ordered))
    skew = 0.0
    if half:  # the halves leave out the middle of an odd number
        low, high = float(np.median(ordered[:half])), float(np.median(ordered[-half:]))
        if high - low >= _MIN_RANGE and median not in {low, high}:
            skew = (low + high - 2 * median) / (high - low)
    deviation = float(np.median(np.abs(ordered - median)))
    # RITA counts bytes of IP packets, which are never 0; of connections that send nothing the size is as regular
    deviation_score = max(0.0, (median - deviation) / median) if median >= 1 else float(deviation == 0)
    return Dispersion(median=median, deviation=deviation, skew=skew, score=(1 - abs(skew) + deviation_score) / 2)


def _histogram_score(times: Floats) -> float:
    """Score how even the bars of a histogram are, or how well two heights describe them."""
    if times[-1] <= times[0]:
        return 0.0
    bars = np.histogram(times, bins=BINS)[0]
    variation = float(bars.std() / bars.mean())
    filled = bars[bars > 0]
    two_heights = 0.0
    if len(filled) >= BIMODAL_MIN_BINS:
        width = math.ceil(bars.max() * MODE_SENSITIVITY)
        heights = np.sort(np.unique(filled // width, return_counts=True)[1])
        two_heights = float(heights[-2:].sum()) / max(1, len(filled) - BIMODAL_OUTLIERS)
    return max(0.0, 1 - variation, min(1.0, two_heights))


def _duration_score(times: Floats, begin: float, end: float) -> float:
    """Score the longer of the share of the logs' time and the run of hours without a gap."""
    hours = np.unique(np.floor((times - begin) / _HOUR_SECONDS))
    if len(hours) < MIN_HOURS:
        return 0.0
    coverage = (times[-1] - times[0]) / max(end - begin, 1.0)
    gaps = np.flatnonzero(np.diff(hours) > 1)
    longest = int(np.diff(np.concatenate([[-1], gaps, [len(hours) - 1]])).max())
    return float(min(1.0, max(coverage, longest / IDEAL_HOURS)))
