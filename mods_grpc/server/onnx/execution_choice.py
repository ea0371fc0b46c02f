"""Which of several ways to run one model on a device, measured when it is loaded: the quickest of those that say the same."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import MODEL_FILE, Artifact
from mods_grpc.server.onnx.cost_model import CostModel, measure_cost
from mods_grpc.server.onnx.io_binding import IoBindingRunner, DirectRunner, Runner
from mods_grpc.server.onnx.ort import open_runtime, ort

Way = tuple[ort.InferenceSession, Runner]
Forecast = Callable[[Floats, Times], Floats]

COMPARED_BATCHES = (1, 2, 3, 17, 256, 1000)  # at which they must say the same
MIN_SPEEDUP = 1.1  # times faster than the plain way, below which a measurement says nothing

log = logging.getLogger(__name__)


def cuda_runners(
    artifact: Artifact, runtime: ort.InferenceSession, outputs: Sequence[str]
) -> list[tuple[ort.InferenceSession, Runner]]:
    """Return the ways that work to run a model there: plainly, in buffers that stay, and captured in them.

    Args:
        artifact: The model.
        runtime: Its graph.
        outputs: Those that are wanted.
    """
    ways: list[Way] = [(runtime, DirectRunner(runtime, outputs))]
    for captures in (False, True):
        try:
            if captures:
                runtime = open_runtime(artifact, MODEL_FILE, "cuda", {"enable_cuda_graph": "1"})
            bound = IoBindingRunner(runtime, "cuda", outputs, captures=captures)
            bound.warm_up()
        except Exception as error:  # of the runtime, whose types are bare: operators that stay on the processor, and the like
            log.info("no_buffers model=%s captures=%s error=%r", artifact.manifest.name, captures, error)
        else:
            ways.append((runtime, bound))
    return ways


def fastest_runner(
    ways: Sequence[Forecast], windows: Floats, times: Times, agree: Callable[[Floats, Floats], bool], longest: float
) -> int:
    """Return the number of the way to take: the first, which is the plain one, unless another pays.

    Args:
        ways: Forecasters of the same model.
        windows: Some windows `(n, rows, features)`.
        times: Of their last rows, `(n,)` nanoseconds.
        agree: Tells whether a forecast is near enough to another.
        longest: Seconds that stand for runs that are stopped.
    """
    costs: list[CostModel | None] = [measure_cost(ways[0], windows, longest)]
    for number, way in enumerate(ways[1:], 1):
        try:
            same = all(agree(way(*some), ways[0](*some)) for some in _samples(windows, times))
            costs.append(measure_cost(way, windows, longest) if same else None)
        except Exception as error:  # the runtime raises bare types of its own
            log.info("way_of_running_fails number=%d error=%r", number, error)
            costs.append(None)
    means = [None if cost is None else cost.mean for cost in costs]
    log.info("ways_of_running mean_us=%s", [None if mean is None else round(mean * 1e6, 1) for mean in means])
    plain = costs[0].mean if costs[0] else longest
    paying = [(mean, number) for number, mean in enumerate(means) if mean is not None and mean * MIN_SPEEDUP <= plain]
    return min(paying, default=(plain, 0))[1]


def _samples(windows: Floats, times: Times) -> list[tuple[Floats, Times]]:
    return [(np.resize(windows, (size, *windows.shape[1:])), np.resize(times, size)) for size in COMPARED_BATCHES]
