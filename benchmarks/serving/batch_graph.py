"""Measure the batch graph of LSTMs against the first graph: processor time in ONNX Runtime, one thread, best of several runs.

Weights are random: time does not depend on them. Prints a table in Markdown.

Usage: python benchmarks/serving/batch_graph.py
"""

import sys
import time

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.server.onnx.session import LARGE_RUN_WINDOWS, MAX_RUN_WINDOWS
from training.export.batch_graph import REPEATS, TIMED_BATCHES, make_batch_graph
from training.export.onnx_forecaster import open_session
from training.export.parity import draw_parity_windows, make_parity_vectors
from training.export.raw_function import compile_outputs
from training.export.to_onnx import export_graph
from training.network.architectures import build
from training.network.config import ModelConfig, ModelType
from training.network.scaler import Scaler

FEATURES, HORIZON = 4, 12
CASES: list[tuple[ModelType, int, int]] = [
    *((model_type, 36, 32) for model_type in ("LSTM", "bidirectLSTM", "seq2seqLSTM", "stackedLSTM", "attentionLSTM")),
    ("LSTM", 12, 8),
    ("LSTM", 12, 32),
    ("LSTM", 36, 64),
    ("LSTM", 36, 128),
]


def measure_case(model_type: ModelType, sequence_len: int, blocks: int) -> list[str]:
    """Return a row of the table."""
    config = ModelConfig(model_type=model_type, sequence_len=sequence_len, steps_ahead=HORIZON, blocks=blocks)
    each, path = np.ones(FEATURES), np.ones((HORIZON, FEATURES))
    scaler = Scaler(
        transform="none", differencing=True, input_mean=0 * each, input_scale=each, output_mean=0 * path, output_scale=path
    )
    network = build(config, FEATURES)
    windows = draw_parity_windows(config, scaler, FEATURES)
    outputs = compile_outputs(network, config, scaler, FEATURES)
    graph = export_graph(network, config, scaler, FEATURES)
    batch_graph = make_batch_graph(
        network,
        config,
        scaler,
        FEATURES,
        model=graph,
        parity=make_parity_vectors(outputs, scaler, windows, np.zeros(len(windows), np.int64)),
    )
    cells = [model_type, str(sequence_len), str(blocks)]
    if batch_graph.model is None:
        return [*cells, batch_graph.note]
    times = [
        time_runs(graph, MAX_RUN_WINDOWS["CPUExecutionProvider"], windows),
        time_runs(batch_graph.model, LARGE_RUN_WINDOWS, windows),
    ]
    pairs = [*batch_graph.microseconds.values(), (min(times[0]), min(times[1]))]
    return [*cells, *(f"{first_us:,.0f} / {batch_us:,.0f} ({first_us / batch_us:.2f})" for first_us, batch_us in pairs)]


def time_runs(graph: bytes, max_windows: int, windows: Floats) -> list[float]:
    """Return the processor time of each try to run 4,096 windows, `max_windows` per run, in microseconds."""
    session, all_windows, times = open_session(graph), np.resize(windows, (4096, *windows.shape[1:])), []
    for _ in range(REPEATS):
        started = time.process_time()
        for start in range(0, len(all_windows), max_windows):
            session.run(["forecast"], {"window": all_windows[start : start + max_windows]})
        times.append((time.process_time() - started) * 1e6)
    return times


def main() -> None:
    """Measure all cases."""
    header = ["model", "steps", "units", *(f"{batch:,} window{'s' if batch > 1 else ''}, us" for batch in TIMED_BATCHES)]
    header += ["4,096 windows as served, us"]
    for row in (header, ["---"] * len(header)):
        sys.stdout.write(f"| {' | '.join(row)} |\n")
    for case in CASES:
        sys.stdout.write(f"| {' | '.join(measure_case(*case))} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
