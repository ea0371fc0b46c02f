"""Hashes of values, the same in every process, and arrays as text."""

import base64
import sys
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Hashes

HASH_RANGE = 1 << 64
MAX_PLAIN_CHARACTERS = 200
_DIGEST_BYTES = 8
_CACHED_HASHES = 1 << 16
_EMPTY: Hashes = np.empty(0, dtype=np.uint64)


def hash_value(value: object) -> int:
    """Return a 64-bit hash of the value's text, the same in every process and hard to steer by choice of the values.

    Bytes are a hash already, by `shorten`. Among a million values the probability of a collision is 1 in 37 million.
    """
    return int.from_bytes(value if isinstance(value, bytes) else _digest(str(value)), "little")


def hash_values(values: Iterable[object]) -> Hashes:
    """Return the hashes of n values, `(n,)`, through a cache; longer texts than `MAX_PLAIN_CHARACTERS` should be shortened."""
    return np.fromiter(map(_cached_hash, values), dtype=np.uint64)


def hash_texts(texts: Iterable[bytes]) -> Hashes:
    """Return the hashes of n texts in UTF-8, `(n,)`, as `hash_values` does, without a cache: faster if they differ."""
    return np.frombuffer(b"".join([blake2b(text, digest_size=_DIGEST_BYTES).digest() for text in texts]), dtype="<u8")


_cached_hash = lru_cache(maxsize=_CACHED_HASHES)(hash_value)


def shorten(value: object) -> object:
    """Return the value; of a long text its hash as bytes, so that a buffer of values is small."""
    return _digest(value) if type(value) is str and len(value) > MAX_PLAIN_CHARACTERS else value


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def no_hashes() -> Hashes:
    """Return an empty array; it is never changed in place."""
    return _EMPTY


def is_first_of_run(ordered: Hashes) -> Bools:
    """Return which of n ordered values differ from the one before, `(n,)`."""
    is_first = np.empty(len(ordered), dtype=np.bool_)
    is_first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return is_first


def encode_array(array: NDArray[Any]) -> str:
    """Return the bytes of an array as text, little-endian."""
    if not array.size:
        return ""
    return base64.b64encode(array.tobytes() if sys.byteorder == "little" else array.byteswap().tobytes()).decode()


def decode_array(text: str, dtype: str) -> NDArray[Any]:
    """Return the array `(n,)` that `encode_array` wrote; it can be changed.

    Raises:
        ValueError: Not such text.
    """
    if not isinstance(text, str):
        raise ValueError("not an array")
    array = np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)
    return array.copy() if sys.byteorder == "little" else array.byteswap()
