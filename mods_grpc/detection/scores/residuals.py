"""The space in which residuals are scored, log1p for counts and sums and raw for means, and the robust scale of residuals."""

from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.artifact.manifest import FeatureKind

MAD_TO_SIGMA = 1.4826  # the median absolute deviation of a normal distribution times this is its standard deviation
MIN_SCALE = 1e-6
_ZERO, _ONE = np.float32(0), np.float32(1)
MAX_LOG = 700.0  # exp of it is still finite


class ResidualSpace:
    """Maps raw values of the features to residual space and back.

    Args:
        kinds: Kind of each feature, in order.

    Attributes:
        kinds: As given.
    """

    def __init__(self, kinds: Sequence[FeatureKind]) -> None:
        self.kinds = tuple(kinds)
        self._logarithmic = np.array([kind != "mean" for kind in kinds])
        self._linear = ~self._logarithmic
        self._all_logarithmic, self._any_logarithmic = bool(self._logarithmic.all()), bool(self._logarithmic.any())

    def forward(self, raw: Floats) -> Floats:
        """Map raw values `(..., features)`; forecasts of counts below 0 count as 0."""
        if not self._any_logarithmic:
            return raw
        out = np.empty_like(raw)
        self.forward_into(raw, out)
        return out

    def forward_into(self, raw: Floats, out: Floats) -> None:
        """Map as `forward` does, into an array of the same shape."""
        if not self._any_logarithmic:
            out[...] = raw
            return
        np.log1p(np.maximum(raw, 0.0, out=out), out)
        if not self._all_logarithmic:
            np.copyto(out, raw, where=self._linear)

    def forward_single_into(self, raw: Singles, out: Singles) -> None:
        """Map as `forward_single` does, into an array of the same shape."""
        if not self._any_logarithmic:
            out[...] = raw
            return
        np.maximum(raw, _ZERO, out=out)
        np.log(np.add(out, _ONE, out), out)
        if not self._all_logarithmic:
            np.copyto(out, raw, where=self._linear)

    def forward_single(self, raw: Singles) -> Singles:
        """Map raw values `(..., features)` in single precision, in a tenth of the time."""
        if not self._any_logarithmic:
            return raw
        out = np.empty_like(raw)
        self.forward_single_into(raw, out)
        return out

    def inverse(self, values: Floats) -> Floats:
        """Map back to raw units `(..., features)`; lower bounds of counts are at least 0."""
        raw = np.expm1(np.clip(values, 0.0, MAX_LOG))
        return np.where(self._logarithmic, np.where(values > MAX_LOG, np.inf, raw), values)

    def residuals(self, observed: Floats, expected: Floats, scales: Floats) -> Floats:
        """Return the signed residuals in units of `scales`, NaN where observed is NaN. All `(..., features)`."""
        return np.asarray((self.forward(observed) - self.forward(expected)) / scales, np.float64)


def robust_scale(differences: Floats) -> Floats:
    """Return the scale of unscaled residuals `(n, ...)` over the first axis: MAD about zero, NaN ignored.

    If more than half of them are zero, the mean absolute deviation is used; never below MIN_SCALE.
    """
    sizes = np.abs(differences)
    scale = MAD_TO_SIGMA * np.nanmedian(sizes, axis=0)
    scale = np.where(scale > MIN_SCALE, scale, np.nanmean(sizes, axis=0))
    return np.maximum(scale, MIN_SCALE)
