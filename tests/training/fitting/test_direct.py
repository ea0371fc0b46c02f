"""What gradient descent does not fit: ridge in closed form, boosted trees, blends; and fitting again on more data."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.training.data import make_walk
from training.data.windows import make_samples
from training.evaluation.baselines import fit_ridge
from training.export.onnx_forecaster import open_graph
from training.export.to_onnx import export_graph
from training.fitting.direct import choose_shares, forecast_in_chunks
from training.fitting.fit import fit, make_network_input
from training.fitting.weights import load_weights, save_weights
from training.network.architectures import build
from training.network.architectures.ensemble import MEAN, inner_models
from training.network.config import FitConfig, ModelConfig
from training.network.tree_layers import forest_layers

pytestmark = pytest.mark.train
SEQUENCE, HORIZON = 12, 3


def daily_series(days=12):
    """Two series that follow the clock and their own last values, with noise."""
    walk = make_walk(days)
    random = np.random.default_rng(8)
    values = np.zeros((len(walk.times), 2))
    hours = np.arange(len(values)) / 6
    for row in range(1, len(values)):
        drive = 40 + 30 * np.sin(2 * np.pi * hours[row] / 24) + 25 * (hours[row] % 24 > 18)
        values[row] = 0.6 * values[row - 1] + 0.4 * drive + random.normal(0, 3, 2)
    return replace(walk, values=np.maximum(np.round(values), 0.0))


SERIES = daily_series()
PARTS = (slice(0, 1000), slice(1020, 1250), slice(1270, 1450), slice(1470, 1728))
TRAIN, VALIDATION, CALIBRATION, TEST = (make_samples(SERIES, (part,), SEQUENCE + 1, HORIZON) for part in PARTS)
CONFIG = ModelConfig(sequence_len=SEQUENCE, steps_ahead=HORIZON, level=True, transform="log1p", calendar=True, trees=60, leaves=8)
OPTIONS = FitConfig(epochs=3, batch_size=64, tree_rate=0.2)


def fitted(options=OPTIONS, **changes):
    config = replace(CONFIG, **changes)
    return config, fit(config, options, TRAIN, VALIDATION, calibration=CALIBRATION)


def errors(config, result, samples=TEST):
    graph = open_graph(export_graph(result.network, config, result.scaler, 2))
    return np.abs(graph(samples.windows, samples.times) - samples.targets).mean(axis=0)


def test_ridge_is_as_good_as_the_baseline_which_sees_the_same():
    config, result = fitted(model_type="ridge")
    baseline = fit_ridge(SERIES, TRAIN, VALIDATION, lags=SEQUENCE - 1)  # the level takes the place of a difference
    expected = np.abs(baseline.forecast(SERIES, TEST.origins) - TEST.targets).mean(axis=0)
    np.testing.assert_allclose(errors(config, result), expected, rtol=0.02)
    assert result.best_epoch == 1
    assert len(result.history["val_loss"]) == 1


def test_trees_beat_no_change_and_the_same_seed_gives_the_same_bytes():
    config, result = fitted(model_type="trees")
    unchanged = np.abs(TEST.windows[:, -1:] - TEST.targets).mean(axis=0)
    assert (errors(config, result) < 0.97 * unchanged).all()
    (layer,) = forest_layers(result.network)
    assert 2 <= len(layer.forest.root) <= 60
    again = fitted(model_type="trees")[1]
    assert save_weights(again.network) == save_weights(result.network)
    assert export_graph(again.network, config, again.scaler, 2) == export_graph(result.network, config, result.scaler, 2)
    other = fitted(replace(OPTIONS, seed=2), model_type="trees")[1]
    assert save_weights(other.network) != save_weights(result.network)


def test_trees_survive_saving_and_their_forecast_is_the_path_of_the_leaves():
    config, result = fitted(model_type="trees", linear=True)
    rebuilt = build(config, 2)
    load_weights(rebuilt, save_weights(result.network))
    inputs = make_network_input(config, result.scaler, TEST)
    np.testing.assert_array_equal(forecast_in_chunks(rebuilt, inputs), forecast_in_chunks(result.network, inputs))


@pytest.mark.parametrize("model_type", ["ridge", "trees", "boosted"])
def test_quantiles_are_those_of_the_residuals(model_type):
    options = replace(OPTIONS, loss="pinball")
    config, result = fitted(options, model_type=model_type, quantiles="0.1,0.5,0.9")
    emitted = forecast_in_chunks(result.network, make_network_input(config, result.scaler, VALIDATION))
    targets = result.scaler.to_network_target(VALIDATION.windows, VALIDATION.targets)
    shares = (targets[..., None] <= emitted).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.06)


def test_shares_follow_the_better_forecast_by_step_and_add_up_to_1():
    random = np.random.default_rng(1)
    targets = random.normal(size=(400, 2, 1)).astype(np.float32)
    good, bad = (targets + size * random.normal(size=targets.shape) for size in (0.1, 2.0))
    forecasts = np.stack([good, bad]).astype(np.float32)
    forecasts[:, :, 1] = forecasts[::-1, :, 1]
    shares = choose_shares(forecasts, targets)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-6)
    assert shares[0, 0, 0] > 0.85
    assert shares[1, 1, 0] > 0.85


def test_a_weighted_blend_is_no_worse_than_the_mean_on_the_validation_range():
    config, result = fitted(model_type="ensemble", members="branches,ridge,trees", blend="validation", blocks=4)
    inputs = make_network_input(config, result.scaler, VALIDATION)
    targets = result.scaler.to_network_target(VALIDATION.windows, VALIDATION.targets)
    members = [forecast_in_chunks(member, inputs[:, :, : member.input.shape[2]]) for member in inner_models(result.network)]
    blend = np.abs(forecast_in_chunks(result.network, inputs) - targets).mean()
    assert blend <= np.abs(np.mean(members, axis=0) - targets).mean() * 1.005
    shares = np.asarray(result.network.get_layer(MEAN).shares)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-6)
    assert shares.std(axis=0).max() > 0.01
    errors(config, result)  # all of it in one graph


@pytest.mark.parametrize("model_type", ["MLP", "ridge", "trees", "boosted"])
def test_a_refit_uses_the_later_data_and_the_calibrated_model_has_not_seen_its_range(model_type):
    first = fitted(model_type=model_type, blocks=4)[1]
    validated = fitted(replace(OPTIONS, refit="validation"), model_type=model_type, blocks=4)[1]
    everything = fitted(replace(OPTIONS, refit="all"), model_type=model_type, blocks=4)[1]
    assert validated.calibrated is None
    assert everything.calibrated is not None
    assert save_weights(everything.calibrated) == save_weights(validated.network)
    assert len({save_weights(network) for network in (first.network, validated.network, everything.network)}) == 3
    stored = save_weights(everything.network, everything.calibrated)
    config = replace(CONFIG, model_type=model_type, blocks=4)
    for calibrated, expected in ((False, everything.network), (True, everything.calibrated)):
        network = build(config, 2)
        load_weights(network, stored, calibrated=calibrated)
        assert save_weights(network) == save_weights(expected)
    assert first.scaler.input_mean.tobytes() == everything.scaler.input_mean.tobytes()


def test_seeds_of_branches_are_fitted_one_by_one_and_averaged():
    config, one = fitted(model_type="branches", blocks=4)
    several = fitted(model_type="branches", blocks=4, seeds=3)[1]
    inputs = make_network_input(config, one.scaler, VALIDATION)
    targets = one.scaler.to_network_target(VALIDATION.windows, VALIDATION.targets)
    paths = several.network.get_layer("paths_of_seeds")
    from training.network.backend import keras

    outputs = np.asarray(keras.Model(several.network.input, paths.output)(inputs)).reshape(len(inputs), 3, HORIZON, 2)
    np.testing.assert_allclose(outputs.mean(axis=1), several.network(inputs), rtol=1e-4, atol=1e-5)
    alone = [np.abs(outputs[:, seed] - targets).mean() for seed in range(3)]
    assert len({round(float(value), 6) for value in alone}) == 3
    assert np.abs(outputs.mean(axis=1) - targets).mean() <= np.mean(alone)
