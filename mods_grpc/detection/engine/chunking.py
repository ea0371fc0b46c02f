"""Large batches in parts: small enough for the caches, and for several threads to share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Found = TypeVar("Found")


class ChunkRunner(Protocol):
    """Does the same work on every part, in any order and on any thread; returns what was found in the order of the parts.

    Raises whatever the work raised first; parts that were not begun by then are left out.
    """

    def __call__(self, work: Callable[[slice], Found], parts: Sequence[slice], /) -> list[Found]:
        """Work on the parts."""


def run_sequentially(work: Callable[[slice], Found], parts: Sequence[slice]) -> list[Found]:
    """Work on one part after the other."""
    return [work(part) for part in parts]


def chunks_of(n: int, most: int) -> list[slice]:
    """Cut n rows into parts of `most` rows at most; a last one may be shorter."""
    return [slice(start, min(start + most, n)) for start in range(0, n, most)]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How large batches are worked on: in parts of so many rows at most, by whom `share` says."""

    runner: ChunkRunner = run_sequentially
    size: int = 4096

    def run(self, work: Callable[[slice], Found], n: int) -> list[Found]:
        """Do work on every part of n rows."""
        return self.runner(work, chunks_of(n, self.size))


AT_ONCE = Chunking()
