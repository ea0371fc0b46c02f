"""Large batches in chunks: small enough for the caches, and independent, so that several threads can process them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Result = TypeVar("Result")

CHUNK_ROWS = 4096


class ChunkRunner(Protocol):
    """Applies a function to every chunk, in any order and on any thread, and returns the results in the order of the chunks.

    Raises the first error of the function. Chunks that had not started by then are skipped.
    """

    def __call__(self, function: Callable[[slice], Result], chunks: Sequence[slice], /) -> list[Result]:
        """Apply the function."""


def run_sequentially(function: Callable[[slice], Result], chunks: Sequence[slice]) -> list[Result]:
    """Apply a function to one chunk after the other."""
    return [function(chunk) for chunk in chunks]


def chunks_of(n: int, size: int) -> list[slice]:
    """Split n rows into chunks of `size` rows; the last one may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a large batch is split and who processes the chunks.

    Attributes:
        size: Rows per chunk, at least 1.
        runner: Processes the chunks.
    """

    size: int = CHUNK_ROWS
    runner: ChunkRunner = run_sequentially

    def run(self, function: Callable[[slice], Result], n: int) -> list[Result]:
        """Apply a function to every chunk of n rows; a batch that fits into one chunk is passed on as it is."""
        return [function(slice(0, n))] if n <= self.size else self.runner(function, chunks_of(n, self.size))


DEFAULT_CHUNKING = Chunking()
