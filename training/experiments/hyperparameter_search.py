"""Hyperparameter search by Optuna over window length, width and learning rate. It never reads the test range."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna

from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError
from training.data.source import SourceConfig
from training.data.windows import Samples
from training.evaluation.metrics import mae, persistence_forecast
from training.fitting.checkpoint import EpochListener
from training.fitting.prepare import TrainingData, prepare_data
from training.network.config import FitConfig, ModelConfig

CHUNK_WINDOWS = 512
SCORED_STEPS = (1, 6, 12)  # as far as the horizon reaches


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """The hyperparameters to search over.

    Attributes:
        sequence_lens: Choices of `ModelConfig.sequence_len`.
        widths: Choices of `ModelConfig.blocks`.
        learning_rates: Minimum and maximum of `FitConfig.learning_rate`, drawn log-uniformly.
    """

    sequence_lens: tuple[int, ...] = (12, 24, 36, 72)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    learning_rates: tuple[float, float] = (3e-4, 1e-2)

    def __post_init__(self) -> None:
        if not self.sequence_lens or not self.widths:
            raise DataError("the search needs at least one sequence_len and one width")
        if not 0 < self.learning_rates[0] <= self.learning_rates[1]:
            raise DataError(f"learning rates are {self.learning_rates}, expected two above 0, the lower one first")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial: a set of options and its result.

    Attributes:
        model, fit: The options.
        score: Geometric mean over features and steps of the MAE relative to persistence, on the validation range.
        best_epoch: Epoch of the lowest validation loss, from 1.
        parameters: Number of parameters of the network.
    """

    model: ModelConfig
    fit: FitConfig
    score: float
    best_epoch: int
    parameters: int


def search(
    source: SourceConfig,
    model: ModelConfig,
    options: FitConfig,
    space: SearchSpace,
    trials: int,
    make_listener: Callable[[str], EpochListener] | None = None,
) -> Iterator[Trial]:
    """Run trials, one after the other. The same seed gives the same trials.

    Args:
        source: Options of the data. The test range is not read.
        model: Options of the network, apart from those that are searched over.
        options: Options of fitting, apart from the learning rate.
        space: The hyperparameters to search over.
        trials: Number of trials.
        make_listener: Makes the listener of epochs for a title.

    Yields:
        Each trial when it is finished.

    Raises:
        DataError: The data does not allow a fit.
        KeyboardInterrupt: Ctrl-C ended the search. Trials yielded before are complete.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=options.seed))
    source = replace(source, test_time_range="", test_time_ranges_excluded="")
    data: dict[int, TrainingData] = {}
    for _ in range(trials):
        trial = study.ask()
        config, fitting = _draw(trial, space, model, options)
        if config.sequence_len not in data:
            data[config.sequence_len] = prepare_data(source, config)
        listener = make_listener(_title(config, fitting)) if make_listener else None
        result = _run_trial(config, fitting, data[config.sequence_len], listener)
        study.tell(trial, result.score)
        yield result


def validation_score(observed: Floats, forecast: Floats, last: Floats) -> float:
    """Return the geometric mean of the MAE relative to persistence over features and SCORED_STEPS.

    Args:
        observed: `(n, horizon, features)`, raw.
        forecast: `(n, horizon, features)`, raw.
        last: `(n, features)`, the values before them, raw.
    """
    horizon = observed.shape[1]
    steps = [step - 1 for step in SCORED_STEPS if step <= horizon] or [0]
    relative = mae(observed, forecast)[steps] / np.maximum(mae(observed, persistence_forecast(last, horizon))[steps], 1e-300)
    return float(np.exp(np.log(np.maximum(relative, 1e-300)).mean()))


def _draw(trial: Any, space: SearchSpace, model: ModelConfig, options: FitConfig) -> tuple[ModelConfig, FitConfig]:
    sequence_len = trial.suggest_categorical("sequence_len", space.sequence_lens)
    blocks = trial.suggest_categorical("blocks", space.widths)
    rate = float(f"{trial.suggest_float('learning_rate', *space.learning_rates, log=True):.2g}")
    return replace(model, sequence_len=sequence_len, blocks=blocks), replace(options, learning_rate=rate)


def _title(model: ModelConfig, options: FitConfig) -> str:
    return f"{model.model_type} sequence {model.sequence_len} blocks {model.blocks} rate {options.learning_rate:g}"


def _run_trial(model: ModelConfig, options: FitConfig, data: TrainingData, listener: EpochListener | None) -> Trial:
    from training.export.raw_function import compile_forecaster  # noqa: PLC0415  # TensorFlow takes seconds to load
    from training.fitting.fit import fit  # noqa: PLC0415  # as above

    validation: Samples = data.samples["validation"]
    fitted = fit(model, options, data.samples["train"], validation, listener)
    if fitted.interrupted:
        raise KeyboardInterrupt
    forecast = compile_forecaster(fitted.network, model, fitted.scaler, validation.windows.shape[2])
    cuts = [slice(start, start + CHUNK_WINDOWS) for start in range(0, len(validation), CHUNK_WINDOWS)]
    parts = [forecast(validation.windows[cut], validation.times[cut]) for cut in cuts]
    return Trial(
        model=model,
        fit=options,
        score=validation_score(validation.targets, np.concatenate(parts), validation.last),
        best_epoch=fitted.best_epoch,
        parameters=int(fitted.network.count_params()),
    )
