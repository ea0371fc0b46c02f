import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.training.data import make_walk
from training.data.windows import Samples, make_samples
from training.fitting.fit import FitResult, fit
from training.network.config import FitConfig, ModelConfig
from training.network.scaler import Scaler

MODEL = ModelConfig(model_type="MLP", sequence_len=6, steps_ahead=3, blocks=8, stacked_blocks=1)
OPTIONS = FitConfig(epochs=2, patience=2, batch_size=32)
FAST = FitConfig(epochs=8, patience=8, batch_size=32, learning_rate=0.05)
SERIES = make_walk(days=3)
TRAIN = make_samples(SERIES, (slice(0, 280),), MODEL.rows, MODEL.steps_ahead)
VALIDATION = make_samples(SERIES, (slice(300, 430),), MODEL.rows, MODEL.steps_ahead)
NOTHING = Samples(
    windows=TRAIN.windows[:0], last=TRAIN.last[:0], targets=TRAIN.targets[:0], origins=TRAIN.origins[:0], times=TRAIN.times[:0]
)


@cache
def fitted_with(options: FitConfig) -> FitResult:
    """Fit once for all tests that look at the result of a fit."""
    return fit(MODEL, options, TRAIN, VALIDATION)


def validation_loss(fitted: FitResult) -> float:
    outputs = fitted.network(fitted.scaler.to_network_input(VALIDATION.windows)).numpy()
    return float(np.abs(outputs - fitted.scaler.to_network_target(VALIDATION.windows, VALIDATION.targets)).mean())


@pytest.mark.train
def test_the_weights_of_the_best_epoch_are_restored() -> None:
    fitted = fitted_with(FAST)
    losses = fitted.history["val_loss"]
    assert fitted.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == 8
    assert validation_loss(fitted) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.train
def test_the_fit_stops_when_the_validation_loss_no_longer_falls() -> None:
    fitted = fit(MODEL, FitConfig(epochs=200, patience=2, batch_size=32, learning_rate=0.3), TRAIN, VALIDATION)
    assert len(fitted.history["val_loss"]) == fitted.best_epoch + 2 < 200


@pytest.mark.train
def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    fits = [
        fitted_with(OPTIONS),
        fit(MODEL, OPTIONS, TRAIN, VALIDATION),
        fit(MODEL, replace(OPTIONS, seed=2), TRAIN, VALIDATION),
    ]
    first, again, other = ([weight.tobytes() for weight in fitted.network.get_weights()] for fitted in fits)
    assert first == again
    assert first != other


@pytest.mark.train
def test_the_scaler_saw_the_training_windows_only() -> None:
    fitted = fitted_with(OPTIONS)
    expected = Scaler.fit(TRAIN.windows, TRAIN.targets, transform="none", differencing=True)
    for name in ("input_mean", "input_scale", "output_mean", "output_scale"):
        np.testing.assert_array_equal(getattr(fitted.scaler, name), getattr(expected, name))
    both = Scaler.fit(
        np.concatenate([TRAIN.windows, VALIDATION.windows]),
        np.concatenate([TRAIN.targets, VALIDATION.targets]),
        transform="none",
        differencing=True,
    )
    assert (both.input_scale != expected.input_scale).all()


@pytest.mark.train
def test_the_average_of_the_weights_is_what_is_validated_and_kept() -> None:
    fitted = fit(MODEL, replace(FAST, averaging=0.9), TRAIN, VALIDATION)
    assert validation_loss(fitted) == pytest.approx(min(fitted.history["val_loss"]), rel=1e-4)
    assert fitted.history["val_loss"] != fitted_with(FAST).history["val_loss"]


def test_with_a_level_the_first_step_is_the_last_row_and_the_rest_are_differences() -> None:
    scaler = Scaler.fit(TRAIN.windows, TRAIN.targets, transform="none", differencing=True, level=True)
    seen = scaler.to_network_input(TRAIN.windows)
    plain = Scaler.fit(TRAIN.windows, TRAIN.targets, transform="none", differencing=True).to_network_input(TRAIN.windows)
    last = TRAIN.windows[:, -1]
    np.testing.assert_allclose(seen[:, 0], (last - last.mean(axis=0)) / last.std(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen[:, 1:], plain[:, 1:])


@pytest.mark.train
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_fit_cleanly_with_the_best_weights_so_far() -> None:
    def press_ctrl_c(epoch: int, losses: Mapping[str, float]) -> None:
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    fitted = fit(MODEL, FitConfig(epochs=500, patience=500, batch_size=32), TRAIN, VALIDATION, press_ctrl_c)
    assert fitted.interrupted
    assert 2 <= len(fitted.history["val_loss"]) < 500
    assert validation_loss(fitted) == pytest.approx(min(fitted.history["val_loss"]), rel=1e-4)


@pytest.mark.train
def test_the_members_of_an_ensemble_are_fitted_by_themselves_and_their_mean_is_better_than_they_are() -> None:
    config = replace(MODEL, model_type="ensemble", members="MLP,NLinear", linear=True)
    fitted = fit(config, FitConfig(epochs=6, patience=6, batch_size=32, learning_rate=0.01), TRAIN, VALIDATION)
    assert validation_loss(fitted) <= min(fitted.history["val_loss"])


@pytest.mark.train
def test_quantiles_are_fitted_to_the_shares_they_name() -> None:
    values = np.random.default_rng(1).exponential(10, (21 * 144, 1))
    config = ModelConfig(model_type="MLP", sequence_len=3, blocks=8, model_delta=False, quantiles="0.1,0.5,0.9")
    series = replace(make_walk(21, 1), values=values)
    parts = [make_samples(series, (part,), config.rows, 1) for part in (slice(0, 2000), slice(2000, 2400), slice(2400, 3000))]
    options = FitConfig(epochs=12, patience=12, batch_size=64, learning_rate=0.01, loss="pinball")
    fitted = fit(config, options, parts[0], parts[1])
    scaled = fitted.scaler.to_network_target(parts[2].windows, parts[2].targets)
    below = scaled[..., None] <= fitted.network(fitted.scaler.to_network_input(parts[2].windows)).numpy()
    np.testing.assert_allclose(below.mean(axis=(0, 1, 2)), [0.1, 0.5, 0.9], atol=0.07)


def test_a_part_without_windows_is_refused() -> None:
    with pytest.raises(DataError, match="no validation windows"):
        fit(MODEL, OPTIONS, TRAIN, NOTHING)
