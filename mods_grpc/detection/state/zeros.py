"""Arrays of zeros whose memory the system gives as it is written to, and takes back when they go."""

import contextlib
import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE_BYTES = 1 << 20


def zeros(*shape: int, kind: type[np.generic] = np.float64) -> NDArray[Any]:
    """Make an array of zeros.

    The C library may give `numpy.zeros` memory that was used before, which is then written to from end to end. A large array is
    a mapping of its own.

    Raises:
        MemoryError, OSError, OverflowError: The system doesn't give as much.
    """
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size < LARGE_BYTES:
        return np.zeros(shape, kind)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel may have no large pages
            mapping.madvise(mmap.MADV_HUGEPAGE)  # as numpy does
    return np.frombuffer(mapping, kind).reshape(shape)
