"""Coroutines that begin at once, and go on in a task only where they wait."""

import asyncio

import pytest

from mods_grpc.transport.sockets.eager_task import EagerTask

noted = []


@pytest.fixture(autouse=True)
def forget():
    noted.clear()


async def work(*waits_for):
    noted.append("begun")
    try:
        for one in waits_for:
            noted.append(await one)
    except asyncio.CancelledError:
        noted.append("cancelled")
        raise
    noted.append("over")
    return "found"


def test_one_that_does_not_wait_is_over_at_once_and_its_errors_come_out():
    assert EagerTask(work()).start()
    assert noted == ["begun", "over"]

    async def fail():
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        EagerTask(fail()).start()


def test_one_that_waits_goes_on_where_it_was_in_a_task():
    async def main():
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        eager = EagerTask(work(first, asyncio.sleep(0), second))
        assert not eager.start()
        task = eager.into_task(loop)
        loop.call_soon(first.set_result, 1)
        loop.call_later(0.01, second.set_result, 2)
        assert await task == "found"

    asyncio.run(main())
    assert noted == ["begun", 1, None, 2, "over"]


def test_one_whose_wait_is_over_goes_on_without_a_task():
    async def main():
        future = asyncio.get_running_loop().create_future()
        eager = EagerTask(work(future))
        assert not eager.start()
        assert not eager.resume()
        future.set_result(1)
        assert eager.resume()

    asyncio.run(main())
    assert noted == ["begun", 1, "over"]


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_one_that_is_cancelled_is_told_however_early(turns):
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
    assert noted == ["begun", "cancelled"]
