"""Checks of a graph before it serves: inputs and outputs, parity with Keras, and independence of the batch size."""

import io
import logging
import zipfile
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import BATCH_MODEL_FILE, MODEL_FILE, Artifact, Manifest
from mods_grpc.artifact.parity import UNIT_SUFFIX, array_name, listed_batches, parity_error
from mods_grpc.detection import append_interval
from mods_grpc.errors import ArtifactError
from mods_grpc.server.onnx.session import LARGE_RUN_WINDOWS, MIN_WATCHED_BATCH, Session

MULTI_BLOCK_BATCH = 257  # more than any block a kernel works in
MAX_VECTOR_BYTES = 256 * 1024 * 1024  # unpacked

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityBatch:
    """Parity vectors of one batch.

    Attributes:
        windows: `(n, rows, features)`.
        times: `(n,)`, times of their last rows, nanoseconds since 1970.
        expected: What Keras gave, laid out as by `Session.forecast`.
        unit: The unit of its errors, of the same shape; None for versions that were published before there were units.
    """

    windows: Floats
    times: Times
    expected: Floats
    unit: Floats | None

    def difference(self, actual: Floats, expected: Floats) -> float:
        """Return the largest difference of two forecasts of these windows, resized to any number; see `parity_error`."""
        return parity_error(actual, expected, None if self.unit is None else np.resize(self.unit, expected.shape))


def check_contract(session: Session, artifact: Artifact, file: str) -> bool:
    """Check names, types and shapes of inputs and outputs, and return whether the time is one of the inputs.

    Args:
        session: The graph.
        artifact: The model it belongs to.
        file: Its file, for the error.

    Raises:
        ArtifactError: They are not as the manifest says.
    """
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


def check_parity(session: Session, artifact: Artifact, file: str) -> ParityBatch:
    """Run the parity vectors and compare with what Keras forecast.

    Args:
        session: The graph.
        artifact: The model it belongs to.
        file: Its file, for the error.

    Returns:
        The vectors of the largest batch.

    Raises:
        ArtifactError: The vectors can't be read or don't fit the manifest, the graph can't run them, or its forecasts differ
            by more than the manifest's tolerance.
    """
    arrays = _read_vectors(artifact.parity)
    sizes = listed_batches(arrays)
    if not sizes:
        raise ArtifactError("parity.npz: holds no vectors")
    tolerance = artifact.manifest.tolerance.get(session.provider)
    if tolerance is None:
        raise ArtifactError(f"manifest: states no parity tolerance for {session.provider}")
    for size in sizes:
        batch = _take_batch(arrays, size, artifact.manifest, uses_time=session.uses_time)
        try:
            forecasts = session.forecast(batch.windows, batch.times)
        except Exception as error:
            raise ArtifactError(f"{file}: can't run a batch of {size}") from error
        if forecasts.shape != batch.expected.shape or not np.isfinite(forecasts).all():
            raise ArtifactError(f"{file}: forecasts of a batch of {size} have another shape or are not finite")
        largest = batch.difference(forecasts, batch.expected)
        if not largest <= tolerance:
            raise ArtifactError(f"{file}: parity error {largest:.2g} at batch {size}, accepted is {tolerance:.2g}")
    return batch


def with_min_batch(session: Session, windows: Floats, times: Times) -> Session:
    """Return the session with the smallest `min_batch` that makes a forecast independent of the other windows of its batch.

    Where there is none, `batch_invariant` is False.

    Args:
        session: The graph.
        windows: Several windows `(n, rows, features)`.
        times: `(n,)` nanoseconds of their last rows.
    """
    batched = session.forecast(windows, times)
    for min_batch in (1, 2):
        candidate = replace(session, min_batch=min_batch)
        single = [candidate.forecast(windows[i : i + 1], times[i : i + 1]) for i in range(len(windows))]
        if np.array_equal(np.concatenate(single), batched):
            return candidate
    logger.warning("forecasts_depend_on_batch", extra={"provider": session.provider})
    return replace(session, min_batch=2, batch_invariant=False)


def with_large_graph(session: Session, second: Session, windows: Floats, times: Times) -> Session:
    """Return the session with the graph of another one for large batches.

    Raises:
        ArtifactError: The two graphs take different inputs, or their forecasts differ in a bit.
    """
    if second.uses_time != session.uses_time:
        raise ArtifactError(f"{BATCH_MODEL_FILE}: one of the two graphs takes the time and the other does not")
    both = replace(session, large_graph=second.runtime)
    (_, first), (_, other) = both.graphs
    for n in (MIN_WATCHED_BATCH, MIN_WATCHED_BATCH + 1, MULTI_BLOCK_BATCH, len(windows), LARGE_RUN_WINDOWS):
        sample, sample_times = np.resize(windows, (n, *windows.shape[1:])), np.resize(times, n)
        if not np.array_equal(first.forecast(sample, sample_times), other.forecast(sample, sample_times)):
            raise ArtifactError(f"{BATCH_MODEL_FILE}: forecasts of a batch of {n} are not those of {MODEL_FILE} in every bit")
    return both


def _take_batch(arrays: dict[str, Any], size: int, manifest: Manifest, *, uses_time: bool) -> ParityBatch:
    """Take the vectors of one batch.

    Raises:
        ArtifactError: They don't fit the manifest, or units are there for another batch only or not all finite and above 0.
    """
    count, float64 = len(manifest.features), np.dtype(np.float64)
    windows, expected = arrays[array_name("window", size)], _lay_out(arrays, size, manifest)
    shapes = ((size, manifest.rows, count), (size, manifest.horizon, count * manifest.calibration.outputs_per_feature))
    if (windows.shape, expected.shape) != shapes or {windows.dtype, expected.dtype} != {float64}:
        raise ArtifactError(f"parity.npz: the vectors of a batch of {size} are not float64 of {shapes[0]} and {shapes[1]}")
    times = arrays.get(array_name("time", size), np.empty(0)) if uses_time else np.zeros(size, np.int64)
    if (times.shape, times.dtype) != ((size,), np.dtype(np.int64)):
        raise ArtifactError(f"parity.npz: the times of a batch of {size} are not int64 of {(size,)}")
    if not any(UNIT_SUFFIX in name for name in arrays):
        return ParityBatch(windows=windows, times=times, expected=expected, unit=None)
    unit = _lay_out(arrays, size, manifest, UNIT_SUFFIX)
    if (unit.shape, unit.dtype) != (expected.shape, float64) or not ((unit > 0) & np.isfinite(unit)).all():
        raise ArtifactError(f"parity.npz: the units of a batch of {size} are not float64 of {expected.shape}, finite and above 0")
    return ParityBatch(windows=windows, times=times, expected=expected, unit=unit)


def _lay_out(arrays: dict[str, Any], size: int, manifest: Manifest, suffix: str = "") -> Floats:
    """Return what Keras gave for a batch, or its units, laid out as by `Session.forecast`; empty where it is missing."""
    forecast: Floats = arrays.get(array_name(f"forecast{suffix}", size), np.empty(0))
    if manifest.calibration.interval is None:
        return forecast
    quantiles: Floats = arrays.get(array_name(f"quantiles{suffix}", size), np.empty(0))
    shape = (*forecast.shape, len(manifest.calibration.interval.levels))
    return append_interval(forecast, quantiles) if forecast.shape and quantiles.shape == shape else np.empty(0)


def _read_vectors(data: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        if unpacked_bytes <= MAX_VECTOR_BYTES:
            with np.load(io.BytesIO(data), allow_pickle=False) as vectors:
                return {name: vectors[name] for name in vectors.files}
    except Exception as error:  # the parsers of zip and npy raise many types
        raise ArtifactError("parity.npz: can't be read") from error
    raise ArtifactError(f"parity.npz: holds {unpacked_bytes} bytes unpacked, at most {MAX_VECTOR_BYTES} are accepted")
