"""Chooses how a model runs on a device: the fastest of several runners that give the same forecasts, measured at load."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import MODEL_FILE, Artifact
from mods_grpc.server.onnx.cost_model import CostModel, measure_cost
from mods_grpc.server.onnx.io_binding import DirectRunner, IoBindingRunner, Runner
from mods_grpc.server.onnx.ort import open_runtime, ort

COMPARED_BATCHES = (1, 2, 3, 17, 256, 1000)
MIN_SPEEDUP = 1.1  # over the direct runner; below it a measurement is noise

logger = logging.getLogger(__name__)


def open_cuda_runners(
    artifact: Artifact, runtime: ort.InferenceSession, outputs: Sequence[str]
) -> list[tuple[ort.InferenceSession, Runner]]:
    """Return the runners that work on the device, each with its graph: direct, with bound buffers, with CUDA graphs.

    Args:
        artifact: The model.
        runtime: Its graph, opened on CUDA.
        outputs: The requested outputs.
    """
    runners: list[tuple[ort.InferenceSession, Runner]] = [(runtime, DirectRunner(runtime, outputs))]
    for captures in (False, True):
        try:
            if captures:
                runtime = open_runtime(artifact, MODEL_FILE, "cuda", {"enable_cuda_graph": "1"})
            runner = IoBindingRunner(runtime, "cuda", outputs, captures=captures)
            runner.warm_up()
        except Exception as error:  # bare types of ONNX Runtime, for operators that stay on the processor and the like
            fields = {"model": artifact.manifest.name, "captures": captures, "error": repr(error)}
            logger.info("io_binding_unavailable", extra=fields)
        else:
            runners.append((runtime, runner))
    return runners


def choose_fastest_runner(
    forecasters: Sequence[Callable[[Floats, Times], Floats]],
    windows: Floats,
    times: Times,
    agree: Callable[[Floats, Floats], bool],
    timeout_seconds: float,
) -> int:
    """Return the index of the fastest forecaster; 0, the direct one, unless another is faster by MIN_SPEEDUP.

    Args:
        forecasters: Of the same model, the direct one first.
        windows: Some windows `(n, rows, features)`.
        times: Of their last rows, `(n,)` nanoseconds.
        agree: Whether a forecast is near enough to another one.
        timeout_seconds: Counted for a run that was terminated.
    """
    costs: list[CostModel | None] = [measure_cost(forecasters[0], windows, timeout_seconds)]
    for number, forecast in enumerate(forecasters[1:], 1):
        try:
            same = all(agree(forecast(*sample), forecasters[0](*sample)) for sample in _samples(windows, times))
            costs.append(measure_cost(forecast, windows, timeout_seconds) if same else None)
        except Exception as error:  # ONNX Runtime raises bare types of its own
            logger.info("runner_failed", extra={"number": number, "error": repr(error)})
            costs.append(None)
    means = [None if cost is None else cost.mean for cost in costs]
    mean_us = [None if mean is None else round(mean * 1e6, 1) for mean in means]
    logger.info("runner_costs", extra={"mean_us": mean_us})
    direct = costs[0].mean if costs[0] else timeout_seconds
    faster = [(mean, number) for number, mean in enumerate(means) if mean is not None and mean * MIN_SPEEDUP <= direct]
    return min(faster, default=(direct, 0))[1]


def _samples(windows: Floats, times: Times) -> list[tuple[Floats, Times]]:
    return [(np.resize(windows, (size, *windows.shape[1:])), np.resize(times, size)) for size in COMPARED_BATCHES]
