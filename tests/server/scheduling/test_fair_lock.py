"""Turns at the series of a model: one at a time, short work first, and nobody waits for ever or twice."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mods_grpc.server.scheduling.fair_lock import Turn


async def worker(turn, seconds, name, order):
    await turn.take(seconds)
    order.append(name)
    await asyncio.sleep(0)
    turn.give_back()


def test_who_takes_long_lets_those_go_first_who_come_later_and_do_not():
    async def run():
        turn, order = Turn(), []
        await turn.take(0.0)
        waiting = [asyncio.ensure_future(worker(turn, seconds, seconds, order)) for seconds in (1.0, 0.2, 0.001, 0.3)]
        await asyncio.sleep(0)
        turn.give_back()
        await asyncio.gather(*waiting)
        assert order == [0.001, 0.2, 0.3, 1.0]
        assert not turn.busy

    asyncio.run(run())


def test_one_row_waits_for_next_to_none_of_a_hundred_streams_that_ask_for_much_again_and_again():
    async def run():
        turn, clock, turns, over = Turn(), 0.0, 0, False
        asyncio.get_running_loop().time = lambda: clock

        async def asks_again_and_again():
            nonlocal clock, turns
            while not over:
                await turn.take(0.003)
                turns, clock = turns + 1, clock + 0.003
                await asyncio.sleep(0)
                turn.give_back()

        flood = [asyncio.ensure_future(asks_again_and_again()) for _ in range(100)]
        while turns < 250:
            await asyncio.sleep(0)
        before = turns
        await turn.take(0.0001)
        waited, over = turns - before, True
        turn.give_back()
        await asyncio.gather(*flood)
        assert waited < 15

    asyncio.run(run())


def test_many_that_only_wait_until_nobody_is_at_it_all_get_there():
    async def run():
        turn, order = Turn(), []
        await turn.take(0.0)

        async def wait(name):
            await turn.idle()
            order.append(name)

        waiting = [asyncio.ensure_future(wait(name)) for name in range(50)]
        await asyncio.sleep(0)
        turn.give_back()
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting)
        assert sorted(order) == list(range(50))
        assert not turn.busy

    asyncio.run(run())


@pytest.mark.parametrize("granted", [False, True])
def test_one_who_gives_up_waiting_holds_up_nobody(granted):
    async def run():
        turn, order = Turn(), []
        await turn.take(0.0)
        impatient = asyncio.ensure_future(worker(turn, 0.0, "impatient", order))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(worker(turn, 1.0, "other", order))
        await asyncio.sleep(0)
        if granted:
            turn.give_back()
        impatient.cancel()
        if not granted:
            turn.give_back()
        async with asyncio.timeout(10):
            await other
        assert order == ["other"]
        assert not turn.busy

    asyncio.run(run())


def test_a_thread_at_work_keeps_the_lock_and_leaves_the_loop_free():
    async def run():
        turn, free, at_work = Turn(), threading.Event(), threading.Event()

        def work():
            at_work.set()
            assert free.wait(10)
            return "done"

        with ThreadPoolExecutor(1) as pool:
            await turn.take(1.0)
            working = asyncio.ensure_future(turn.on_thread(pool, work))
            await asyncio.get_running_loop().run_in_executor(None, at_work.wait, 10)
            assert turn.lock.locked()
            free.set()
            assert await working == "done"
            assert not turn.lock.locked()
            turn.give_back()

    asyncio.run(run())
