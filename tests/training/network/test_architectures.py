"""The contract of every architecture: one set of tests, run over all of them."""

import functools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.errors import DataError
from training.export.raw_function import build_raw_function
from training.fitting.weights import load_weights, save_weights
from training.network.architectures import ARCHITECTURES, build
from training.network.architectures.dlinear import moving_average
from training.network.architectures.ensemble import members_of
from training.network.architectures.tcn import list_dilations
from training.network.backend import keras, tf
from training.network.config import MODEL_TYPES, ModelConfig
from training.network.scaler import Scaler

FEATURES = 3
HORIZON = 4
NO_HIDDEN_LAYER = {"DLinear", "NLinear", "ridge", "trees"}
SHORT = 4  # steps of a window where their number does not matter: recurrent layers that are not compiled take long
REGULARIZED = {"sequence_len": SHORT, "dropout_rate": 0.5, "batch_normalization": True}
QUANTILES = {"sequence_len": SHORT, "quantiles": "0.05,0.25,0.5,0.9"}


@pytest.fixture(scope="module", params=MODEL_TYPES)
def config(request):
    return ModelConfig(model_type=request.param, sequence_len=12, steps_ahead=HORIZON, blocks=8)


def built(config, seed=1):
    keras.utils.set_random_seed(seed)
    return build(config, FEATURES)


shared = functools.cache(built)
"""A network for tests that leave its weights as they are."""


@pytest.fixture(scope="module")
def network(config):
    """The shared network, compiled for any batch: recurrent layers are slow without."""
    return tf.function(shared(config), input_signature=[tf.TensorSpec((None, config.sequence_len, FEATURES), tf.float32)])


def unit_scaler(config, center=0.0):
    return Scaler(
        transform=config.transform,
        differencing=config.model_delta,
        input_mean=np.full(FEATURES, center),
        input_scale=np.ones(FEATURES),
        output_mean=np.full((HORIZON, FEATURES), center),
        output_scale=np.ones((HORIZON, FEATURES)),
        highest=np.full(FEATURES, 20.0) if config.transform == "log1p" else None,
    )


def scaled_windows(count, steps=12):
    return np.random.default_rng(7).normal(size=(count, steps, FEATURES)).astype(np.float32)


def layers(network, kind):
    of_kind = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            of_kind.extend(layers(layer, kind))
            continue
        inner = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else [layer]
        of_kind.extend(each for each in inner if isinstance(each, kind))
    return of_kind


def test_every_model_type_has_an_architecture():
    assert {*ARCHITECTURES, "ensemble"} == set(MODEL_TYPES)


def test_emits_the_whole_path_of_every_feature(config):
    for steps_ahead in (1, HORIZON, 12):
        network = shared(replace(config, steps_ahead=steps_ahead))
        assert network.input_shape == (None, 12, FEATURES)
        assert network.output_shape == (None, steps_ahead, FEATURES)


@pytest.mark.parametrize("delta", [True, False])
def test_is_finite_on_constant_input_and_can_leave_the_training_range(config, delta):
    config = replace(config, model_delta=delta, sequence_len=SHORT)
    network = built(config)
    function = build_raw_function(network, config, unit_scaler(config, center=0.0 if delta else 100.0), FEATURES).python_function

    def forecast(windows):
        return function(tf.constant(windows))["forecast"].numpy()

    constant = np.full((4, config.rows, FEATURES), 100.0) * np.array([0.0, 1.0, 1e6, 1e300])[:, None, None]
    assert np.isfinite(forecast(constant)).all()
    biases = [layer.bias for layer in layers(network, keras.layers.Layer) if layer.name.startswith("path")]
    for sigmas in (40.0, -40.0):
        for bias in biases:
            bias.assign(np.full(bias.shape, sigmas))
        beyond = forecast(constant[1:2]) - 100.0
        assert (beyond * np.sign(sigmas) > 20.0).all(), "the output is bounded"


def test_a_batch_equals_as_many_batches_of_one(config, network):
    windows = scaled_windows(6)
    together = network(windows)
    assert together.shape == (6, HORIZON, FEATURES)
    one_by_one = np.concatenate([network(windows[row : row + 1]) for row in range(6)])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5, atol=1e-6)


def test_the_seed_decides_the_weights(config):
    first, again, other = (save_weights(network) for network in (shared(config), built(config), built(config, seed=2)))
    assert first == again
    assert first != other


def test_weights_survive_saving_and_loading_into_a_rebuilt_network(config):
    config = replace(config, **REGULARIZED)
    network = built(config, seed=2)
    random = np.random.default_rng(3)
    network.set_weights([random.uniform(0.1, 0.5, weight.shape) for weight in network.weights])
    rebuilt = shared(config)  # other tests do not depend on its weights
    load_weights(rebuilt, save_weights(network))
    assert save_weights(rebuilt) == save_weights(network)
    window = scaled_windows(1, steps=SHORT)
    np.testing.assert_array_equal(rebuilt(window), network(window))


def test_weights_of_another_network_are_refused_and_change_nothing(config):
    network = shared(config)
    weights = save_weights(network)
    for data in (save_weights(shared(replace(config, **QUANTILES))), b"PK\x03\x04 no archive", b"\x93NUMPY", b""):
        with pytest.raises(DataError):
            load_weights(network, data)
    assert save_weights(network) == weights


def test_width_and_depth_change_the_number_of_weights(config):
    plain = shared(config).count_params()
    if config.model_type in NO_HIDDEN_LAYER:
        assert built(replace(config, blocks=16, stacked_blocks=3)).count_params() == plain
        return
    assert built(replace(config, blocks=16)).count_params() > plain
    assert built(replace(config, stacked_blocks=3)).count_params() > plain
    assert built(replace(config, stacked_blocks=1)).count_params() < plain


def test_dropout_and_batch_normalization_are_in_the_network_only_when_asked_for(config):
    plain = shared(replace(config, sequence_len=SHORT))
    assert not layers(plain, keras.layers.Dropout)
    assert not layers(plain, keras.layers.BatchNormalization)
    network = shared(replace(config, **REGULARIZED))
    if config.model_type in NO_HIDDEN_LAYER:
        assert network.count_params() == plain.count_params()
        return
    assert {layer.rate for layer in layers(network, keras.layers.Dropout)} == {0.5}
    assert network.count_params() > plain.count_params()
    windows = scaled_windows(2, steps=SHORT)
    assert not np.allclose(network(windows, training=True), network(windows, training=True))


def test_every_step_of_the_window_matters(config, network):
    windows = np.repeat(scaled_windows(1), 1 + config.sequence_len, axis=0)
    for step in range(config.sequence_len):
        windows[1 + step, step] += 1.0
    plain, *changed = np.asarray(network(windows))
    unseen = [step for step, path in enumerate(changed) if np.allclose(path, plain, rtol=0, atol=1e-7)]
    assert not unseen


def test_an_added_linear_map_has_no_effect_before_it_is_fitted(config):
    beside = built(replace(config, linear=True))
    maps = [layer for layer in layers(beside, keras.layers.Dense) if layer.name == "linear"]
    assert beside.count_params() == shared(config).count_params() + len(maps) * 12 * FEATURES * HORIZON * FEATURES
    assert len(maps) == (0 if config.model_type in ("ridge", "boosted") else len(config.member_types) or 1)
    assert not any(map_.kernel.numpy().any() for map_ in maps)


def test_emits_quantiles_that_do_not_cross(config):
    network = shared(replace(config, **QUANTILES))  # its weights become others, of the same shapes
    assert network.output_shape == (None, HORIZON, FEATURES, 4)
    network.set_weights([5 * weight for weight in network.get_weights()])
    assert (np.diff(network(scaled_windows(5, steps=SHORT)), axis=-1) >= 0).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantiles": "0.1,0.9"}, "0.5"),
        ({"quantiles": "0.5"}, "one more"),
        ({"quantiles": "0.9,0.5"}, "ascending order"),
        ({"quantiles": "0,0.5"}, "between 0 and 1"),
        ({"quantiles": "0.5,high"}, "comma-separated numbers"),
        ({"transform": "level", "window_scale": True}, "use one of them"),
        ({"model_type": "ensemble", "members": "MLP"}, "two"),
        ({"model_type": "ensemble", "members": "MLP,ensemble"}, "other than ensemble"),
        ({"model_type": "ensemble", "members": "MLP,MPL"}, "MPL"),
        ({"model_type": "MLP", "members": "MLP,GRU"}, "of an ensemble"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(DataError, match=reason):
        ModelConfig(**options)


def test_an_ensemble_is_the_mean_of_its_members_which_start_from_weights_of_their_own():
    network = built(ModelConfig(model_type="ensemble", members="MLP,MLP,NLinear", blocks=8, steps_ahead=HORIZON))
    windows = scaled_windows(3)
    members = [layer(windows).numpy() for layer in network.layers if isinstance(layer, keras.Model)]
    np.testing.assert_allclose(network(windows), np.mean(members, axis=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(members[0], members[1])
    beside = members_of(network)
    np.testing.assert_array_equal(beside(windows), np.concatenate(members, axis=1))
    for ours, theirs in zip(beside.weights, network.weights, strict=True):
        assert ours is theirs


def test_dlinear_averages_about_each_step_with_the_ends_repeated():
    inputs = keras.Input((6, 1))
    averaged = keras.Model(inputs, moving_average(inputs, 4))(np.arange(6.0).reshape(1, 6, 1)).numpy()
    padded = np.array([0, 0, 1, 2, 3, 4, 5, 5, 5.0])
    np.testing.assert_allclose(averaged[0, :, 0], [padded[i : i + 4].mean() for i in range(6)])


@pytest.mark.parametrize("model_type", ["DLinear", "NLinear"])
def test_linear_models_keep_features_apart_and_are_linear(model_type):
    network = built(ModelConfig(model_type=model_type, steps_ahead=HORIZON))
    windows = scaled_windows(1)
    changed = windows.copy()
    changed[..., 0] += 1.0
    np.testing.assert_array_equal(network(changed)[..., 1:], network(windows)[..., 1:])
    np.testing.assert_allclose(network(2 * windows), 2 * network(windows).numpy(), rtol=1e-4, atol=1e-5)


def test_nlinear_of_levels_follows_the_last_level():
    network = built(ModelConfig(model_type="NLinear", model_delta=False, steps_ahead=HORIZON))
    windows = scaled_windows(2)
    np.testing.assert_allclose(network(windows + 100.0), network(windows).numpy() + 100.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "kinds"),
    [
        ("LSTM", {"LSTM": 1}),
        ("GRU", {"GRU": 1}),
        ("bidirectLSTM", {"LSTM": 2}),
        ("stackedLSTM", {"LSTM": 3}),
        ("attentionLSTM", {"LSTM": 3, "Attention": 1}),
        ("seq2seqLSTM", {"LSTM": 6}),
        ("Conv1D", {"Conv1D": 3}),
        ("MLP", {"Dense": 4}),
        ("TSMixer", {"Dense": 10}),
        ("GRU-FCN", {"GRU": 1, "Conv1D": 3}),
        ("ensemble", {"Conv1D": 3, "Average": 1}),
        ("autoencoderMLP", {"Dense": 8}),
    ],
)
def test_is_what_its_name_says(model_type, kinds):
    network = built(ModelConfig(model_type=model_type, blocks=16, stacked_blocks=3))
    counts = Counter(type(layer).__name__ for layer in layers(network, keras.layers.Layer))
    assert {kind: counts[kind] for kind in kinds} == kinds


def test_autoencoder_narrows_to_a_bottleneck_and_widens_again():
    network = built(ModelConfig(model_type="autoencoderMLP", blocks=32, stacked_blocks=2))
    assert [layer.units for layer in layers(network, keras.layers.Dense)[:-1]] == [32, 16, 8, 16, 32]


@pytest.mark.parametrize("stacked_blocks", [1, 2, 4])
def test_stacked_tcn_repeats_the_dilations_of_a_whole_tcn(stacked_blocks):
    config = ModelConfig(model_type="stackedTCN", sequence_len=40, stacked_blocks=stacked_blocks)
    kernels = [layer for layer in layers(built(config), keras.layers.Conv1D) if layer.kernel_size != (1,)]
    assert [layer.dilation_rate[0] for layer in kernels] == [1, 1, 2, 2, 4, 4, 8, 8] * stacked_blocks
    assert {layer.padding for layer in kernels} == {"causal"}


@pytest.mark.parametrize("convolutions", [1, 2, 3])
@pytest.mark.parametrize("sequence_len", [2, 3, 12, 13, 72, 144])
def test_tcn_sees_the_whole_window_with_no_more_blocks_than_needed(sequence_len, convolutions):
    chosen = list_dilations(sequence_len, convolutions)
    assert 1 + 2 * convolutions * sum(chosen) >= sequence_len
    assert 1 + 2 * convolutions * sum(chosen[:-1]) < sequence_len


def test_tcn_sees_the_first_step_of_a_long_window():
    network = built(ModelConfig(model_type="TCN", sequence_len=72, blocks=8))
    windows = scaled_windows(4, steps=72)
    changed = windows.copy()
    changed[:, 0] += 5.0
    assert not np.array_equal(network(changed), network(windows))
