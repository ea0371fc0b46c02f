"""The array types that modules share: one name for each dtype, and the unit of times."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Times = NDArray[np.int64]
"""Nanoseconds since 1970-01-01T00:00Z."""
Integers = NDArray[np.int64]
"""Whole numbers that are not times, such as positions of rows in a file."""
Indices = NDArray[np.intp]
"""Positions along an axis of an array."""
Bools = NDArray[np.bool_]
Texts = NDArray[np.object_]
"""Texts, or None."""
SmallIntegers = NDArray[np.int32]
"""Numbers of texts, many of which are held."""
Uids = NDArray[np.bytes_]
"""Uids of records; empty for none."""
Hashes = NDArray[np.uint64]
"""Hashes of values, by `mods_grpc.features.hashing`."""

NANOS_PER_SECOND = 1_000_000_000
