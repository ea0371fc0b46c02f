"""The second graph of LSTMs beside the first: processor time of ONNX Runtime, one thread, the best of a few tries in turns.

    python benchmarks/serving/batch_graph.py

Weights are random: time does not depend on them. Writes a table in Markdown.
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray

from mods_grpc.server.onnx.session import LARGE_RUN_WINDOWS, MAX_RUN_WINDOWS
from training.export.batch_graph import REPEATS, TIMED_BATCHES, make_batch_graph
from training.export.onnx_forecaster import open_session
from training.export.parity import draw_parity_windows, make_parity_vectors
from training.export.raw_function import compile_forecaster
from training.export.to_onnx import export_graph
from training.network.architectures import build
from training.network.config import ModelConfig, ModelType
from training.network.scaler import Scaler

Floats = NDArray[np.float64]
FEATURES, HORIZON = 4, 12
CASES: list[tuple[ModelType, int, int]] = [
    *((model_type, 36, 32) for model_type in ("LSTM", "bidirectLSTM", "seq2seqLSTM", "stackedLSTM", "attentionLSTM")),
    ("LSTM", 12, 8),
    ("LSTM", 12, 32),
    ("LSTM", 36, 64),
    ("LSTM", 36, 128),
]


def measure(model_type: ModelType, sequence_len: int, blocks: int) -> list[str]:
    """Return a row of the table."""
    config = ModelConfig(model_type=model_type, sequence_len=sequence_len, steps_ahead=HORIZON, blocks=blocks)
    each, path = np.ones(FEATURES), np.ones((HORIZON, FEATURES))
    scaler = Scaler(
        transform="none", differencing=True, input_mean=0 * each, input_scale=each, output_mean=0 * path, output_scale=path
    )
    network = build(config, FEATURES)
    windows = draw_parity_windows(config, scaler, FEATURES)
    forecast = compile_forecaster(network, config, scaler, FEATURES)
    first = export_graph(network, config, scaler, FEATURES)
    batch_graph = make_batch_graph(
        network,
        config,
        scaler,
        FEATURES,
        model=first,
        parity=make_parity_vectors(forecast, windows, np.zeros(len(windows), np.int64)),
    )
    cells = [model_type, str(sequence_len), str(blocks)]
    if batch_graph.model is None:
        return [*cells, batch_graph.note]
    served = [
        serve(first, MAX_RUN_WINDOWS["CPUExecutionProvider"], windows),
        serve(batch_graph.model, LARGE_RUN_WINDOWS, windows),
    ]
    pairs = [*batch_graph.microseconds.values(), (min(served[0]), min(served[1]))]
    return [*cells, *(f"{one:,.0f} / {other:,.0f} ({one / other:.2f})" for one, other in pairs)]


def serve(graph: bytes, most: int, windows: Floats) -> list[float]:
    """Return the processor time of tries to run 4,096 windows, so many at a time as the server does, in microseconds."""
    session, many, times = open_session(graph), np.resize(windows, (4096, *windows.shape[1:])), []
    for _ in range(REPEATS):
        started = time.process_time()
        for first in range(0, len(many), most):
            session.run(["forecast"], {"window": many[first : first + most]})
        times.append((time.process_time() - started) * 1e6)
    return times


def main() -> None:
    """Measure all cases."""
    header = ["model", "steps", "units", *(f"{batch:,} window{'s' if batch > 1 else ''}, us" for batch in TIMED_BATCHES)]
    header += ["4,096 windows as served, us"]
    for row in (header, ["---"] * len(header)):
        sys.stdout.write(f"| {' | '.join(row)} |\n")
    for case in CASES:
        sys.stdout.write(f"| {' | '.join(measure(*case))} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
