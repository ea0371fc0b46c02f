"""The candidates of a comparison: architectures fitted on the same data, exported and timed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.artifact import check_graph
from training.data.source import SourceConfig
from training.export.onnx_forecaster import input_feed, open_session
from training.fitting.checkpoint import EpochListener
from training.fitting.prepare import TrainingData
from training.fitting.run import TrainingRun
from training.network.config import DIRECT_TYPES, MODEL_TYPES, FitConfig, ModelConfig, ModelType

TIMED_RUNS = 1000
ListenerFactory = Callable[[str], EpochListener]

if TYPE_CHECKING:
    from training.export.publish import ExportedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An architecture, fitted and exported.

    Attributes:
        run: The training run. exported: The exported model.
        operators: Number of occurrences of each operator in the graph.
        fit_seconds: Time of the whole fit.
        epoch_seconds: Median time of an epoch including validation, without the first one; NaN if there was only one.
        microseconds: Median time of ONNX Runtime at batch 1 with one thread.
    """

    run: TrainingRun
    exported: "ExportedModel"
    operators: Mapping[str, int]
    fit_seconds: float
    epoch_seconds: float
    microseconds: float


def fit_candidates(
    source: SourceConfig,
    model: ModelConfig,
    options: FitConfig,
    data: TrainingData,
    *,
    name: str,
    model_types: Sequence[ModelType] = MODEL_TYPES,
    command: str = "",
    make_listener: ListenerFactory | None = None,
) -> Iterator[Candidate]:
    """Fit and export architectures, one after the other.

    Args:
        source: Options of the data.
        model: Options of all networks, apart from the architecture; see `options_of`.
        options: Options of fitting.
        data: The data.
        name: Prefix of the models' names.
        model_types: The architectures.
        command: The command line that reproduces the runs.
        make_listener: Makes the listener of epochs for an architecture.

    Raises:
        KeyboardInterrupt: Ctrl-C ended a fit, which is not among the candidates then.
    """
    from training.export.publish import export_run  # noqa: PLC0415  # TensorFlow takes seconds to load
    from training.fitting.fit_run import fit_run  # noqa: PLC0415  # as above

    for model_type in model_types:
        config = options_of(model_type, model)
        clock = _EpochClock(make_listener(model_type) if make_listener else None)
        start = time.perf_counter()
        run, weights = fit_run(source, config, options, data, command=command, listener=clock)
        if run.interrupted:
            raise KeyboardInterrupt
        fit_seconds = time.perf_counter() - start
        exported = export_run(run, weights, data, name=f"{name}-{model_type.lower()}", version=1)
        yield Candidate(
            run=run,
            exported=exported,
            operators=check_graph(exported.model).operators,
            fit_seconds=fit_seconds,
            epoch_seconds=clock.seconds,
            microseconds=measure_latency_microseconds(exported.model, data.samples["calibration"].windows[:1]),
        )


def options_of(model_type: ModelType, model: ModelConfig) -> ModelConfig:
    """Return the options of an architecture in a comparison: those given, and level and calendar for ridge, trees and boosted.

    They are as good with both or better, which can't be said of networks, and so are they as references. Boosted models are
    for values in units of the level.
    """
    config = replace(model, model_type=model_type)
    if model_type not in DIRECT_TYPES:
        return config
    config = replace(config, level=model.model_delta, calendar=True)
    return replace(config, transform="level", window_scale=False) if model_type == "boosted" else config


class _EpochClock:
    """A listener that measures the time between epochs, and then calls another listener."""

    def __init__(self, listener: EpochListener | None) -> None:
        self._listener = listener
        self._ends: list[float] = []

    def __call__(self, epoch: int, losses: Mapping[str, float]) -> None:
        self._ends.append(time.perf_counter())
        if self._listener:
            self._listener(epoch, losses)

    @property
    def seconds(self) -> float:
        """Median time of an epoch, without the first, which compiles."""
        return median(end - start for start, end in pairwise(self._ends)) if len(self._ends) > 1 else float("nan")


def measure_latency_microseconds(graph: bytes, window: Floats) -> float:
    """Return the median time of forecasting one window `(1, rows, features)` on one thread, in microseconds."""
    session = open_session(graph)
    feed = input_feed(session, window, np.zeros(1, np.int64))
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter_ns()
        session.run(["forecast"], feed)
        times.append(time.perf_counter_ns() - start)
    return median(times) / 1000
