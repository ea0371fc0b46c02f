"""Named arrays as the bytes of an `.npz` file. The same arrays give the same bytes, and no code can be stored in it."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can have


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write arrays in the given order, uncompressed and without timestamps."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), entry.getvalue())
    return file.getvalue()


def unpack_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Read arrays in the order of the file.

    Raises:
        DataError: Not an `.npz` file of plain arrays.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError("not an .npz file of plain arrays") from error
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise DataError("not an .npz file of plain arrays: it holds other files")
    return arrays
