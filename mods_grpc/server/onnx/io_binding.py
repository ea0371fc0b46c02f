"""How a graph runs on a device: plainly, or with its inputs and outputs bound to memory in buffers that stay where they are.

`session.run` allocates on the device at every run and copies from memory that the system may move. In buffers each size has its
own, made once: pinned ones on the processor's side, where this build of ONNX Runtime gives them out, and the device's. A batch
of another size runs at the next larger one; what it is filled up with nobody sees.

Buffers that stay also let a CUDA graph be captured: the kernels of a run, sent to the device in one go. ONNX Runtime keeps such
graphs by thread, and nothing else may be allocated on the device while one is captured. So a session with graphs has a thread of
its own for all its runs, and one run at a time is on the device, of whatever model.
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

Array = NDArray[Any]
Values = Mapping[str, Array]

BUFFER_SIZES: tuple[int, ...] = tuple(1 << power for power in range(13))  # 1 to 4,096 windows
CAPTURE_RUNS = 4  # two that allocate, one that captures, one that replays
_DEVICE = threading.Lock()

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs one graph on a device."""

    def run(self, feed: Values, options: ort.RunOptions | None, /) -> list[Array]:
        """Run n windows, `(n, ...)` for each input, n from 1 to the largest of SIZES; `options` may end the run."""


class DirectRunner:
    """Runs one graph as `session.run` does.

    Args:
        runtime: The graph.
        outputs: Those that are wanted.
    """

    def __init__(self, runtime: ort.InferenceSession, outputs: Sequence[str]) -> None:
        self._runtime, self._outputs = runtime, outputs

    def run(self, feed: Values, options: ort.RunOptions | None = None, /) -> list[Array]:
        """Run, as `Runs` says."""
        with _DEVICE:
            return list(self._runtime.run(self._outputs, feed, options))


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundBuffers:
    """The memory of runs of one size, by the name of the input or output.

    `staged` is the processor's side of the inputs, `pinned` what holds it where it is pinned.
    """

    binding: ort.IOBinding
    staged: dict[str, Array]
    pinned: list[ort.OrtValue]
    inputs: dict[str, ort.OrtValue]
    outputs: dict[str, ort.OrtValue]


class IoBindingRunner:
    """Runs one graph.

    Args:
        runtime: The graph. With `captures` it must have been opened with `enable_cuda_graph`.
        device: Where its buffers are: "cpu" or "cuda".
        outputs: Those that are wanted.
        captures: Whether runs are captured and replayed as CUDA graphs.

    Attributes:
        captures: As given.
        pinned: Whether the processor's side of the buffers is pinned memory; known after the first run.
    """

    def __init__(self, runtime: ort.InferenceSession, device: str, outputs: Sequence[str], *, captures: bool = False) -> None:
        self._runtime, self._device, self.captures = runtime, device, captures
        self._inputs = {node.name: (node.shape[1:], _NUMPY[node.type]) for node in runtime.get_inputs()}
        wanted = [node for node in runtime.get_outputs() if node.name in outputs]
        self._outputs = {node.name: (node.shape[1:], _NUMPY[node.type]) for node in wanted}
        self._buffers: dict[int, BoundBuffers] = {}
        self._thread = ThreadPoolExecutor(1, "device") if captures else None
        self.pinned = False

    def run(self, feed: Values, options: ort.RunOptions | None = None, /) -> list[Array]:
        """Run, as `Runs` says; outputs come in the order of the graph."""
        return self._thread.submit(self._run, feed, options).result() if self._thread else self._run(feed, options)

    def warm_up(self) -> None:
        """Make the buffers of all sizes, and capture their graphs."""
        for size in BUFFER_SIZES:
            empty = {name: np.zeros((size, *shape), kind) for name, (shape, kind) in self._inputs.items()}
            for _ in range(CAPTURE_RUNS if self.captures else 1):
                self.run(empty)

    def _run(self, feed: Values, options: ort.RunOptions | None) -> list[Array]:
        n = len(next(iter(feed.values())))
        size = buffer_size_for(n)
        with _DEVICE:
            buffers = self._buffers.get(size) or self._allocate(size)
            for name, staged in buffers.staged.items():
                staged[:n], staged[n:] = feed[name], feed[name][-1:]
                buffers.inputs[name].update_inplace(staged)
            if self.captures:  # a graph that is replayed can't be ended on its way, and has no loops
                options = ort.RunOptions()
                options.add_run_config_entry("gpu_graph_id", str(BUFFER_SIZES.index(size) + 1))
            self._runtime.run_with_iobinding(buffers.binding, options)
            return [output.numpy()[:n].copy() for output in buffers.outputs.values()]

    def _allocate(self, size: int) -> BoundBuffers:
        binding = self._runtime.io_binding()
        inputs = {name: self._value(size, *kind) for name, kind in self._inputs.items()}
        outputs = {name: self._value(size, *kind) for name, kind in self._outputs.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        pinned = [] if self._device == "cpu" else self._pinned(size)
        self.pinned = bool(pinned)
        staged = {name: np.empty((size, *shape), kind) for name, (shape, kind) in self._inputs.items()}
        if pinned:
            staged = {name: value.numpy() for name, value in zip(self._inputs, pinned, strict=True)}
        self._buffers[size] = BoundBuffers(binding=binding, staged=staged, pinned=pinned, inputs=inputs, outputs=outputs)
        return self._buffers[size]

    def _value(self, size: int, shape: Sequence[int], kind: type[np.generic]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_shape_and_type((size, *shape), kind, self._device)

    def _pinned(self, size: int) -> list[ort.OrtValue]:
        """Allocate what is copied to the device in pinned memory; nothing where this build has no way to it."""
        memory = find_pinned_memory()
        if memory is None:
            return []
        make = ort.OrtValue.ortvalue_from_shape_and_type
        try:
            return [make((size, *shape), kind, memory_info=memory) for shape, kind in self._inputs.values()]
        except Exception as error:  # the runtime raises bare types of its own
            log.warning("not_pinned error=%r", error)
            return []


_NUMPY: dict[str, type[np.generic]] = {"tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(float)": np.float32}


def buffer_size_for(n: int) -> int:
    """Return the smallest of SIZES that n windows fit into."""
    return next(size for size in BUFFER_SIZES if n <= size)


def find_pinned_memory() -> Any:
    """Return where the CUDA provider gives out memory that both sides reach; None where it does not."""
    for device in ort.get_ep_devices():
        if device.ep_name == "CUDAExecutionProvider":
            return device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    return None
