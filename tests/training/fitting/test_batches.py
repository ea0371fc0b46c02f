from functools import cache

import numpy as np
import pytest

from training.data.windows import Samples
from training.fitting import fit as fitting
from training.fitting.batches import STEPS_PER_CALL, Batches
from training.fitting.weights import save_weights
from training.network.architectures import build
from training.network.backend import keras
from training.network.config import FitConfig, ModelConfig

ROWS, BATCH, FEATURES = 2 * STEPS_PER_CALL + 11, 2, 3  # two calls an epoch, the second of fewer steps; one row left over
MODEL = ModelConfig(model_type="MLP", sequence_len=4, steps_ahead=2, blocks=8)
RANDOM = np.random.default_rng(1)
WINDOWS = RANDOM.normal(size=(ROWS, 4, FEATURES)).astype(np.float32)
TARGETS = RANDOM.normal(size=(ROWS, 2, FEATURES)).astype(np.float32)


def order(seed, epoch, rows=ROWS):
    """Return the rows of each batch of an epoch, `(steps, batch)`."""
    batches = Batches(WINDOWS[:rows], TARGETS[:rows], BATCH, seed)
    batches.on_epoch_begin(epoch)
    calls = [(chosen, count) for chosen, count in batches.dataset().as_numpy_iterator()]
    assert len({chosen.shape for chosen, _ in calls}) == 1
    rows_of_steps = np.concatenate([chosen[:count] for chosen, count in calls])
    assert len(rows_of_steps) == batches.steps
    return rows_of_steps


def compiled_network():
    keras.utils.set_random_seed(1)
    network = build(MODEL, FEATURES)
    network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mae")
    return network


@cache
def fit_with_keras_own_steps():
    network, losses = compiled_network(), []
    for epoch in range(2):
        rows = order(1, epoch).ravel()
        losses += network.fit(WINDOWS[rows], TARGETS[rows], batch_size=BATCH, shuffle=False, verbose=0).history["loss"]
    return losses, network.get_weights()


@pytest.mark.parametrize("rows", [BATCH, 7, 2 * STEPS_PER_CALL, ROWS])
def test_an_epoch_has_full_batches_of_distinct_rows(rows):
    batches = order(1, 0, rows)
    assert batches.shape == (rows // BATCH, BATCH)
    assert len(np.unique(batches)) == batches.size
    assert 0 <= batches.min() <= batches.max() < rows


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, second, other = order(1, 0), order(1, 0), order(1, 1), order(2, 0)
    np.testing.assert_array_equal(first, again)
    assert not (first == second).all()
    assert not (first == other).all()


@pytest.mark.train
@pytest.mark.parametrize("compiled", [False, True])
def test_many_steps_in_a_call_end_with_the_weights_of_keras_own_steps(compiled):
    ours = compiled_network()
    batches = Batches(WINDOWS, TARGETS, BATCH, 1)
    ours.train_function = batches.train_function(ours, compiled=compiled)
    losses = ours.fit(batches.dataset(), epochs=2, shuffle=False, verbose=0, callbacks=[batches]).history["loss"]

    expected_losses, expected_weights = fit_with_keras_own_steps()
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for weights, expected in zip(ours.get_weights(), expected_weights, strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.train
def test_a_fit_that_xla_compiles_gives_the_same_bytes_each_time(monkeypatch):
    windows, rows = WINDOWS.astype(np.float64), np.arange(ROWS)
    samples = Samples(windows=windows, last=windows[:, -1], targets=TARGETS.astype(np.float64), origins=rows, times=rows)
    config = ModelConfig(model_type="MLP", sequence_len=4, steps_ahead=2, blocks=8, model_delta=False, dropout_rate=0.1)
    options = FitConfig(epochs=2, patience=2, batch_size=16, averaging=0.9)
    monkeypatch.setattr(fitting, "MIN_COMPILED_STEPS", 0)
    first, again = (fitting.fit(config, options, samples, samples).network for _ in range(2))
    assert save_weights(first) == save_weights(again)
