"""All architectures on the same data: each is fitted, exported, measured and timed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact import check_graph
from training.data.source import SourceConfig
from training.export.onnx_forecaster import feed, open_session
from training.export.publish import Exported, export_run
from training.fitting.fit import EpochListener
from training.fitting.fit_run import fit_run
from training.fitting.prepare import Prepared
from training.fitting.run import Run
from training.network.config import MODEL_TYPES, FitConfig, ModelConfig, ModelType

TIMED_RUNS = 1000
ListenerOf = Callable[[str], EpochListener]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """An architecture, fitted and exported.

    Attributes:
        run: What was fitted. exported: What came of it.
        operators: How often each operator occurs in the graph.
        fit_seconds: Time of the whole fit.
        epoch_seconds: Median time of an epoch, validation included, the first left out; NaN where there was only one.
        microseconds: Median time of ONNX Runtime at batch 1 with one thread.
    """

    run: Run
    exported: Exported
    operators: Mapping[str, int]
    fit_seconds: float
    epoch_seconds: float
    microseconds: float


def compare(
    source: SourceConfig,
    model: ModelConfig,
    options: FitConfig,
    prepared: Prepared,
    *,
    name: str,
    model_types: Sequence[ModelType] = MODEL_TYPES,
    command: str = "",
    listener_of: ListenerOf | None = None,
) -> Iterator[Contender]:
    """Fit and export architectures, one after the other.

    Args:
        source: Where the data came from.
        model: Options of all of them but for the architecture.
        options: How they are fitted.
        prepared: The data.
        name: Prefix of the models' names.
        model_types: The architectures.
        command: The command line that makes them again.
        listener_of: Gives the listener of epochs for an architecture.
    """
    for model_type in model_types:
        config = replace(model, model_type=model_type)
        clock = _EpochClock(listener_of(model_type) if listener_of else None)
        start = time.perf_counter()
        run, weights = fit_run(source, config, options, prepared, command=command, listener=clock)
        fit_seconds = time.perf_counter() - start
        exported = export_run(run, weights, prepared, name=f"{name}-{model_type.lower()}", version=1)
        yield Contender(
            run=run,
            exported=exported,
            operators=check_graph(exported.model).operators,
            fit_seconds=fit_seconds,
            epoch_seconds=clock.seconds,
            microseconds=latency_microseconds(exported.model, prepared.samples["calibration"].windows[:1]),
        )


class _EpochClock:
    """A listener that takes the time between epochs and tells another one."""

    def __init__(self, listener: EpochListener | None) -> None:
        self._listener = listener
        self._ends: list[float] = []

    def __call__(self, epoch: int, losses: Mapping[str, float]) -> None:
        self._ends.append(time.perf_counter())
        if self._listener:
            self._listener(epoch, losses)

    @property
    def seconds(self) -> float:
        """Median time of an epoch but the first, which compiles."""
        return median(after - before for before, after in pairwise(self._ends)) if len(self._ends) > 1 else float("nan")


def latency_microseconds(graph: bytes, window: NDArray[np.float64]) -> float:
    """Time one window `(1, rows, features)` on one thread and return the median in microseconds."""
    session = open_session(graph)
    given = feed(session, window, np.zeros(1, np.int64))
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter_ns()
        session.run(["forecast"], given)
        times.append(time.perf_counter_ns() - start)
    return median(times) / 1000
