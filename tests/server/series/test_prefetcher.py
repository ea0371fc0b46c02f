"""Looking ahead waits until the event loop has nothing else to do, and until nobody is at work on the series."""

import asyncio

import pytest

from mods_grpc.server.scheduling.fair_lock import FairLock
from mods_grpc.server.series.prefetcher import Prefetcher


class Monitor:
    """Takes note of what it is asked for."""

    def __init__(self, note):
        self._note = note

    def prefetch(self, slot):
        self._note.append(slot)
        if slot == 13:
            raise ValueError("not finite")


def looked_ahead_of(slots, *, busy=False):
    """Return in which order things were done: slots looked ahead of, and other work of the loop."""
    done, turn = [], FairLock()
    turn.locked = busy
    ahead = Prefetcher(turn)

    async def run():
        for slot in slots:
            ahead.schedule(Monitor(done), slot)
        asyncio.get_running_loop().call_soon(done.append, "an answer is sent")
        done.append("the answer is made")
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    return done


def test_a_prefetch_runs_after_the_answer_was_sent():
    assert looked_ahead_of([1, 2]) == ["the answer is made", "an answer is sent", 1, 2]


def test_nothing_is_prefetched_while_the_series_are_locked():
    assert looked_ahead_of([1], busy=True) == ["the answer is made", "an answer is sent"]


@pytest.mark.parametrize("slots", [[13], [13, 5]])
def test_a_prefetch_that_fails_is_left_to_the_row_itself(slots):
    assert looked_ahead_of(slots)[2:] == slots
