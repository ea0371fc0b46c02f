"""Search over window length, width and learning rate by Optuna. It sees training and validation ranges, never the test range."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from training.data.source import SourceConfig
from training.data.windows import Samples
from training.evaluation.metrics import mae, persistence
from training.export.raw_function import keras_forecaster
from training.fitting.fit import EpochListener, fit
from training.fitting.prepare import Prepared, prepare
from training.network.config import FitConfig, ModelConfig

BATCH = 512
STEPS_SCORED = (1, 6, 12)  # those within the horizon


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """What is tried.

    Attributes:
        sequence_lens: Choices of `ModelConfig.sequence_len`.
        widths: Choices of `ModelConfig.blocks`.
        learning_rates: Least and greatest `FitConfig.learning_rate`, drawn evenly by logarithm.
    """

    sequence_lens: tuple[int, ...] = (12, 24, 36, 72)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    learning_rates: tuple[float, float] = (3e-4, 1e-2)

    def __post_init__(self) -> None:
        if not self.sequence_lens or not self.widths:
            raise DataError("the search needs one sequence_len and one width at least")
        if not 0 < self.learning_rates[0] <= self.learning_rates[1]:
            raise DataError(f"learning rates are {self.learning_rates}, expected two above 0, the lower one first")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One set of options that was tried.

    Attributes:
        model, fit: The options.
        score: Geometric mean over features and steps of the MAE relative to that of no change, on the validation range.
        best_epoch: From 1.
        parameters: Of the network.
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
    listener_of: Callable[[str], EpochListener] | None = None,
) -> Iterator[Trial]:
    """Try sets of options, one after the other; the same seed tries the same sets.

    Args:
        source: Where the data is; its test range is not read.
        model: The options that are not searched over.
        options: How each is fitted, but for the learning rate.
        space: What is searched over.
        trials: How many sets are tried.
        listener_of: Gives the listener of epochs for a title.

    Yields:
        Each set that was tried, when it is done.

    Raises:
        DataError: The data does not allow a fit.
        KeyboardInterrupt: The user ended it; what was yielded stands.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=options.seed))
    source = replace(source, test_time_range="", test_time_ranges_excluded="")
    prepared: dict[int, Prepared] = {}
    for _ in range(trials):
        asked = study.ask()
        tried, fitting = _draw(asked, space, model, options)
        if tried.sequence_len not in prepared:
            prepared[tried.sequence_len] = prepare(source, tried)
        listener = listener_of(_title(tried, fitting)) if listener_of else None
        made = _try(tried, fitting, prepared[tried.sequence_len], listener)
        study.tell(asked, made.score)
        yield made


def validation_score(observed: NDArray[np.float64], forecast: NDArray[np.float64], windows: NDArray[np.float64]) -> float:
    """Average the MAE relative to that of no change geometrically over features and the steps that count.

    Args:
        observed: `(n, horizon, features)`, raw.
        forecast: `(n, horizon, features)`, raw.
        windows: `(n, rows, features)`, raw.
    """
    horizon = observed.shape[1]
    steps = [step - 1 for step in STEPS_SCORED if step <= horizon] or [0]
    relative = mae(observed, forecast)[steps] / np.maximum(mae(observed, persistence(windows, horizon))[steps], 1e-300)
    return float(np.exp(np.log(np.maximum(relative, 1e-300)).mean()))


def _draw(asked: Any, space: SearchSpace, model: ModelConfig, options: FitConfig) -> tuple[ModelConfig, FitConfig]:
    sequence_len = asked.suggest_categorical("sequence_len", space.sequence_lens)
    blocks = asked.suggest_categorical("blocks", space.widths)
    rate = float(f"{asked.suggest_float('learning_rate', *space.learning_rates, log=True):.2g}")
    return replace(model, sequence_len=sequence_len, blocks=blocks), replace(options, learning_rate=rate)


def _title(model: ModelConfig, options: FitConfig) -> str:
    return f"{model.model_type} sequence {model.sequence_len} blocks {model.blocks} rate {options.learning_rate:g}"


def _try(model: ModelConfig, options: FitConfig, prepared: Prepared, listener: EpochListener | None) -> Trial:
    validation: Samples = prepared.samples["validation"]
    fitted = fit(model, options, prepared.samples["train"], validation, listener)
    if fitted.interrupted:
        raise KeyboardInterrupt
    forecast = keras_forecaster(fitted.network, model, fitted.scaler, validation.windows.shape[2])
    cuts = [slice(start, start + BATCH) for start in range(0, len(validation), BATCH)]
    parts = [forecast(validation.windows[cut], validation.times[cut]) for cut in cuts]
    return Trial(
        model=model,
        fit=options,
        score=validation_score(validation.targets, np.concatenate(parts), validation.windows),
        best_epoch=fitted.best_epoch,
        parameters=int(fitted.network.count_params()),
    )
