"""Calls that come together run as one, each gets its own."""

import asyncio

import numpy as np
import pytest

from mods_grpc.errors import ModelOutputError, Reason
from mods_grpc.server.onnx.cost_model import CostModel
from mods_grpc.server.scheduling.micro_batcher import MAX_WINDOWS, PROBE_INTERVAL, MicroBatcher


class Model:
    """Doubles the windows and adds their times, and remembers how many came at a time."""

    def __init__(self):
        self.sizes = []

    def __call__(self, windows, times):
        self.sizes.append(len(windows))
        if np.isnan(windows).any():
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, "not finite")
        return windows * 2 + times[:, None, None]


def windows(first, count=1):
    return np.arange(first, first + count, dtype=float)[:, None, None]


def at(windows):
    """Make up a time for each window."""
    return np.nan_to_num(windows[:, 0, 0]).astype(np.int64) % 7


def doubled(windows):
    return windows * 2 + at(windows)[:, None, None]


def together(*asked):
    model = Model()

    async def run():
        gatherer = MicroBatcher(model)
        return await asyncio.gather(*(gatherer.forecast(one, at(one)) for one in asked), return_exceptions=True)

    return asyncio.run(run()), model.sizes


def test_calls_of_one_turn_are_one_run_and_each_gets_its_own():
    asked = [windows(10 * i, 1 + i % 3) for i in range(12)]
    found, sizes = together(*asked)
    assert sizes == [24]
    for one, answer in zip(asked, found, strict=True):
        np.testing.assert_array_equal(answer, doubled(one))


def test_a_run_takes_no_more_than_the_loop_can_be_held_up_for():
    asked = [windows(i, 20) for i in range(10)]
    found, sizes = together(*asked)
    assert max(sizes) <= MAX_WINDOWS
    assert sum(sizes) == 200
    for one, answer in zip(asked, found, strict=True):
        np.testing.assert_array_equal(answer, doubled(one))


def test_a_slow_model_takes_fewer_windows_at_a_time():
    quick, slow, slowest = CostModel((1e-5, 1e-4, 1e-3)), CostModel((1e-4, 2e-3, 4e-2)), CostModel((1.0, 2.0, 3.0))
    assert [cost.max_batch_within(0.004, MAX_WINDOWS) for cost in (quick, slow, slowest)] == [MAX_WINDOWS, 28, 1]
    model = Model()

    async def run():
        gatherer = MicroBatcher(model, 28)
        await asyncio.gather(*(gatherer.forecast(windows(i), at(windows(i))) for i in range(60)))

    asyncio.run(run())
    assert model.sizes == [28, 28, 4]


def test_a_run_that_fails_fails_for_all_that_asked_and_for_nobody_after():
    found, _ = together(windows(1), np.full((1, 1, 1), np.nan))
    assert all(isinstance(error, ModelOutputError) for error in found)
    found, _ = together(windows(1))
    np.testing.assert_array_equal(found[0], doubled(windows(1)))


def test_who_gives_up_needs_no_run():
    model = Model()

    async def run():
        gatherer = MicroBatcher(model)
        first = asyncio.ensure_future(gatherer.forecast(windows(1), at(windows(1))))
        second = asyncio.ensure_future(gatherer.forecast(windows(2), at(windows(2))))
        await asyncio.sleep(0)
        first.cancel()
        np.testing.assert_array_equal(await second, doubled(windows(2)))
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())
    assert model.sizes == [1]


def test_calls_without_company_run_at_once_and_notice_when_they_have_some():
    model = Model()

    async def run():
        gatherer = MicroBatcher(model)
        for _ in range(PROBE_INTERVAL):
            await gatherer.forecast(windows(1), at(windows(1)))
        alone = gatherer.forecast(windows(2), at(windows(2)))
        with pytest.raises(StopIteration) as told:  # without a turn of the loop
            alone.send(None)
        np.testing.assert_array_equal(told.value.value, doubled(windows(2)))
        model.sizes.clear()
        for _ in range(PROBE_INTERVAL):
            await asyncio.gather(*(gatherer.forecast(windows(i), at(windows(i))) for i in range(PROBE_INTERVAL)))

    asyncio.run(run())
    assert max(model.sizes) == PROBE_INTERVAL
    assert model.sizes[-1] == PROBE_INTERVAL


def test_where_the_end_of_a_round_is_told_calls_run_there_and_none_looks_round():
    model, at_end = Model(), []

    async def run():
        gatherer = MicroBatcher(model, on_round_end=at_end.append)
        for count in [1] * 2 * PROBE_INTERVAL + [3]:
            waiting = [asyncio.ensure_future(gatherer.forecast(windows(i), at(windows(i)))) for i in range(count)]
            await asyncio.sleep(0)
            assert not any(one.done() for one in waiting)
            (run_now,) = at_end
            at_end.clear()
            run_now()
            for i, answer in enumerate(await asyncio.gather(*waiting)):
                np.testing.assert_array_equal(answer, doubled(windows(i)))

    asyncio.run(run())
    assert model.sizes == [1] * 2 * PROBE_INTERVAL + [3]
