"""The coarse timer: targets learn of their timeouts, and stalls of the event loop do not count."""

import asyncio
import time

from mods_grpc.server.scheduling.coarse_timer import NO_DEADLINE, TICK_SECONDS, CoarseTimer


class Target:
    def __init__(self, deadline):
        self.deadline = deadline
        self.timed_out = asyncio.Event()

    def on_timeout(self):
        self.deadline = NO_DEADLINE
        self.timed_out.set()


def test_targets_time_out_in_the_order_of_their_deadlines_and_removed_ones_do_not():
    async def run():
        timer = CoarseTimer()
        first, second, removed = Target(TICK_SECONDS), Target(4 * TICK_SECONDS), Target(TICK_SECONDS)
        for target in (second, removed, first):
            timer.add(target)
        timer.remove(removed)
        async with asyncio.timeout(10):
            await first.timed_out.wait()
            assert not second.timed_out.is_set()
            await second.timed_out.wait()
        assert not removed.timed_out.is_set()

    asyncio.run(run())


def test_a_stall_of_the_loop_counts_as_two_ticks_at_most():
    async def run():
        timer = CoarseTimer()
        target = Target(NO_DEADLINE)
        timer.add(target)
        time.sleep(10 * TICK_SECONDS)
        target.deadline = timer.clock
        async with asyncio.timeout(10):
            await target.timed_out.wait()
        assert timer.clock <= 2 * TICK_SECONDS

    asyncio.run(run())
