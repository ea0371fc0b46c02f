"""A second graph of the same network for large batches: its LSTM cells unrolled, its forecasts the same to the last bit.

ONNX Runtime's LSTM operator takes the gates row by row; unrolled, they are products and activations of the whole batch. That
costs a call for every operator of every step, so it is slower for a few windows and faster for many. Its GRU operator
approximates its activations in a way of its own, which no unrolled graph can repeat, so a GRU stays an operator.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mods_grpc.artifact import check_graph
from mods_grpc.errors import ArtifactError
from training.export.onnx_forecaster import feed, open_session
from training.export.parity import BATCHES, LARGEST_ERROR, check_parity
from training.export.to_onnx import export_graph
from training.network.config import ModelConfig
from training.network.scaler import Scaler
from training.npz import unpack

TIMED_BATCHES = (1, 256, 4096)
TRIES = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchGraph:
    """What came of making a second graph.

    Attributes:
        model: The graph; None where there can be none.
        note: A sentence on it, or on why there is none.
        microseconds: Processor time that the first graph and this one take, by the number of windows.
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
        config: Its configuration.
        scaler: Numbers of the preprocessing.
        features: Features of a row.
        model: The first graph.
        parity: Its parity vectors.

    Raises:
        ArtifactError: The graph breaks the contract or is not what Keras computes.
    """
    if "LSTM" not in check_graph(model).operators:
        return BatchGraph(model=None, note="No second graph for large batches: there is no LSTM to unroll.", microseconds={})
    unrolled = export_graph(network, config, scaler, features, unroll=True)
    error = check_parity(unrolled, parity)
    if not error <= LARGEST_ERROR:
        raise ArtifactError(f"the unrolled graph differs from Keras by {error:.1e}, more than {LARGEST_ERROR:.0e}")
    if not same_bits(model, unrolled, parity):
        return BatchGraph(
            model=None,
            note="No second graph for large batches: unrolled, forecasts differ in bits, and they must not depend on the batch.",
            microseconds={},
        )
    note = "For large batches there is a second graph, LSTMs unrolled, that gives the same forecasts to the last bit."
    return BatchGraph(model=unrolled, note=note, microseconds=_time(model, unrolled, parity))


def same_bits(model: bytes, other: bytes, parity: bytes) -> bool:
    """Tell whether two graphs give the same for the parity vectors, to the last bit."""
    arrays = unpack(parity)
    sessions = open_session(model), open_session(other)
    for batch in BATCHES:
        one, two = (session.run(None, feed(session, arrays[f"window_{batch}"], arrays[f"time_{batch}"])) for session in sessions)
        if not all(map(np.array_equal, one, two)):
            return False
    return True


def _time(model: bytes, other: bytes, parity: bytes) -> dict[int, tuple[float, float]]:
    """Return the best processor time of both graphs in microseconds, in turns, at each of TIMED_BATCHES."""
    arrays = unpack(parity)
    windows, times = arrays[f"window_{BATCHES[-1]}"], arrays[f"time_{BATCHES[-1]}"]
    sessions = open_session(model), open_session(other)
    found = {}
    for batch in TIMED_BATCHES:
        given = feed(sessions[0], np.resize(windows, (batch, *windows.shape[1:])), np.resize(times, batch))
        best = [float("inf")] * 2
        for _ in range(TRIES):
            for index, session in enumerate(sessions):
                started = time.process_time()
                session.run(["forecast"], given)
                best[index] = min(best[index], time.process_time() - started)
        found[batch] = best[0] * 1e6, best[1] * 1e6
    return found
