"""An exported graph as a function, run as the server runs it."""

import os
from collections.abc import Callable

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # Linux builds send it by default; must be set before the import

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[np.float64]
Forecaster = Callable[[Array], Array]
"""Maps raw windows `(n, rows, features)` to forecasts `(n, horizon, features)`, raw units."""

BATCH = 512


def open_session(graph: bytes, threads: int = 1) -> "ort.InferenceSession":
    """Open a graph on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def open_graph(graph: bytes) -> Forecaster:
    """Open a graph as a forecaster that takes any number of windows."""
    session = open_session(graph)

    def forecast(windows: Array) -> Array:
        starts = range(0, len(windows), BATCH)
        made = [session.run(["forecast"], {"window": np.ascontiguousarray(windows[i : i + BATCH])})[0] for i in starts]
        return np.concatenate(made)

    return forecast
