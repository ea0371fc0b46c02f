"""Chooses the batch size from which a model's second graph is the faster one, measured at load.

Both graphs give bit-identical forecasts (see `model_check`), so the choice can't be seen in a forecast, and may be measured
again at every load, on a busy machine too.
"""

import math
import time
from dataclasses import replace

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.errors import ModelOutputError
from mods_grpc.server.onnx.session import LARGE_RUN_WINDOWS, Session

BATCH_SIZES = (LARGE_RUN_WINDOWS // 2, LARGE_RUN_WINDOWS)
REPEATS = 5
MIN_SPEEDUP = 1.1  # below it a measurement is noise
MAX_RUN_SECONDS = 0.1  # after a longer run, larger batches are not tried


def choose_graph(session: Session, windows: Floats) -> Session:
    """Return the session with `min_large_batch` as measured, or without its second graph where that is never faster.

    Args:
        session: With one graph or two.
        windows: Some windows `(n, rows, features)`.
    """
    if session.large_graph is None:
        return session
    min_large_batch, graphs = None, [graph for _, graph in session.graphs]
    for size in BATCH_SIZES:
        first, second = _benchmark(graphs, np.resize(windows, (size, *windows.shape[1:])))
        min_large_batch = (min_large_batch or size) if second * MIN_SPEEDUP <= first else None
        if max(first, second) > MAX_RUN_SECONDS:
            break
    if min_large_batch is None:
        return replace(session, large_graph=None)
    return replace(session, min_large_batch=min_large_batch)


def _benchmark(sessions: list[Session], windows: Floats) -> list[float]:
    """Return the best seconds of each session, measured in turn; infinite where every run was terminated."""
    best = [math.inf] * len(sessions)
    for _ in range(REPEATS):
        for index, session in enumerate(sessions):
            started = time.perf_counter()
            try:
                session.forecast(windows, np.zeros(len(windows), np.int64))
            except ModelOutputError:
                continue
            best[index] = min(best[index], time.perf_counter() - started)
    return best
