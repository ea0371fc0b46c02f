"""From which batch on a model's second graph is the faster one, measured when the model is loaded.

Which of the graphs ran can't be seen in a forecast: they agree in every bit, see `session`. So this may be measured afresh
at every load, on a machine that does other things too.
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
MIN_SPEEDUP = 1.1  # times faster, below which a measurement says nothing
MAX_RUN_SECONDS = 0.1  # of a run, from which on larger batches are not tried


def choose_graph(session: Session, window: Floats) -> Session:
    """Return the session with `min_large_batch` as it was measured, without its second graph where that never pays.

    Args:
        session: With one graph or two.
        window: Some windows `(n, rows, features)`.
    """
    if session.large_graph is None:
        return session
    chosen, whole = None, session.graphs
    for size in BATCH_SIZES:
        one, other = _benchmark([graph for _, graph in whole], np.resize(window, (size, *window.shape[1:])))
        chosen = (chosen or size) if other * MIN_SPEEDUP <= one else None
        if max(one, other) > MAX_RUN_SECONDS:
            break
    return replace(session, large_graph=None) if chosen is None else replace(session, min_large_batch=chosen)


def _benchmark(sessions: list[Session], windows: Floats) -> list[float]:
    """Return the best time of each in seconds, of tries in turns; infinite where a run was stopped."""
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
