"""Coroutines that start eagerly, and continue in a task only if they block."""

import asyncio

import pytest

from mods_grpc.transport.sockets.eager_task import EagerTask

recorded = []


@pytest.fixture(autouse=True)
def forget():
    recorded.clear()


async def work(*waits_for):
    recorded.append("started")
    try:
        for one in waits_for:
            recorded.append(await one)
    except asyncio.CancelledError:
        recorded.append("cancelled")
        raise
    recorded.append("over")
    return "result"


def test_one_that_does_not_block_finishes_without_a_task_and_its_errors_are_propagated():
    assert EagerTask(work()).start()
    assert recorded == ["started", "over"]

    async def fail():
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        EagerTask(fail()).start()


def test_one_that_blocks_continues_in_a_task_where_it_was():
    async def main():
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        eager = EagerTask(work(first, asyncio.sleep(0), second))
        assert not eager.start()
        task = eager.into_task(loop)
        loop.call_soon(first.set_result, 1)
        loop.call_later(0.01, second.set_result, 2)
        assert await task == "result"

    asyncio.run(main())
    assert recorded == ["started", 1, None, 2, "over"]


def test_one_whose_future_is_done_continues_without_a_task():
    async def main():
        future = asyncio.get_running_loop().create_future()
        eager = EagerTask(work(future))
        assert not eager.start()
        assert not eager.resume()
        future.set_result(1)
        assert eager.resume()

    asyncio.run(main())
    assert recorded == ["started", 1, "over"]


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_one_is_cancelled_however_early(turns):
    async def main():
        loop = asyncio.get_running_loop()
        eager = EagerTask(work(loop.create_future()))
        eager.start()
        task = eager.into_task(loop)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert recorded == ["started", "cancelled"]
