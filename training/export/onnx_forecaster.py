"""An exported graph as a forecasting function, run on ONNX Runtime's CPU provider like in the server."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # Linux builds send it by default; must be set before the import

import numpy as np
import onnxruntime as ort

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import Artifact
from mods_grpc.artifact.onnx_options import set_session_options
from mods_grpc.detection import Forecaster, append_interval

CHUNK_WINDOWS = 512


def open_session(graph: bytes, threads: int = 1) -> "ort.InferenceSession":
    """Open a graph on the CPU."""
    options = ort.SessionOptions()
    set_session_options(options, threads=threads)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def open_graph(graph: bytes, *, intervals: bool = False) -> Forecaster:
    """Open a graph as a forecaster of any number of windows. `intervals` adds the ends of the quantile interval."""
    session = open_session(graph)
    outputs = ["forecast", "quantiles"] if intervals else ["forecast"]

    def run(windows: Floats, times: Times) -> Floats:
        values: list[Floats] = session.run(outputs, input_feed(session, windows, times))
        return append_interval(*values) if intervals else values[0]

    def forecast(windows: Floats, times: Times) -> Floats:
        cuts = [slice(start, start + CHUNK_WINDOWS) for start in range(0, len(windows), CHUNK_WINDOWS)]
        return np.concatenate([run(windows[cut], times[cut]) for cut in cuts])

    return forecast


def open_model(artifact: Artifact) -> Forecaster:
    """Open a model with the outputs that its detector was calibrated on."""
    return open_graph(artifact.model, intervals=artifact.manifest.calibration.interval is not None)


def input_feed(session: "ort.InferenceSession", windows: Floats, times: Times) -> dict[str, Floats | Times]:
    """Return the inputs of a graph by name: windows, and their times if it has a calendar input."""
    arrays: dict[str, Floats | Times] = {"window": np.ascontiguousarray(windows), "time": np.ascontiguousarray(times)}
    return {node.name: arrays[node.name] for node in session.get_inputs()}
