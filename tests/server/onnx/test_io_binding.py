"""Runs in buffers that stay, with the processor as the device: nobody can tell them from plain ones."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.server.onnx.execution_choice import choose_fastest_runner
from mods_grpc.server.onnx.io_binding import BUFFER_SIZES, DirectRunner, IoBindingRunner, buffer_size_for
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.server.onnx.ort import ort
from tests.support.models.slow import make_slow_graph
from tests.support.models.tiny import ROWS, publish_tiny
from tests.support.paths import EXPORTED

OUTPUTS = ("forecast",)
RNG = np.random.default_rng(4)


def sample_of(artifact, n):
    low, high = (np.array([getattr(f, f"training_{end}") for f in artifact.manifest.features]) for end in ("minimum", "maximum"))
    return RNG.uniform(low, high, (n, artifact.manifest.rows, len(low))), RNG.integers(0, 2**60, n)


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 4095, 4096])
def test_a_batch_runs_at_the_next_larger_size(n):
    size = buffer_size_for(n)
    assert size in BUFFER_SIZES
    assert n <= size < 2 * n


@pytest.mark.parametrize("captures", [False, True], ids=["bound", "captured"])
@pytest.mark.parametrize("which", list_versions(EXPORTED), ids=lambda which: f"{which[0]}-{which[1]}")
def test_a_shipped_model_gives_the_same_forecasts_with_bound_buffers(which, captures):
    artifact = read_artifact(EXPORTED, *which)
    plain = open_session(artifact, "cpu")
    bound = replace(plain, runner=IoBindingRunner(plain.runtime, "cpu", plain.outputs, captures=captures))
    for n in (1, 3, 17, 300, 5, 1):
        windows, times = sample_of(artifact, n)
        np.testing.assert_array_equal(bound.forecast(windows, times), plain.forecast(windows, times))


@pytest.fixture
def tiny(tmp_path):
    publish_tiny(tmp_path)
    return open_session(read_artifact(tmp_path, "tiny", 1), "cpu")


def windows_of(n):
    return RNG.gamma(2, 2, (n, ROWS, 2))


def test_batches_larger_than_the_largest_buffer_run_in_chunks(tiny):
    windows, times = windows_of(2 * BUFFER_SIZES[-1] + 5), np.zeros(2 * BUFFER_SIZES[-1] + 5, np.int64)
    bound = replace(tiny, provider="of a device", runner=IoBindingRunner(tiny.runtime, "cpu", OUTPUTS))
    np.testing.assert_array_equal(bound.forecast(windows, times), tiny.forecast(windows, times))


def test_buffers_are_allocated_once_and_returned_forecasts_are_not_overwritten(tiny):
    runs = IoBindingRunner(tiny.runtime, "cpu", OUTPUTS)
    windows = windows_of(7)
    first = runs.run({"window": windows})[0]
    addresses = {name: value.data_ptr() for name, value in runs._buffers[8].inputs.items()}
    expected = first.copy()
    runs.run({"window": windows_of(6)})
    assert {name: value.data_ptr() for name, value in runs._buffers[8].inputs.items()} == addresses
    np.testing.assert_array_equal(first, expected)
    assert list(runs._buffers) == [8]


def test_warming_up_makes_the_buffers_of_every_size(tiny):
    runs = IoBindingRunner(tiny.runtime, "cpu", OUTPUTS)
    runs.warm_up()
    assert tuple(runs._buffers) == BUFFER_SIZES
    assert not runs.pinned


@pytest.mark.parametrize("captures", [False, True], ids=["bound", "captured"])
def test_each_of_many_threads_gets_its_own_forecasts(tiny, captures):
    runs, batches = IoBindingRunner(tiny.runtime, "cpu", OUTPUTS, captures=captures), [windows_of(n % 40 + 1) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda windows: runs.run({"window": windows})[0], batches))
    for windows, forecasts in zip(batches, results, strict=True):
        np.testing.assert_array_equal(forecasts, DirectRunner(tiny.runtime, OUTPUTS).run({"window": windows})[0])


def test_captured_runs_share_one_dedicated_thread(tiny):
    runs, seen = IoBindingRunner(tiny.runtime, "cpu", OUTPUTS, captures=True), []
    make = runs._allocate
    runs._allocate = lambda size: seen.append(threading.current_thread().name) or make(size)
    for size in (1, 2, 4):
        runs.run({"window": windows_of(size)})
    assert len(set(seen)) == 1
    assert threading.current_thread().name not in seen


def test_a_run_with_bound_buffers_can_be_terminated(tmp_path):
    publish_tiny(tmp_path, model=make_slow_graph())
    session = open_session(read_artifact(tmp_path, "tiny", 1), "cpu")
    runs, options = IoBindingRunner(session.runtime, "cpu", OUTPUTS), ort.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match="terminate"):
        runs.run({"window": windows_of(64)}, options)
    assert np.isfinite(runs.run({"window": windows_of(64)})[0]).all()


def labour(windows, times):
    for _ in range(60):
        windows = np.sort(windows, axis=1)
    return swift(windows, times)


def swift(windows, times):
    return windows.mean(axis=1, keepdims=True)


def wrong(windows, times):
    return swift(windows, times) * 1.5


def broken(windows, times):
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    ("ways", "best"),
    [
        ([labour, swift], 1),
        ([swift, labour], 0),
        ([labour, wrong], 0),
        ([labour, broken, swift], 2),
        ([labour], 0),
    ],
    ids=["faster", "slower", "not the same", "one that fails", "only one"],
)
def test_another_runner_is_chosen_where_it_agrees_and_is_faster(ways, best):
    assert choose_fastest_runner(ways, windows_of(9), np.zeros(9, np.int64), np.allclose, 1.0) == best
