"""From a run to a published model version: graph, parity vectors, metrics, calibration, card."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact import BATCH_MODEL_FILE, CARD_FILE, MODEL_FILE, PARITY_FILE, Manifest, publish
from mods_grpc.artifact.manifest import SCHEMA_VERSION, Scalar
from mods_grpc.errors import DataError
from training.data.windows import Samples
from training.evaluation.scoring import Replay, replay_detector, score_model
from training.export.batch_graph import BatchGraph, make_batch_graph
from training.export.calibration import calibrate_parts
from training.export.model_card import write_card
from training.export.onnx_forecaster import open_graph
from training.export.parity import MAX_PARITY_ERROR, extreme_windows, make_parity_vectors, require_parity
from training.export.raw_function import compile_outputs
from training.export.to_onnx import export_graph
from training.export.versions import DEFAULT_FALSE_ALARMS_PER_DAY
from training.fitting.fit_run import rebuild_network
from training.fitting.prepare import TrainingData
from training.fitting.run import SCALER_VECTORS, TrainingRun
from training.network.scaler import Scaler
from training.network.tree_layers import count_parameters

# CUDA and TensorRT may multiply matrices in TF32, of ten bits of mantissa: weights rounded to it are off by up to 2e-3 units.
TOLERANCE = {"CPUExecutionProvider": MAX_PARITY_ERROR, "CUDAExecutionProvider": 5e-3, "TensorrtExecutionProvider": 5e-3}
PARITY_WINDOWS = 257


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedModel:
    """A model that is ready to be published.

    Attributes:
        manifest: The manifest, without its files.
        model: The graph. parity: The parity vectors.
        parity_error: Largest error of ONNX Runtime against Keras, in the units of the parity vectors.
        batch_graph: The second graph, for large batches; None if none was asked for.
        replay: The detector's alerts on the test range at the default budget; None without a test range.
    """

    manifest: Manifest
    model: bytes
    parity: bytes
    parity_error: float
    batch_graph: BatchGraph | None
    replay: Replay | None


def export_run(
    run: TrainingRun,
    weights: bytes,
    data: TrainingData,
    *,
    name: str,
    version: int,
    false_alarms_per_day: float = DEFAULT_FALSE_ALARMS_PER_DAY,
    batch_graph: bool = False,
) -> ExportedModel:
    """Export a run, check the graph against Keras, score it and calibrate it. Metrics and calibration use the exported graph.

    Raises:
        DataError: The data is not that of the run, or too little to calibrate on.
        ArtifactError: The graph breaks the contract or differs from Keras.
    """
    if data.series.digest != run.data_digest:
        raise DataError("the data has changed since the run was fitted; fit again")
    network, features = rebuild_network(run, weights), len(run.features)
    model = export_graph(network, run.model, run.scaler, features)
    keras_outputs = compile_outputs(network, run.model, run.scaler, features)
    parity = make_parity_vectors(keras_outputs, run.scaler, *_choose_parity_windows(data.samples["train"]))
    parity_error = require_parity(model, parity, "exported graph")
    second = None
    if batch_graph:
        second = make_batch_graph(network, run.model, run.scaler, features, model=model, parity=parity)
    levels, series, parts, test = run.model.levels, data.series, data.parts, data.samples.get("test")
    forecast = unseen = open_graph(model, intervals=bool(levels))
    if run.fit.refit == "all" and not run.interrupted:
        earlier = export_graph(rebuild_network(run, weights, calibrated=True), run.model, run.scaler, features)
        unseen = open_graph(earlier, intervals=bool(levels))
    manifest = _make_manifest(
        run,
        name=name,
        version=version,
        parameters=count_parameters(network),
        metrics=() if test is None else score_model(forecast, test, series, run.naive_error),
        calibration=calibrate_parts(unseen, series, parts["train"], parts["calibration"], rows=run.model.rows, levels=levels),
        false_alarms_per_day=false_alarms_per_day,
    )
    replayed = None if test is None else replay_detector(manifest, forecast, series, parts["test"], false_alarms_per_day)
    return ExportedModel(
        manifest=manifest, model=model, parity=parity, parity_error=parity_error, batch_graph=second, replay=replayed
    )


def publish_run(repository: Path, run: TrainingRun, exported: ExportedModel, *, title: str = "", command: str = "") -> Path:
    """Publish a version with its card.

    Args:
        repository: The model repository.
        run: The training run.
        exported: The exported model.
        title: A line for the card on what the data is.
        command: The command line that exported the model.

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


def _make_manifest(run: TrainingRun, **results: Any) -> Manifest:
    """Make the manifest, without its files, from the run and the results of the export."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        created=run.created,
        files=(),
        architecture=run.model.model_type,
        hyper_parameters=_list_hyper_parameters(run),
        features=tuple(f.to_spec(low, high) for f, low, high in zip(run.features, run.minimum, run.maximum, strict=True)),
        window_seconds=run.window_seconds,
        slide_seconds=run.slide_seconds,
        sequence_len=run.model.sequence_len,
        rows=run.model.rows,
        horizon=run.model.steps_ahead,
        differencing=run.model.model_delta,
        scaler=_flatten_scaler(run.scaler),
        training_range=run.ranges["train"],
        validation_range=run.ranges["validation"],
        calibration_range=run.ranges["calibration"],
        test_range=run.ranges.get("test"),
        data_digest=run.data_digest,
        seed=run.fit.seed,
        libraries=run.libraries,
        tolerance=TOLERANCE,
        **results,
    )


def _choose_parity_windows(samples: Samples) -> tuple[Floats, Times]:
    """Choose real windows, evenly spread, with their times, and make some of them extreme."""
    chosen = np.linspace(0, len(samples) - 1, PARITY_WINDOWS).astype(np.int64)
    return extreme_windows(samples.windows[chosen]), samples.times[chosen]


def _flatten_scaler(scaler: Scaler) -> dict[str, tuple[float, ...]]:
    """Flatten the constants of the preprocessing; those of the output are ordered by step, then by feature."""
    vectors = {name: getattr(scaler, name) for name in SCALER_VECTORS}
    return {name: tuple(np.ravel(vector).tolist()) for name, vector in vectors.items() if vector is not None}


def _list_hyper_parameters(run: TrainingRun) -> dict[str, Scalar]:
    """List every option that the result depends on, without the location of the data."""
    parameters: dict[str, Scalar] = {}
    for options in (run.model, run.fit, run.source):
        parameters |= {
            key: value for key, value in asdict(options).items() if key not in ("datapool", "csv", "panes_csv", "seed")
        }
    parameters |= {"best_epoch": run.best_epoch, "interrupted": run.interrupted}
    return parameters
