"""One training run: data in, the run's record and its weights out."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from training.data.source import SourceConfig
from training.data.windows import describe_range
from training.fitting.checkpoint import CheckpointOptions, EpochListener
from training.fitting.fit import fit
from training.fitting.prepare import TrainingData
from training.fitting.run import TrainingRun, read_library_versions
from training.fitting.weights import load_weights, save_weights
from training.network.architectures import Network, build
from training.network.config import FitConfig, ModelConfig


def fit_run(
    source: SourceConfig,
    model: ModelConfig,
    options: FitConfig,
    data: TrainingData,
    *,
    command: str = "",
    listener: EpochListener | None = None,
    checkpoints: CheckpointOptions | None = None,
) -> tuple[TrainingRun, bytes]:
    """Fit a network on prepared data.

    Args:
        source: Options of the data, recorded so that it can be read again.
        model: Options of the network.
        options: Options of fitting.
        data: Result of `prepare_data(source, model)`.
        command: The command line that reproduces the run.
        listener: Called after every epoch.
        checkpoints: File for the state of the fit; None for no checkpoints.

    Returns:
        The run and the bytes of its weights.

    Raises:
        DataError: The data does not allow a fit.
    """
    train, validation, calibration = (data.samples[part] for part in ("train", "validation", "calibration"))
    result = fit(model, options, train, validation, listener, checkpoints, calibration)
    series = data.series
    values = data.training_values()
    steps = np.concatenate([np.abs(np.diff(series.values[cut], axis=0)) for cut in data.parts["train"]])
    run = TrainingRun(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        model=model,
        fit=options,
        source=replace(source, panes=",".join(feature.name for feature in series.features if feature.pane)),
        features=series.features,
        minimum=tuple(values.min(axis=0).tolist()),
        maximum=tuple(values.max(axis=0).tolist()),
        window_seconds=series.window_seconds,
        slide_seconds=series.slide_seconds,
        ranges={name: describe_range(series, part) for name, part in data.parts.items()},
        samples={name: len(samples) for name, samples in data.samples.items()},
        data_digest=series.digest,
        report=series.report,
        scaler=result.scaler,
        naive_error=tuple(np.nanmean(steps, axis=0).tolist()),
        history={name: tuple(_finite_loss(value) for value in values) for name, values in result.history.items()},
        best_epoch=result.best_epoch,
        interrupted=result.interrupted,
        libraries=read_library_versions(),
    )
    return run, save_weights(result.network, result.calibrated)


def rebuild_network(run: TrainingRun, weights: bytes, *, calibrated: bool = False) -> Network:
    """Rebuild the network of a run, or with `calibrated` the one that has not seen the calibration range.

    Raises:
        DataError: The weights are not of this network.
    """
    network = build(run.model, len(run.features))
    load_weights(network, weights, calibrated=calibrated and run.fit.refit == "all" and not run.interrupted)
    return network


def _finite_loss(loss: float) -> float:
    return loss if math.isfinite(loss) else -1.0
