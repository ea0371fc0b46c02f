"""A prefetch waits until the event loop has nothing else to do, and is dropped while the series are locked."""

import asyncio

import pytest

from mods_grpc.server.scheduling.fair_lock import FairLock
from mods_grpc.server.series.prefetcher import Prefetcher


class Monitor:
    """Records the slots that are prefetched."""

    def __init__(self, slots):
        self._slots = slots

    def prefetch(self, slot):
        self._slots.append(slot)
        if slot == 13:
            raise ValueError("not finite")


def order_of_prefetching(slots, *, locked=False):
    """Return in which order things were done: prefetches by slot, and other work of the loop."""
    done, lock = [], FairLock()
    if locked:
        lock.thread_lock.acquire()
    prefetcher = Prefetcher(lock)

    async def run():
        for slot in slots:
            prefetcher.schedule(Monitor(done), slot)
        asyncio.get_running_loop().call_soon(done.append, "an answer is sent")
        done.append("the answer is made")
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    return done


def test_a_prefetch_runs_after_the_answer_was_sent():
    assert order_of_prefetching([1, 2]) == ["the answer is made", "an answer is sent", 1, 2]


def test_nothing_is_prefetched_while_the_series_are_locked():
    assert order_of_prefetching([1], locked=True) == ["the answer is made", "an answer is sent"]


@pytest.mark.parametrize("slots", [[13], [13, 5]])
def test_a_prefetch_that_fails_is_left_to_the_row_itself(slots):
    assert order_of_prefetching(slots)[2:] == slots
