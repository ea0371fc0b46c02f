"""One run: prepared data in, a run and its weights out."""

import math
from datetime import UTC, datetime

import numpy as np

from training.data.source import SourceConfig
from training.data.windows import time_range
from training.fitting.checkpoint import Checkpointing
from training.fitting.fit import EpochListener, fit
from training.fitting.prepare import Prepared
from training.fitting.run import Run, library_versions
from training.fitting.weights import load_weights, save_weights
from training.network.architectures import Network, build
from training.network.config import FitConfig, ModelConfig


def fit_run(
    source: SourceConfig,
    model: ModelConfig,
    options: FitConfig,
    prepared: Prepared,
    *,
    command: str = "",
    listener: EpochListener | None = None,
    checkpointing: Checkpointing | None = None,
) -> tuple[Run, bytes]:
    """Fit a network on prepared data.

    Args:
        source: Where the data came from, to be read again.
        model: What the network looks like.
        options: How it is fitted.
        prepared: What `prepare(source, model)` gave.
        command: The command line that makes the run again.
        listener: Told of every epoch.
        checkpointing: Where the state of the fit is kept; None keeps none.

    Returns:
        The run and the bytes of its weights.

    Raises:
        DataError: The data does not allow a fit.
    """
    fitted = fit(model, options, prepared.samples["train"], prepared.samples["validation"], listener, checkpointing)
    series = prepared.series
    values = prepared.training_values()
    steps = np.concatenate([np.abs(np.diff(series.values[cut], axis=0)) for cut in prepared.parts["train"]])
    run = Run(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        model=model,
        fit=options,
        source=source,
        features=series.features,
        minimum=tuple(values.min(axis=0).tolist()),
        maximum=tuple(values.max(axis=0).tolist()),
        window_seconds=series.window_seconds,
        slide_seconds=series.slide_seconds,
        ranges={name: time_range(series, part) for name, part in prepared.parts.items()},
        samples={name: len(samples) for name, samples in prepared.samples.items()},
        data_digest=series.digest,
        report=series.report,
        scaler=fitted.scaler,
        naive_error=tuple(np.nanmean(steps, axis=0).tolist()),
        history={name: tuple(_finite(value) for value in values) for name, values in fitted.history.items()},
        best_epoch=fitted.best_epoch,
        interrupted=fitted.interrupted,
        libraries=library_versions(),
    )
    return run, save_weights(fitted.network)


def rebuild(run: Run, weights: bytes) -> Network:
    """Make the network of a run again.

    Raises:
        DataError: The weights are not of this network.
    """
    network = build(run.model, len(run.features))
    load_weights(network, weights)
    return network


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else -1.0
