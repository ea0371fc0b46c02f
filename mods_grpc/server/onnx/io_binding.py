"""Runs a graph on a device: directly, or with IOBinding to preallocated buffers, with or without CUDA graphs.

`session.run` allocates on the device at every run and copies from pageable memory. With IOBinding each batch size has buffers
that are allocated once: pinned host memory, where this build of ONNX Runtime offers it, and device memory. A batch of another
size runs at the next larger one, padded with its last window.

Fixed buffers also allow CUDA graphs: the kernels of a run are captured once and launched together. ONNX Runtime keeps captured
graphs per thread, and nothing else may be allocated on the device during a capture. So a runner with graphs has a thread of its
own, and only one run at a time is on the device, of any model.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mods_grpc.server.onnx.ort import ort

Feed = Mapping[str, NDArray[Any]]

BUFFER_SIZES: tuple[int, ...] = tuple(1 << power for power in range(13))  # 1 to 4,096 windows
CAPTURE_RUNS = 4  # two that allocate, one that captures, one that replays
_DEVICE_LOCK = threading.Lock()
_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
}

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs one graph on a device."""

    def run(self, feed: Feed, options: ort.RunOptions | None, /) -> list[NDArray[Any]]:
        """Run n windows, `(n, ...)` per input, n from 1 to the last of BUFFER_SIZES; `options` may terminate the run."""


class DirectRunner:
    """Runs one graph with `session.run`.

    Args:
        runtime: The graph.
        outputs: The requested outputs.
    """

    def __init__(self, runtime: ort.InferenceSession, outputs: Sequence[str]) -> None:
        self._runtime, self._outputs = runtime, outputs

    def run(self, feed: Feed, options: ort.RunOptions | None = None, /) -> list[NDArray[Any]]:
        """Run the graph, see `Runner.run`."""
        with _DEVICE_LOCK:
            return list(self._runtime.run(self._outputs, feed, options))


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundBuffers:
    """The memory of runs of one batch size, by the name of the input or output.

    Attributes:
        binding: What binds inputs and outputs to the graph.
        staged: Host memory of the inputs.
        pinned: The values that own `staged` where it is pinned; else empty.
        inputs, outputs: Device memory.
    """

    binding: ort.IOBinding
    staged: dict[str, NDArray[Any]]
    pinned: list[ort.OrtValue]
    inputs: dict[str, ort.OrtValue]
    outputs: dict[str, ort.OrtValue]


class IoBindingRunner:
    """Runs one graph with IOBinding.

    Args:
        runtime: The graph. With `captures` it must have been opened with `enable_cuda_graph`.
        device: Where its buffers are: "cpu" or "cuda".
        outputs: The requested outputs.
        captures: Whether runs are captured and replayed as CUDA graphs.

    Attributes:
        captures: As given.
        pinned: Whether the host side of the buffers is pinned memory; set by the first run.
    """

    def __init__(self, runtime: ort.InferenceSession, device: str, outputs: Sequence[str], *, captures: bool = False) -> None:
        self._runtime, self._device, self.captures = runtime, device, captures
        self._inputs = {node.name: (node.shape[1:], _NUMPY_TYPES[node.type]) for node in runtime.get_inputs()}
        requested = [node for node in runtime.get_outputs() if node.name in outputs]
        self._outputs = {node.name: (node.shape[1:], _NUMPY_TYPES[node.type]) for node in requested}
        self._buffers: dict[int, BoundBuffers] = {}
        self._thread = ThreadPoolExecutor(1, "device") if captures else None
        self.pinned = False

    def run(self, feed: Feed, options: ort.RunOptions | None = None, /) -> list[NDArray[Any]]:
        """Run the graph, see `Runner.run`; outputs are in the order of the graph."""
        return self._thread.submit(self._run, feed, options).result() if self._thread else self._run(feed, options)

    def warm_up(self) -> None:
        """Allocate the buffers of all sizes, and capture their graphs."""
        for size in BUFFER_SIZES:
            zeros = {name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in self._inputs.items()}
            for _ in range(CAPTURE_RUNS if self.captures else 1):
                self.run(zeros)

    def _run(self, feed: Feed, options: ort.RunOptions | None) -> list[NDArray[Any]]:
        n = len(next(iter(feed.values())))
        size = buffer_size_for(n)
        with _DEVICE_LOCK:
            buffers = self._buffers.get(size) or self._allocate(size)
            for name, staged in buffers.staged.items():
                staged[:n], staged[n:] = feed[name], feed[name][-1:]
                buffers.inputs[name].update_inplace(staged)
            if self.captures:  # a replayed graph can't be terminated, and has no loops
                options = ort.RunOptions()
                options.add_run_config_entry("gpu_graph_id", str(BUFFER_SIZES.index(size) + 1))
            self._runtime.run_with_iobinding(buffers.binding, options)
            return [output.numpy()[:n].copy() for output in buffers.outputs.values()]

    def _allocate(self, size: int) -> BoundBuffers:
        binding = self._runtime.io_binding()
        inputs = {name: self._allocate_value(size, *layout) for name, layout in self._inputs.items()}
        outputs = {name: self._allocate_value(size, *layout) for name, layout in self._outputs.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        pinned = [] if self._device == "cpu" else self._allocate_pinned(size)
        self.pinned = bool(pinned)
        staged = {name: np.empty((size, *shape), dtype) for name, (shape, dtype) in self._inputs.items()}
        if pinned:
            staged = {name: value.numpy() for name, value in zip(self._inputs, pinned, strict=True)}
        self._buffers[size] = BoundBuffers(binding=binding, staged=staged, pinned=pinned, inputs=inputs, outputs=outputs)
        return self._buffers[size]

    def _allocate_value(self, size: int, shape: Sequence[int], dtype: type[np.generic]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_shape_and_type((size, *shape), dtype, self._device)

    def _allocate_pinned(self, size: int) -> list[ort.OrtValue]:
        """Allocate the host side of the inputs in pinned memory; return [] where this build has none."""
        memory = find_pinned_memory()
        if memory is None:
            return []
        allocate = ort.OrtValue.ortvalue_from_shape_and_type
        try:
            return [allocate((size, *shape), dtype, memory_info=memory) for shape, dtype in self._inputs.values()]
        except Exception as error:  # ONNX Runtime raises bare types of its own
            logger.warning("memory_not_pinned", extra={"error": repr(error)})
            return []


def buffer_size_for(n: int) -> int:
    """Return the smallest of BUFFER_SIZES that n windows fit into."""
    return next(size for size in BUFFER_SIZES if n <= size)


def find_pinned_memory() -> Any:
    """Return the host-accessible memory of the CUDA provider; None where it offers none."""
    for device in ort.get_ep_devices():
        if device.ep_name == "CUDAExecutionProvider":
            return device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    return None
