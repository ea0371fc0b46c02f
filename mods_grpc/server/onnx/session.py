"""A model ready to run: the ONNX Runtime session, made from the bytes that were checked, on a provider that was proven."""

import io
import logging
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import BATCH_MODEL_FILE, MODEL_FILE, Artifact, Manifest, check_graph
from mods_grpc.detection import side_by_side
from mods_grpc.detection.engine.chunking import Share, alone, parts_of
from mods_grpc.errors import ArtifactError, ModelOutputError, Reason
from mods_grpc.server.onnx.cost_model import CostModel, measure_cost
from mods_grpc.server.onnx.execution_choice import fastest_runner, cuda_runners
from mods_grpc.server.onnx.io_binding import BUFFER_SIZES, Runner
from mods_grpc.server.onnx.ort import open_runtime, ort
from mods_grpc.server.onnx.providers import PROVIDER_NAMES, list_candidates, choose_fastest
from mods_grpc.server.scheduling.run_watchdog import Watchdog, current_call, run_start

MIN_WATCHED_BATCH = 64  # the canary has seen how long smaller ones take, and watching costs time too
EQUAL_BATCH = 257  # more than any block a kernel works in
WATCHDOG = Watchdog()
# of one run: what they need at a time fits into the caches, and the arena of a session, which keeps the most it ever needed,
# stays at a few MiB. A run of 4,096 takes 1.1 to 2 times as long as 32 runs of these, and keeps a hundred MiB and more for good.
MAX_RUN_WINDOWS = {"CPUExecutionProvider": 128}
LARGE_RUN_WINDOWS = 512  # of one run of a second graph, whose many small operators cost less in the long run

WINDOWS_NAME = re.compile(r"window_([1-9][0-9]{0,5})")
MAX_VECTOR_BYTES = 256 * 1024 * 1024  # unpacked

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded model.

    `provider` is the one that runs it. `least_batch` is the smallest batch it is given: a matrix-vector kernel may sum in
    another order than the matrix kernels do, and a verdict must not depend on how many observations came together.
    `invariant` tells whether that was seen to be so. `calendar` tells whether the model looks at the time, `intervals` whether
    the ends of its quantiles are wanted beside the forecast. `run_seconds` is how long WATCHED_BATCH windows or more may take
    together.
    `large` is a second graph that gives the same bits, for batches of `large_from` windows or more, LARGE_WINDOWS at a time;
    None without one. `share` works on the parts of a large batch. `runs` runs the graph on a device; None on the
    processor.
    """

    runtime: ort.InferenceSession
    provider: str
    min_batch: int = 1
    batch_invariant: bool = True
    uses_time: bool = False
    with_quantiles: bool = False
    run_seconds: float = 30.0
    large_graph: ort.InferenceSession | None = None
    min_large_batch: int = LARGE_RUN_WINDOWS
    share: Share = alone
    runner: Runner | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs of the graph that are wanted, in its order."""
        return ("forecast", "quantiles") if self.with_quantiles else ("forecast",)

    @property
    def graphs(self) -> list[tuple[str, "Session"]]:
        """Each graph alone, by its file."""
        second = [] if self.large_graph is None else [(BATCH_MODEL_FILE, replace(self, min_large_batch=0))]
        return [(MODEL_FILE, replace(self, large_graph=None)), *second]

    def forecast(self, windows: Floats, times: Times) -> Floats:
        """Forecast windows `(n, rows, features)` in raw units: `(n, horizon, told * features)`, see `Forecaster`.

        `times` holds the time of each window's last row, `(n,)` nanoseconds since 1970.

        Raises:
            ModelOutputError: The run took too long and was ended.
            DeadlineError: The caller that this thread works for waits no longer.
        """
        runtime, most = self.runtime, MAX_RUN_WINDOWS.get(self.provider, BUFFER_SIZES[-1])
        if self.large_graph is not None and len(windows) >= self.min_large_batch:
            runtime, most = self.large_graph, LARGE_RUN_WINDOWS
        caller = current_call()
        if len(windows) < MIN_WATCHED_BATCH and caller is None:
            return self._run(runtime, windows, times)
        options = ort.RunOptions()  # of all parts: when one has to end, they all have

        def run(part: slice) -> Floats:
            if caller is not None:
                caller.raise_if_gone()
            return self._run(runtime, windows[part], times[part], options)

        try:
            with WATCHDOG.watch(options, run_start() + self.run_seconds, caller):
                found = self.share(run, parts_of(len(windows), max(1, most)))
        except Exception as error:  # the runtime raises bare types of its own
            if not options.terminate:
                raise
            if caller is not None:
                caller.raise_if_gone()
            text = f"the model took longer than {self.run_seconds:g} s and was stopped"
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, text) from error
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _run(self, runtime: ort.InferenceSession, windows: Floats, times: Times, options: ort.RunOptions | None = None) -> Floats:
        """Run a graph once."""
        n = len(windows)
        if 0 < n < self.min_batch:
            lack = self.min_batch - n
            windows = np.concatenate([windows, np.repeat(windows[-1:], lack, axis=0)])
            times = np.concatenate([times, np.repeat(times[-1:], lack)])
        feed = {"window": windows, "time": times} if self.uses_time else {"window": windows}
        found = runtime.run(self.outputs, feed, options) if self.runner is None else self.runner.run(feed, options)
        return (side_by_side(*found) if self.with_quantiles else np.asarray(found[0]))[:n]


def open_session(artifact: Artifact, provider: str) -> Session:
    """Check a model and make its session.

    Args:
        artifact: The model, digests already checked.
        provider: "auto", "cpu", "cuda" or "tensorrt". All but "auto" fail rather than run elsewhere.

    Raises:
        ArtifactError: The graph, its inputs and outputs, its answers or the provider are not as they must be.
    """
    for file, graph in artifact.graphs.items():
        check_graph(graph, file)
    names = [provider] if provider != "auto" else list_candidates(ort.get_available_providers())
    found: list[tuple[Session, CostModel]] = []
    for name in names:
        try:
            session, windows, times = _checked(artifact, name, MODEL_FILE)
            if name == "cuda":
                session = _on_device(session, artifact, windows, times)
            session = _invariant(session, windows, times)
            if BATCH_MODEL_FILE in artifact.graphs and name == "cpu":  # elsewhere its many small operators would be slower
                session = _with_second(session, *_checked(artifact, name, BATCH_MODEL_FILE))
        except ArtifactError as error:
            if name == names[-1] and not found:
                raise
            log.warning("provider_rejected provider=%s reason=%r", name, error.message)
        else:
            if len(names) == 1:
                return session
            found.append((session, measure_cost(session.forecast, windows, session.run_seconds)))
    return found[choose_fastest([cost for _, cost in found])][0]


def _checked(artifact: Artifact, provider: str, file: str) -> tuple[Session, Floats, Times]:
    """Open a graph of a model alone, hold it against the contract and Keras, and return the largest batch of windows too."""
    intervals = artifact.manifest.calibration.interval is not None
    session = Session(open_runtime(artifact, file, provider), PROVIDER_NAMES[provider], with_quantiles=intervals)
    session = replace(session, uses_time=_check_contract(session, artifact, file))
    return session, *_check_parity(session, artifact, file)


def _on_device(session: Session, artifact: Artifact, windows: Floats, times: Times) -> Session:
    """Return the session as it runs there: in buffers that stay where that is measured to pay."""
    tolerance = artifact.manifest.tolerance[session.provider]
    ways = [
        replace(session, runtime=runtime, runner=runner) for runtime, runner in cuda_runners(artifact, session.runtime, session.outputs)
    ]
    forecasts = [way.forecast for way in ways]
    return ways[fastest_runner(forecasts, windows, times, lambda *both: relative_error(*both) <= tolerance, session.run_seconds)]


def _with_second(session: Session, second: Session, windows: Floats, times: Times) -> Session:
    """Return the session with a second graph, which must take what its own takes and give the same bits."""
    if second.uses_time != session.uses_time:
        raise ArtifactError(f"{BATCH_MODEL_FILE}: one of the two graphs takes the time and the other does not")
    both = replace(session, large_graph=second.runtime)
    (_, first), (_, other) = both.graphs
    for n in (MIN_WATCHED_BATCH, MIN_WATCHED_BATCH + 1, EQUAL_BATCH, len(windows), LARGE_RUN_WINDOWS):
        some, when = np.resize(windows, (n, *windows.shape[1:])), np.resize(times, n)
        if not np.array_equal(first.forecast(some, when), other.forecast(some, when)):
            raise ArtifactError(f"{BATCH_MODEL_FILE}: forecasts of a batch of {n} are not those of {MODEL_FILE} in every bit")
    return both


def _check_contract(session: Session, artifact: Artifact, file: str) -> bool:
    """Check inputs and outputs; return whether the time is one of the inputs."""
    manifest = artifact.manifest
    inputs = [(node.name, node.type, node.shape) for node in session.runtime.get_inputs()]
    outputs = [(node.name, node.type, node.shape) for node in session.runtime.get_outputs()]
    count = len(manifest.features)
    window, time = ("window", "tensor(double)", ["batch", manifest.rows, count]), ("time", "tensor(int64)", ["batch"])
    if inputs not in ([window], [window, time]):
        expected = f"input window double (batch, {manifest.rows}, {count}), with or without time int64 (batch)"
        raise ArtifactError(f"{file}: expected {expected}, found {inputs}")
    if outputs[:1] != [("forecast", "tensor(double)", ["batch", manifest.horizon, count])]:
        raise ArtifactError(f"{file}: expected output forecast double (batch, {manifest.horizon}, {count}), found {outputs}")
    if (interval := manifest.calibration.interval) is not None:
        shape = ["batch", manifest.horizon, count, len(interval.levels)]
        if outputs[1:] != [("quantiles", "tensor(double)", shape)]:
            expected = f"output quantiles double (batch, {', '.join(map(str, shape[1:]))}), for evidence"
            raise ArtifactError(f"{file}: expected {expected}, found {outputs[1:]}")
    return len(inputs) > 1


def _invariant(session: Session, windows: Floats, times: Times) -> Session:
    """Return the session with the least batch from which a row's forecast does not depend on the rows beside it."""
    whole = session.forecast(windows, times)
    for least in (1, 2):
        tried = replace(session, min_batch=least)
        single = [tried.forecast(windows[i : i + 1], times[i : i + 1]) for i in range(len(windows))]
        if np.array_equal(np.concatenate(single), whole):
            return tried
    log.warning("forecasts_depend_on_batch provider=%s", session.provider)
    return replace(session, min_batch=2, batch_invariant=False)


def _check_parity(session: Session, artifact: Artifact, file: str) -> tuple[Floats, Times]:
    """Run the parity vectors, compare with what Keras gave, and return the largest batch of windows with their times."""
    manifest, arrays = artifact.manifest, _read_vectors(artifact.parity)
    batches = sorted(int(match[1]) for name in arrays if (match := WINDOWS_NAME.fullmatch(name)))
    if not batches:
        raise ArtifactError("parity.npz: holds no vectors")
    tolerance = manifest.tolerance.get(session.provider)
    if tolerance is None:
        raise ArtifactError(f"manifest: states no parity tolerance for {session.provider}")
    for batch in batches:
        window, expected = arrays[f"window_{batch}"], _expected(arrays, batch, manifest)
        count = len(manifest.features)
        shapes = ((batch, manifest.rows, count), (batch, manifest.horizon, count * manifest.calibration.told))
        if (window.shape, expected.shape) != shapes or {window.dtype, expected.dtype} != {np.dtype(np.float64)}:
            raise ArtifactError(f"parity.npz: the vectors of a batch of {batch} are not float64 of {shapes[0]} and {shapes[1]}")
        times = arrays.get(f"time_{batch}", np.empty(0)) if session.uses_time else np.zeros(batch, np.int64)
        if (times.shape, times.dtype) != ((batch,), np.dtype(np.int64)):
            raise ArtifactError(f"parity.npz: the times of a batch of {batch} are not int64 of {(batch,)}")
        try:
            found = session.forecast(window, times)
        except Exception as error:
            raise ArtifactError(f"{file}: can't run a batch of {batch}") from error
        if found.shape != expected.shape or not np.isfinite(found).all():
            raise ArtifactError(f"{file}: forecasts of a batch of {batch} have another shape or are not finite")
        error_size = relative_error(found, expected)
        if not error_size <= tolerance:
            raise ArtifactError(f"{file}: parity error {error_size:.2g} at batch {batch}, accepted is {tolerance:.2g}")
    return window, times


def _expected(arrays: dict[str, Any], batch: int, manifest: Manifest) -> Floats:
    """Return what Keras gave for a batch, as `Session.forecast` gives it; of another shape where that is not there."""
    forecast: Floats = arrays.get(f"forecast_{batch}", np.empty(0))
    if manifest.calibration.interval is None:
        return forecast
    quantiles: Floats = arrays.get(f"quantiles_{batch}", np.empty(0))
    shape = (*forecast.shape, len(manifest.calibration.interval.levels))
    return side_by_side(forecast, quantiles) if forecast.shape and quantiles.shape == shape else np.empty(0)


def _read_vectors(data: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked <= MAX_VECTOR_BYTES:
            with np.load(io.BytesIO(data), allow_pickle=False) as vectors:
                return {name: vectors[name] for name in vectors.files}
    except Exception as error:  # the readers of zip and npy raise whatever their parsers stumble over
        raise ArtifactError("parity.npz: can't be read") from error
    raise ArtifactError(f"parity.npz: holds {unpacked} bytes unpacked, at most {MAX_VECTOR_BYTES} are accepted")


def relative_error(found: Floats, expected: Floats) -> float:
    """Return the largest error relative to the largest absolute expected value of each feature."""
    axes: Sequence[int] = tuple(range(expected.ndim - 1))
    size = np.maximum(np.abs(expected).max(axis=axes), 1e-9)
    return float((np.abs(found - expected) / size).max())
