"""All architectures on the same data, in one table: size, metrics beside persistence, and what ONNX makes of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact import Metric, check_graph
from training.config import MODEL_TYPES, FitConfig, ModelConfig
from training.experiment import fit_run
from training.fit import EpochListener
from training.forecaster import open_session
from training.metrics import find
from training.original import original_parameters
from training.prepare import Prepared
from training.publish import Exported, export_run
from training.run import Run
from training.source import SourceConfig

TIMED_RUNS = 1000
ListenerOf = Callable[[str], EpochListener]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """An architecture, fitted and exported.

    Attributes:
        run: What was fitted. exported: What came of it.
        operators: How often each operator occurs in the graph.
        fit_seconds: Time of the whole fit.
        microseconds: Median time of ONNX Runtime at batch 1 with one thread.
    """

    run: Run
    exported: Exported
    operators: Mapping[str, int]
    fit_seconds: float
    microseconds: float


def compare(
    source: SourceConfig,
    model: ModelConfig,
    options: FitConfig,
    prepared: Prepared,
    *,
    name: str,
    command: str = "",
    listener_of: ListenerOf | None = None,
) -> Iterator[Contender]:
    """Fit and export every architecture, one after the other.

    Args:
        source: Where the data came from.
        model: Options of all of them but for the architecture.
        options: How they are fitted.
        prepared: The data.
        name: Prefix of the models' names.
        command: The command line that makes them again.
        listener_of: Gives the listener of epochs for an architecture.
    """
    for model_type in MODEL_TYPES:
        config = replace(model, model_type=model_type)
        listener = listener_of(model_type) if listener_of else None
        start = time.perf_counter()
        run, weights = fit_run(source, config, options, prepared, command=command, listener=listener)
        fit_seconds = time.perf_counter() - start
        exported = export_run(run, weights, prepared, name=f"{name}-{model_type.lower()}", version=1)
        yield Contender(
            run=run,
            exported=exported,
            operators=check_graph(exported.model).operators,
            fit_seconds=fit_seconds,
            microseconds=latency_microseconds(exported.model, prepared.samples["calibration"].windows[:1]),
        )


def latency_microseconds(graph: bytes, window: NDArray[np.float64]) -> float:
    """Time one window `(1, rows, features)` on one thread and return the median in microseconds."""
    session = open_session(graph)
    feed = {"window": np.ascontiguousarray(window)}
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter_ns()
        session.run(["forecast"], feed)
        times.append(time.perf_counter_ns() - start)
    return median(times) / 1000


def table_rows(contenders: Sequence[Contender], step: int = 1) -> list[list[str]]:
    """Lay out the comparison, header first. SMAPE is that of one step, beside persistence in the last row.

    "original" is the number of parameters that the original system gives the architecture, see `original`.
    """
    if not contenders:
        return []
    names = contenders[0].run.names
    header = [
        "model_type",
        "parameters",
        "original",
        "epochs",
        "fit s",
        "parity",
        "us",
        *(f"SMAPE {name}" for name in names),
        "nodes",
        "operators",
    ]
    rows = [header]
    for contender in contenders:
        manifest = contender.exported.manifest
        smape = [find(manifest.metrics, "SMAPE", name, step) for name in names]
        rows.append(
            [
                manifest.architecture,
                str(manifest.parameters),
                str(original_parameters(contender.run.model.model_type, manifest.sequence_len, len(names)) or "-"),
                f"{contender.run.best_epoch}/{len(contender.run.history['loss'])}",
                f"{contender.fit_seconds:.1f}",
                f"{contender.exported.parity_error:.0e}",
                f"{contender.microseconds:.0f}",
                *(f"{m.value:.2f}" if m else "-" for m in smape),
                str(sum(contender.operators.values())),
                " ".join(f"{operator}:{count}" for operator, count in contender.operators.items()),
            ]
        )
    unchanged: list[Metric | None] = [find(contenders[0].exported.manifest.metrics, "SMAPE", name, step) for name in names]
    rows.append(["no change", "0", "", "", "", "", "", *(f"{m.persistence:.2f}" if m else "-" for m in unchanged), "", ""])
    return rows
