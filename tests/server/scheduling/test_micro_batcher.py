"""Concurrent calls run as one batch, and each gets its own forecasts."""

import asyncio

import numpy as np
import pytest

from mods_grpc.errors import ModelOutputError, Reason
from mods_grpc.server.onnx.cost_model import CostModel
from mods_grpc.server.scheduling.micro_batcher import MAX_WINDOWS, PROBE_INTERVAL, MicroBatcher


class Model:
    """Doubles the windows, adds their times, and records the batch sizes."""

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


def forecast_concurrently(*requests):
    model = Model()

    async def run():
        batcher = MicroBatcher(model)
        return await asyncio.gather(*(batcher.forecast(sent, at(sent)) for sent in requests), return_exceptions=True)

    return asyncio.run(run()), model.sizes


def test_concurrent_calls_are_one_run_and_each_gets_its_own_forecasts():
    requests = [windows(10 * i, 1 + i % 3) for i in range(12)]
    results, sizes = forecast_concurrently(*requests)
    assert sizes == [24]
    for sent, answer in zip(requests, results, strict=True):
        np.testing.assert_array_equal(answer, doubled(sent))


def test_a_run_is_limited_to_the_maximum_number_of_windows():
    requests = [windows(i, 20) for i in range(10)]
    results, sizes = forecast_concurrently(*requests)
    assert max(sizes) <= MAX_WINDOWS
    assert sum(sizes) == 200
    for sent, answer in zip(requests, results, strict=True):
        np.testing.assert_array_equal(answer, doubled(sent))


def test_a_slow_model_gets_fewer_windows_per_run():
    quick, slow, slowest = CostModel((1e-5, 1e-4, 1e-3)), CostModel((1e-4, 2e-3, 4e-2)), CostModel((1.0, 2.0, 3.0))
    assert [cost.max_batch_within(0.004, MAX_WINDOWS) for cost in (quick, slow, slowest)] == [MAX_WINDOWS, 28, 1]
    model = Model()

    async def run():
        batcher = MicroBatcher(model, 28)
        await asyncio.gather(*(batcher.forecast(windows(i), at(windows(i))) for i in range(60)))

    asyncio.run(run())
    assert model.sizes == [28, 28, 4]


def test_a_failed_run_fails_all_calls_of_its_batch_and_no_later_ones():
    results, _ = forecast_concurrently(windows(1), np.full((1, 1, 1), np.nan))
    assert all(isinstance(error, ModelOutputError) for error in results)
    results, _ = forecast_concurrently(windows(1))
    np.testing.assert_array_equal(results[0], doubled(windows(1)))


def test_cancelled_calls_are_left_out_of_the_run():
    model = Model()

    async def run():
        batcher = MicroBatcher(model)
        first = asyncio.ensure_future(batcher.forecast(windows(1), at(windows(1))))
        second = asyncio.ensure_future(batcher.forecast(windows(2), at(windows(2))))
        await asyncio.sleep(0)
        first.cancel()
        np.testing.assert_array_equal(await second, doubled(windows(2)))
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())
    assert model.sizes == [1]


def test_single_calls_run_immediately_and_concurrent_ones_are_noticed_again():
    model = Model()

    async def run():
        batcher = MicroBatcher(model)
        for _ in range(PROBE_INTERVAL):
            await batcher.forecast(windows(1), at(windows(1)))
        single = batcher.forecast(windows(2), at(windows(2)))
        with pytest.raises(StopIteration) as returned:  # without an iteration of the loop
            single.send(None)
        np.testing.assert_array_equal(returned.value.value, doubled(windows(2)))
        model.sizes.clear()
        for _ in range(PROBE_INTERVAL):
            await asyncio.gather(*(batcher.forecast(windows(i), at(windows(i))) for i in range(PROBE_INTERVAL)))

    asyncio.run(run())
    assert max(model.sizes) == PROBE_INTERVAL
    assert model.sizes[-1] == PROBE_INTERVAL


def test_with_a_round_end_hook_calls_run_there_without_polling():
    model, at_end = Model(), []

    async def run():
        batcher = MicroBatcher(model, on_round_end=at_end.append)
        for count in [1] * 2 * PROBE_INTERVAL + [3]:
            waiting = [asyncio.ensure_future(batcher.forecast(windows(i), at(windows(i)))) for i in range(count)]
            await asyncio.sleep(0)
            assert not any(one.done() for one in waiting)
            (run_now,) = at_end
            at_end.clear()
            run_now()
            for i, answer in enumerate(await asyncio.gather(*waiting)):
                np.testing.assert_array_equal(answer, doubled(windows(i)))

    asyncio.run(run())
    assert model.sizes == [1] * 2 * PROBE_INTERVAL + [3]
