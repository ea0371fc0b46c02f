"""A second graph of the same network for large batches: LSTMs unrolled, forecasts the same to the last bit.

ONNX Runtime's LSTM operator computes the gates row by row. Unrolled, they are products and activations of the whole batch, at
the cost of one call per operator and step: slower for a few windows, faster for many. Its GRU operator approximates the
activations in a way that no unrolled graph can reproduce, so a GRU stays an operator.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mods_grpc.artifact import check_graph
from training.export.onnx_forecaster import input_feed, open_session
from training.export.parity import BATCHES, require_parity
from training.export.to_onnx import export_graph
from training.fitting.npz import unpack_arrays
from training.network.config import ModelConfig
from training.network.scaler import Scaler

TIMED_BATCHES = (1, 256, 4096)
REPEATS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchGraph:
    """The second graph, or the reason why there is none.

    Attributes:
        model: The graph; None if there can be none.
        note: A sentence on the graph, or on why there is none.
        microseconds: Processor time of the first graph and of this one, by number of windows.
    """

    model: bytes | None
    note: str
    microseconds: Mapping[int, tuple[float, float]]


def make_batch_graph(
    network: Any, config: ModelConfig, scaler: Scaler, features: int, *, model: bytes, parity: bytes
) -> BatchGraph:
    """Make the second graph of a network, checked against Keras and against the first.

    Args:
        network: Keras model over scaled windows.
        config: Options of the network.
        scaler: Constants of the preprocessing.
        features: Features of a row.
        model: The first graph.
        parity: Its parity vectors.

    Raises:
        ArtifactError: The graph breaks the contract or differs from Keras.
    """
    if "LSTM" not in check_graph(model).operators:
        return BatchGraph(model=None, note="No second graph for large batches: there is no LSTM to unroll.", microseconds={})
    unrolled = export_graph(network, config, scaler, features, unroll=True)
    require_parity(unrolled, parity, "unrolled graph")
    if not is_bit_identical(model, unrolled, parity):
        return BatchGraph(
            model=None,
            note="No second graph for large batches: unrolled, forecasts differ in bits, and they must not depend on the batch.",
            microseconds={},
        )
    note = "For large batches there is a second graph, LSTMs unrolled, that gives the same forecasts to the last bit."
    return BatchGraph(model=unrolled, note=note, microseconds=_time_graphs(model, unrolled, parity))


def is_bit_identical(model: bytes, other: bytes, parity: bytes) -> bool:
    """Return whether two graphs give the same outputs for the parity vectors, to the last bit."""
    arrays = unpack_arrays(parity)
    sessions = open_session(model), open_session(other)
    for batch in BATCHES:
        one, two = (
            session.run(None, input_feed(session, arrays[f"window_{batch}"], arrays[f"time_{batch}"])) for session in sessions
        )
        if not all(map(np.array_equal, one, two)):
            return False
    return True


def _time_graphs(model: bytes, other: bytes, parity: bytes) -> dict[int, tuple[float, float]]:
    """Return the lowest processor time of both graphs in microseconds at each of TIMED_BATCHES, measured alternately."""
    arrays = unpack_arrays(parity)
    windows, times = arrays[f"window_{BATCHES[-1]}"], arrays[f"time_{BATCHES[-1]}"]
    sessions = open_session(model), open_session(other)
    microseconds = {}
    for batch in TIMED_BATCHES:
        feed = input_feed(sessions[0], np.resize(windows, (batch, *windows.shape[1:])), np.resize(times, batch))
        best = [float("inf")] * 2
        for _ in range(REPEATS):
            for index, session in enumerate(sessions):
                started = time.process_time()
                session.run(["forecast"], feed)
                best[index] = min(best[index], time.process_time() - started)
        microseconds[batch] = best[0] * 1e6, best[1] * 1e6
    return microseconds
