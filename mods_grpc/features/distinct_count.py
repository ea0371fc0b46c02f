"""Counts different values: exactly up to a limit, beyond it with HyperLogLog in 16 KiB."""

import base64
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Hashes
from mods_grpc.features.hashing import (
    MAX_PLAIN_CHARACTERS,
    decode_array,
    encode_array,
    hash_values,
    is_first_of_run,
    no_hashes,
    shorten,
)

DEFAULT_EXACT_LIMIT = 4_096
PRECISION = 14  # 2^14 registers of one byte
REGISTERS = 1 << PRECISION
STANDARD_ERROR = 1.04 / math.sqrt(REGISTERS)  # 0.81 %
_RANK_BITS = 64 - PRECISION
_FEW = 64  # so few values are counted faster in a set than in an array
_MAX_BUFFERED = 1_024  # values that wait to be hashed, because most come again


class DistinctCounter:
    """The number of different values that were added: exact up to `limit`, beyond it an estimate.

    The estimate is HyperLogLog (Flajolet et al. 2007) with Ertl's estimator (2017, arXiv:1702.01284), which needs no bias
    correction at any size. Its standard error is 0.81 %. The state depends on the values alone, not on their order.
    """

    __slots__ = ("_buffer", "_hashes", "_limit", "_registers")

    def __init__(self, limit: int = DEFAULT_EXACT_LIMIT) -> None:
        self._limit = limit
        self._buffer: set[object] = set()  # not hashed yet
        self._hashes = no_hashes()  # ordered
        self._registers: NDArray[np.uint8] | None = None

    @classmethod
    def of_hashes(cls, hashes: Hashes, limit: int, *, are_ordered: bool = False) -> "DistinctCounter":
        """Return the counter of values with the given hashes, `(n,)`, which may repeat unless they are ordered."""
        counter = cls(limit)
        if are_ordered and len(hashes) <= limit:
            counter._hashes = hashes.copy()  # a view would hold the whole array
        else:
            counter._add_hashes(hashes)
        return counter

    def add(self, value: object) -> None:
        """Add a value. Values with the same text count once."""
        buffer = self._buffer
        buffer.add(shorten(value) if type(value) is str and len(value) > MAX_PLAIN_CHARACTERS else value)
        if len(buffer) >= _MAX_BUFFERED:
            self.compact()

    def compact(self) -> None:
        """Replace the values by their hashes, 8 bytes each."""
        if self._buffer:
            self._add_hashes(hash_values(self._buffer))
            self._buffer = set()

    def _add_hashes(self, hashes: Hashes) -> None:
        if self._registers is not None:
            _update_registers(self._registers, hashes)
            return
        self._hashes = _unite([self._hashes, hashes])
        if len(self._hashes) > self._limit:
            self._use_registers()

    def _use_registers(self) -> NDArray[np.uint8]:
        if self._registers is None:
            self._registers = np.zeros(REGISTERS, dtype=np.uint8)
            _update_registers(self._registers, self._hashes)
            self._hashes = no_hashes()
        return self._registers

    def merge(self, other: "DistinctCounter") -> None:
        """Add the values of another counter. Exact only if both are and the union is within the limit."""
        self.compact()
        other.compact()
        if other._registers is None:
            self._add_hashes(other._hashes)
        else:
            registers = self._use_registers()
            np.maximum(registers, other._registers, out=registers)

    @property
    def is_exact(self) -> bool:
        """Whether the count is exact."""
        self.compact()
        return self._registers is None

    def count(self) -> int:
        """Return the number of different values."""
        self.compact()
        return len(self._hashes) if self._registers is None else round(_estimate(self._registers))

    def state(self) -> list[str]:
        """Return the state as values for JSON."""
        self.compact()
        if self._registers is None:
            return ["hashes", encode_array(self._hashes)]
        return ["registers", base64.b85encode(self._registers.tobytes()).decode()]

    @classmethod
    def restore(cls, state: Any, limit: int) -> "DistinctCounter":
        """Return the counter of a state.

        Raises:
            ValueError: Not the state of a counter.
        """
        kind, text = state
        counter = cls(limit)
        if kind == "registers":
            registers = np.frombuffer(base64.b85decode(text), dtype=np.uint8).copy()
            if registers.shape != (REGISTERS,) or registers.max() > _RANK_BITS + 1:
                raise ValueError("not the registers of a sketch")
            counter._registers = registers
        elif kind == "hashes":
            counter._add_hashes(decode_array(text, "u8"))
        else:
            raise ValueError("not the state of a counter")
        return counter


def count_union(parts: Iterable[DistinctCounter], limit: int) -> int:
    """Return the number of different values in the union of several counters."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0].count()
    arrays = []
    for part in parts:
        if part._buffer:
            part.compact()
        if part._registers is not None:
            break
        if len(part._hashes):
            arrays.append(part._hashes)
    else:
        if len(arrays) < 2:
            return sum(map(len, arrays))
        hashes = np.concatenate(arrays)
        number = len(set(hashes.tolist())) if len(hashes) <= _FEW else len(_unite([hashes]))
        return number if number <= limit else DistinctCounter.of_hashes(hashes, limit).count()
    merged = DistinctCounter(limit)
    for part in parts:
        merged.merge(part)
    return merged.count()


def _unite(parts: list[Hashes]) -> Hashes:
    """Return the different hashes of several arrays, in order."""
    filled = [part for part in parts if len(part)] or parts[:1]
    hashes = filled[0].copy() if len(filled) == 1 else np.concatenate(filled)
    hashes.sort()
    is_first = is_first_of_run(hashes)
    return hashes if is_first.all() else hashes[is_first]


def _update_registers(registers: NDArray[np.uint8], hashes: Hashes) -> None:
    remaining = hashes & np.uint64((1 << _RANK_BITS) - 1)
    _, bits = np.frexp(remaining.astype(np.float64))  # exact: the numbers are below 2^53
    np.maximum.at(registers, hashes >> np.uint64(_RANK_BITS), (_RANK_BITS + 1 - bits).astype(np.uint8))


def _estimate(registers: NDArray[np.uint8]) -> float:
    counts = np.bincount(registers, minlength=_RANK_BITS + 2)
    value = REGISTERS * _tau(1 - counts[_RANK_BITS + 1] / REGISTERS)
    for rank in range(_RANK_BITS, 0, -1):
        value = 0.5 * (value + counts[rank])
    value += REGISTERS * _sigma(counts[0] / REGISTERS)
    return float(REGISTERS**2 / (2 * math.log(2) * value))


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    total, weight, previous = x, 1.0, -1.0
    while total != previous:
        x *= x
        previous = total
        total += x * weight
        weight += weight
    return total


def _tau(x: float) -> float:
    if x in {0.0, 1.0}:
        return 0.0
    total, weight, previous = 1 - x, 1.0, -1.0
    while total != previous:
        x = math.sqrt(x)
        previous = total
        weight *= 0.5
        total -= (1 - x) ** 2 * weight
    return total / 3
