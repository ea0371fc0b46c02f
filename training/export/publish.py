"""From a run to a published model version: graph, parity, metrics, calibration, card."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact import BATCH_MODEL_FILE, CARD_FILE, MODEL_FILE, PARITY_FILE, Manifest, list_versions, publish
from mods_grpc.artifact.manifest import NAME_PATTERN, SCHEMA_VERSION, Scalar
from mods_grpc.detection import Forecaster
from mods_grpc.errors import ArtifactError, DataError
from training.data.windows import Samples
from training.evaluation.scoring import Replay, evaluate, replay
from training.export.batch_graph import BatchGraph, make_batch_graph
from training.export.calibrate import calibrate_on
from training.export.model_card import write_card
from training.export.onnx_forecaster import open_graph
from training.export.parity import LARGEST_ERROR, check_parity, comparable_windows, extreme_windows, parity_vectors
from training.export.raw_function import keras_forecaster
from training.export.to_onnx import export_graph
from training.fitting.fit_run import rebuild
from training.fitting.prepare import Prepared
from training.fitting.run import SCALER_VECTORS, Run
from training.network.scaler import Scaler

# Relative to the magnitude of the output. CUDA and TensorRT may multiply matrices in TF32, which has ten bits of mantissa.
TOLERANCE = {"CPUExecutionProvider": LARGEST_ERROR, "CUDAExecutionProvider": 5e-3, "TensorrtExecutionProvider": 5e-3}
DEFAULT_FALSE_ALARMS_PER_DAY = 1.0
PARITY_WINDOWS = 257


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A model that is ready to be published.

    Attributes:
        manifest: The manifest, its files not yet filled in.
        model: The graph. parity: The parity vectors.
        parity_error: Largest relative error between ONNX Runtime and Keras.
        batch_graph: The second graph, for large batches; None where none was asked for.
        replay: What the detector says of the test range at the default budget; None without a test range.
    """

    manifest: Manifest
    model: bytes
    parity: bytes
    parity_error: float
    batch_graph: BatchGraph | None
    replay: Replay | None


def export_run(
    run: Run,
    weights: bytes,
    prepared: Prepared,
    *,
    name: str,
    version: int,
    false_alarms_per_day: float = DEFAULT_FALSE_ALARMS_PER_DAY,
    batch_graph: bool = False,
) -> Exported:
    """Export, check, score and calibrate a run. Metrics and calibration come from the exported graph itself.

    Raises:
        DataError: The data is not what the run was fitted on, or too little of it to calibrate on.
        ArtifactError: The graph breaks the contract or is not what Keras computes.
    """
    if prepared.series.digest != run.data_digest:
        raise DataError("the data has changed since the run was fitted; fit again")
    network, features = rebuild(run, weights), len(run.features)
    model = export_graph(network, run.model, run.scaler, features)
    keras_forecast = keras_forecaster(network, run.model, run.scaler, features)
    keras_quantiles = keras_forecaster(network, run.model, run.scaler, features, output="quantiles") if run.model.levels else None
    windows, times = _parity_windows(keras_quantiles or keras_forecast, prepared.samples["train"])
    parity = parity_vectors(keras_forecast, windows, times, keras_quantiles)
    parity_error = check_parity(model, parity)
    if not parity_error <= LARGEST_ERROR:
        raise ArtifactError(f"the exported graph differs from Keras by {parity_error:.1e}, more than {LARGEST_ERROR:.0e}")
    second = None
    if batch_graph:
        second = make_batch_graph(network, run.model, run.scaler, features, model=model, parity=parity)
    levels, series, parts, test = run.model.levels, prepared.series, prepared.parts, prepared.samples.get("test")
    forecast = open_graph(model, intervals=bool(levels))
    manifest = _manifest(
        run,
        name=name,
        version=version,
        parameters=int(network.count_params()),
        metrics=() if test is None else evaluate(forecast, test, series, run.naive_error),
        calibration=calibrate_on(forecast, series, parts["train"], parts["calibration"], rows=run.model.rows, levels=levels),
        false_alarms_per_day=false_alarms_per_day,
    )
    replayed = None if test is None else replay(manifest, forecast, series, parts["test"], false_alarms_per_day)
    return Exported(manifest=manifest, model=model, parity=parity, parity_error=parity_error, batch_graph=second, replay=replayed)


def publish_run(repository: Path, run: Run, exported: Exported, *, title: str = "", command: str = "") -> Path:
    """Publish a version with its card.

    Args:
        repository: The model repository.
        run: What was fitted.
        exported: What came of it.
        title: A line for the card on what the data is.
        command: The command line that exported it.

    Raises:
        ArtifactError: The version exists, or can't be written.
    """
    second = exported.batch_graph
    card = write_card(
        run,
        exported.manifest,
        exported.replay,
        parity_error=exported.parity_error,
        batch_graph=second.note if second else "",
        title=title,
        command=command,
    )
    contents = {MODEL_FILE: exported.model, PARITY_FILE: exported.parity, CARD_FILE: card.encode()}
    if second and second.model:
        contents[BATCH_MODEL_FILE] = second.model
    return publish(repository, exported.manifest, contents)


def next_version(repository: Path, name: str) -> int:
    """Return the version after the highest one published, 1 for a new model.

    Raises:
        ArtifactError: Not a name of a model.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ArtifactError(f"model name {name!r} does not match {NAME_PATTERN.pattern}")
    if not repository.exists():
        return 1
    return max((version for known, version in list_versions(repository) if known == name), default=0) + 1


def _manifest(run: Run, **found: Any) -> Manifest:
    """Make the manifest, its files not yet filled in, of what the run says and what was found while exporting."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        created=run.created,
        files=(),
        architecture=run.model.model_type,
        hyper_parameters=_hyper_parameters(run),
        features=tuple(f.specify(low, high) for f, low, high in zip(run.features, run.minimum, run.maximum, strict=True)),
        window_seconds=run.window_seconds,
        slide_seconds=run.slide_seconds,
        sequence_len=run.model.sequence_len,
        rows=run.model.rows,
        horizon=run.model.steps_ahead,
        differencing=run.model.model_delta,
        scaler=_scaler_vectors(run.scaler),
        training_range=run.ranges["train"],
        validation_range=run.ranges["validation"],
        calibration_range=run.ranges["calibration"],
        test_range=run.ranges.get("test"),
        data_digest=run.data_digest,
        seed=run.fit.seed,
        libraries=run.libraries,
        tolerance=TOLERANCE,
        **found,
    )


def _parity_windows(forecast: Forecaster, samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Choose real windows, evenly spread, with their times, and make some of them extreme, as far as those can be compared."""
    chosen = np.linspace(0, len(samples) - 1, PARITY_WINDOWS).astype(np.int64)
    windows, times = samples.windows[chosen], samples.times[chosen]
    return comparable_windows(forecast, extreme_windows(windows), times, windows), times


def _scaler_vectors(scaler: Scaler) -> dict[str, tuple[float, ...]]:
    """Flatten the numbers of the preprocessing; the output's are by step, then by feature."""
    vectors = {name: getattr(scaler, name) for name in SCALER_VECTORS}
    return {name: tuple(np.ravel(vector).tolist()) for name, vector in vectors.items() if vector is not None}


def _hyper_parameters(run: Run) -> dict[str, Scalar]:
    """List every option that shapes the result, but not where the data lay."""
    told: dict[str, Scalar] = {}
    for options in (run.model, run.fit, run.source):
        told |= {key: value for key, value in asdict(options).items() if key not in ("datapool", "csv", "seed")}
    told |= {"best_epoch": run.best_epoch, "interrupted": run.interrupted}
    return told
