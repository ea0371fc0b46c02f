"""The detector: from observation and forecast to p-values, fused and explained. Static: it holds calibration, no state."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.manifest import DAY_SECONDS, Calibration, Manifest
from mods_grpc.detection.curves import Curves
from mods_grpc.detection.residuals import ResidualSpace

Floats = NDArray[np.float64]

LARGEST_COUNTED_P = 0.5  # features that look ordinary say nothing, rather than speaking against the others


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Verdicts on n observations.

    Attributes:
        p_value: `(n,)`, fused over the features; NaN where every value was missing.
        feature_p: `(n, features)`; NaN where the value was missing.
        out_of_distribution: `(n,)`, whether a value lies further outside the training range than that range is wide.
    """

    p_value: Floats
    feature_p: Floats
    out_of_distribution: NDArray[np.bool_]


class Detector:
    """Turns residuals into calibrated p-values.

    Per feature the p-value is conformal, from the absolute scaled residual. Features are fused by the truncated Cauchy
    combination (Liu & Xie 2020, "Cauchy combination test"; truncated at 0.5 so that an ordinary feature can't cancel an
    extraordinary one), whose own distribution was calibrated on the same rows, so that the fused p is uniform there
    whatever the dependence between features.
    """

    def __init__(self, calibration: Calibration, space: ResidualSpace, training_range: tuple[Floats, Floats]) -> None:
        self._space = space
        self._scales = np.array(calibration.scales, np.float64)
        self._curves = [Curves(row) for row in calibration.curves]
        self._fused = Curves([calibration.fused])
        low, high = training_range
        self._lowest, self._highest = low - (high - low), high + (high - low)

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Detector":
        """Make the detector that a model was calibrated for."""
        low = np.array([feature.training_minimum for feature in manifest.features])
        high = np.array([feature.training_maximum for feature in manifest.features])
        return cls(manifest.calibration, ResidualSpace([feature.kind for feature in manifest.features]), (low, high))

    def judge(self, observed: Floats, expected: Floats) -> Judgement:
        """Judge observations against the forecasts made one step before; both `(n, features)` in raw units, NaN = missing."""
        feature_p = self.feature_p(observed, expected)
        present = ~np.isnan(observed)
        p_value = self._fused.p_value(evidence(feature_p)[:, None])[:, 0]
        outside: NDArray[np.bool_] = np.any((observed < self._lowest) | (observed > self._highest), axis=1)
        return Judgement(p_value=np.where(present.any(axis=1), p_value, np.nan), feature_p=feature_p, out_of_distribution=outside)

    def feature_p(self, observed: Floats, expected: Floats) -> Floats:
        """Return each feature's own p-value, `(n, features)`; NaN where observed is NaN."""
        sizes = np.abs(self._space.residuals(observed, expected, self._scales[0]))
        return self._curves[0].p_value(sizes)

    def interval(self, expected: Floats, coverage: float, step: int = 1) -> tuple[Floats, Floats]:
        """Return lower and upper ends, `(n, features)`, of the conformal interval around forecasts made `step` steps before."""
        widths = self._curves[step - 1].scores_at(1 - coverage) * self._scales[step - 1]
        centre = self._space.forward(expected)
        return self._space.inverse(centre - widths), self._space.inverse(centre + widths)

    def path_interval(self, forecast: Floats, coverage: float) -> tuple[Floats, Floats]:
        """Return lower and upper ends, `(n, steps, features)`, of intervals around forecast paths."""
        ends = [self.interval(forecast[:, k], coverage, k + 1) for k in range(forecast.shape[1])]
        return np.stack([low for low, _ in ends], axis=1), np.stack([high for _, high in ends], axis=1)


def evidence(feature_p: Floats) -> Floats:
    """Fuse p-values `(n, features)` into one score `(n,)`, higher for stranger rows; missing features count nothing."""
    counted = np.minimum(np.where(np.isnan(feature_p), LARGEST_COUNTED_P, feature_p), LARGEST_COUNTED_P)
    return np.asarray(np.log10(1 + (1 / np.tan(np.pi * counted)).clip(0).mean(axis=1)), np.float64)


def shares(feature_p: Floats) -> Floats:
    """Return each feature's share of the evidence, `(n, features)`, 0 to 1, adding up to 1 over a row."""
    strength = -np.log10(np.where(np.isnan(feature_p), 1.0, feature_p))
    total = strength.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, strength / np.where(total > 0, total, 1.0), 1 / feature_p.shape[1]), np.float64)


def significance_from_budget(false_alarms_per_day: float, slide_seconds: int) -> float:
    """Turn a budget into the significance level of one observation: alarms a day over observations a day.

    Neighbouring windows overlap, so anomalous rows come in runs and an episode, which is what counts as an alarm, takes
    several of them: the realised rate of episodes lies at or below the budget.
    """
    return false_alarms_per_day * slide_seconds / DAY_SECONDS
