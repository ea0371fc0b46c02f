"""The fair lock: one holder at a time, shorter jobs first, no starvation."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from mods_grpc.server.scheduling.fair_lock import MIN_FLOWS, PAUSE_ITERATIONS, FairLock


async def worker(lock, seconds, name, order):
    await lock.acquire(seconds)
    order.append(name)
    await asyncio.sleep(0)
    lock.release()


def test_shorter_jobs_that_arrive_later_go_first():
    async def run():
        lock, order = FairLock(), []
        await lock.acquire(0.0)
        waiting = [asyncio.ensure_future(worker(lock, seconds, seconds, order)) for seconds in (1.0, 0.2, 0.001, 0.3)]
        await asyncio.sleep(0)
        lock.release()
        await asyncio.gather(*waiting)
        assert order == [0.001, 0.2, 0.3, 1.0]
        assert not lock.locked

    asyncio.run(run())


def test_one_row_is_not_starved_by_a_hundred_streams_with_larger_jobs():
    async def run():
        lock, clock, acquisitions, done = FairLock(), 0.0, 0, False
        asyncio.get_running_loop().time = lambda: clock

        async def acquire_repeatedly():
            nonlocal clock, acquisitions
            while not done:
                await lock.acquire(0.003)
                acquisitions, clock = acquisitions + 1, clock + 0.003
                await asyncio.sleep(0)
                lock.release()

        flood = [asyncio.ensure_future(acquire_repeatedly()) for _ in range(100)]
        while acquisitions < 250:
            await asyncio.sleep(0)
        acquisitions_before = acquisitions
        await lock.acquire(0.0001)
        waited, done = acquisitions - acquisitions_before, True
        lock.release()
        await asyncio.gather(*flood)
        assert waited < 15

    asyncio.run(run())


@pytest.mark.parametrize("others", [1, 5])
def test_a_connection_waits_for_one_job_of_each_other_one_however_many_they_have(others):
    async def run():
        lock, clock, served, done = FairLock(), 0.0, [], False
        asyncio.get_running_loop().time = lambda: clock

        async def acquire_repeatedly(connection):
            nonlocal clock
            while not done:
                await lock.acquire(0.008, connection)
                served.append(connection)
                clock += 0.008
                await asyncio.sleep(0)
                lock.release()

        flood = [asyncio.ensure_future(acquire_repeatedly(f"flood-{i % others}")) for i in range(100 * others)]
        waits = []
        for _ in range(20):
            before = len(served)
            while len(served) < before + 150:
                await asyncio.sleep(0)
            before = len(served)
            await lock.acquire(0.001, "quiet")
            waits.append(len(served) - before)
            clock += 0.001
            await asyncio.sleep(0)
            lock.release()
        done = True
        await asyncio.gather(*flood)
        assert max(waits) <= others + 1

    asyncio.run(run())


def test_jobs_that_pass_the_lock_on_later_leave_iterations_between_them_and_the_series_free():
    async def run():
        lock, done = FairLock(), []

        async def work():
            await lock.acquire(0.001)
            done.append(iterations)
            assert not lock.locked
            lock.release_later()

        iterations = 0
        jobs = [asyncio.ensure_future(work()) for _ in range(20)]
        while not all(job.done() for job in jobs):
            await asyncio.sleep(0)
            iterations += 1
        assert min(later - earlier for earlier, later in pairwise(done)) >= PAUSE_ITERATIONS

    asyncio.run(run())


def test_connections_share_the_lock_by_time_whatever_their_jobs_take():
    async def run():
        lock, clock, taken = FairLock(), 0.0, {"small": 0.0, "large": 0.0}
        asyncio.get_running_loop().time = lambda: clock

        async def acquire_repeatedly(connection, seconds):
            nonlocal clock
            while clock < 10:
                await lock.acquire(seconds, connection)
                taken[connection] += seconds
                clock += seconds
                await asyncio.sleep(0)
                lock.release()

        jobs = [("small", 0.001)] * 3 + [("large", 0.02)] * 50
        await asyncio.gather(*(acquire_repeatedly(*job) for job in jobs))
        assert taken["small"] == pytest.approx(taken["large"], rel=0.2)

    asyncio.run(run())


def test_marks_of_connections_that_are_gone_are_forgotten_however_long_the_lock_is_busy():
    async def run():
        lock = FairLock()
        await lock.acquire(0.0)
        waiting = []
        for number in range(5_000):
            waiting.append(asyncio.ensure_future(worker(lock, 0.001, "", [])))
            waiting.append(asyncio.ensure_future(worker_of(lock, 0.001, f"connection-{number}")))
            await asyncio.sleep(0)
            lock.release()
            await waiting.pop(0)
            await lock.acquire(0.001, "busy")
            assert len(lock._flows) <= 4 * MIN_FLOWS
        lock.release()
        await asyncio.gather(*waiting)
        assert not lock.locked
        assert not lock._flows

    async def worker_of(lock, seconds, connection):
        await lock.acquire(seconds, connection)
        await asyncio.sleep(0)
        lock.release()

    asyncio.run(run())


def test_who_waits_for_the_end_of_a_job_waits_for_none_of_those_in_the_queue():
    async def run():
        lock, order = FairLock(), []

        async def work(connection):
            await lock.acquire(0.01, connection)
            order.append(connection)
            await asyncio.sleep(0)
            lock.release()

        async def wait():
            await lock.wait_idle()
            order.append("waiter")
            assert not lock.locked

        await lock.acquire(0.01, "first")
        jobs = [asyncio.ensure_future(work(f"connection-{i}")) for i in range(30)]
        await asyncio.sleep(0)
        waits = [asyncio.ensure_future(wait()) for _ in range(2)]
        await asyncio.sleep(0)
        lock.release()
        await asyncio.gather(*jobs, *waits)
        assert order[:2] == ["waiter"] * 2
        assert len(order) == 32

    asyncio.run(run())


def test_all_waiters_for_an_idle_lock_return():
    async def run():
        lock, order = FairLock(), []
        await lock.acquire(0.0)

        async def wait(name):
            await lock.wait_idle()
            order.append(name)

        waiting = [asyncio.ensure_future(wait(name)) for name in range(50)]
        await asyncio.sleep(0)
        lock.release()
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting)
        assert sorted(order) == list(range(50))
        assert not lock.locked

    asyncio.run(run())


@pytest.mark.parametrize("granted", [False, True])
def test_a_cancelled_waiter_blocks_no_other(granted):
    async def run():
        lock, order = FairLock(), []
        await lock.acquire(0.0)
        impatient = asyncio.ensure_future(worker(lock, 0.0, "impatient", order))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(worker(lock, 1.0, "other", order))
        await asyncio.sleep(0)
        if granted:
            lock.release()
        impatient.cancel()
        if not granted:
            lock.release()
        async with asyncio.timeout(10):
            await other
        assert order == ["other"]
        assert not lock.locked

    asyncio.run(run())


def test_a_thread_holds_the_thread_lock_and_leaves_the_loop_free():
    async def run():
        lock, free, at_work = FairLock(), threading.Event(), threading.Event()

        def work():
            at_work.set()
            assert free.wait(10)
            return "done"

        with ThreadPoolExecutor(1) as pool:
            await lock.acquire(1.0)
            working = asyncio.ensure_future(lock.run_in_executor(pool, work))
            await asyncio.get_running_loop().run_in_executor(None, at_work.wait, 10)
            assert lock.thread_lock.locked()
            free.set()
            assert await working == "done"
            assert not lock.thread_lock.locked()
            lock.release()

    asyncio.run(run())
