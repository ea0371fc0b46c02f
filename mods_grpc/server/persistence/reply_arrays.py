"""The cached replies of a part of the state file, as two arrays: the bytes of all, and how many bytes belong to each."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mods_grpc.server.series.replay_cache import CachedReplies, CachedReply


def measure_replies(answers: Iterable[CachedReplies]) -> NDArray[np.uint32]:
    """Return the bytes of each request and of its reply, `(n, 2)`."""
    sizes = (len(data) for replies in answers for reply in replies for data in reply)
    return np.fromiter(sizes, np.uint32).reshape(-1, 2)


def join_replies(answers: Iterable[CachedReplies]) -> Iterator[bytes]:
    """Yield the bytes of the requests, each followed by its reply, a sensor at a time."""
    for replies in answers:
        yield b"".join(itertools.chain.from_iterable(replies))


def split_replies(counts: Mapping[str, int], sizes: NDArray[np.uint32], data: NDArray[np.uint8]) -> dict[str, CachedReplies]:
    """Make the cached replies of each sensor from the arrays.

    Args:
        counts: Replies of each sensor.
        sizes: As `measure_replies` returns them.
        data: What `join_replies` yields, joined.

    Raises:
        ValueError: They don't belong together.
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    expected = np.dtype(np.uint32), (sum(counts.values()), 2), np.dtype(np.uint8), (int(ends[-1]) if ends.size else 0,)
    if (sizes.dtype, sizes.shape, data.dtype, data.shape) != expected:
        raise ValueError("the arrays of the cached replies don't belong together")
    parts = itertools.starmap(slice, itertools.pairwise([0, *ends.tolist()]))
    content = data.data
    replies = (CachedReply(bytes(content[request]), bytes(content[reply])) for request, reply in zip(parts, parts, strict=True))
    return {sensor: deque(itertools.islice(replies, count)) for sensor, count in counts.items()}
