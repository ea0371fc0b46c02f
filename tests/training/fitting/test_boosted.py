"""Boosted models: trees on a small network, in units of the current level, on data of any kind."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.training.data import make_walk
from training.data.series import Series
from training.data.windows import make_samples
from training.export.onnx_forecaster import open_graph
from training.export.to_onnx import export_graph
from training.fitting.fit import _scale, fit
from training.fitting.trees.boosted import assign_folds, candidates, gains_from_profile, robust_scaling
from training.fitting.weights import save_weights
from training.network.architectures.boosted import EXTRACT, SEEDS, TABLE
from training.network.boosted_layers import count_rows
from training.network.config import FitConfig, ModelConfig
from training.network.layers import PARTS
from training.network.tree_layers import forest_layers

HORIZON = 3
CONFIG = ModelConfig(
    model_type="boosted",
    sequence_len=20,
    steps_ahead=HORIZON,
    blocks=8,
    stacked_blocks=1,
    seeds=2,
    dropout_rate=0.1,
    level=True,
    calendar=True,
    transform="level",
    trees=40,
    leaves=6,
)
OPTIONS = FitConfig(epochs=4, batch_size=32, learning_rate=3e-3, averaging=0.9, tree_rate=0.2)
PARTS_OF_SERIES = (slice(0, 2400), slice(2430, 2700), slice(2730, 3456))


def clocked_series(offset: float = 0.0) -> Series:
    """One series that follows the clock and one that follows itself, with noise."""
    walk = make_walk(24)
    random = np.random.default_rng(8)
    count = len(walk.times)
    hours = np.arange(count) / 6
    values = np.zeros((count, 2))
    for row in range(1, count):
        values[row, 0] = 400 + 300 * np.sin(2 * np.pi * hours[row] / 24) + random.normal(0, 20)
        values[row, 1] = 50 + 0.6 * (values[row - 1, 1] - 50) + random.normal(0, 5)
    return replace(walk, values=values + offset)


def samples_of(series: Series):
    return [make_samples(series, (part,), CONFIG.rows, HORIZON) for part in PARTS_OF_SERIES]


def fitted(series=None, options=OPTIONS, **changes):
    config = replace(CONFIG, **changes)
    train, validation, test = samples_of(clocked_series() if series is None else series)
    return config, fit(config, options, train, validation), test


def relative_errors(config, result, test):
    graph = open_graph(export_graph(result.network, config, result.scaler, 2))
    error = np.abs(graph(test.windows, test.times) - test.targets).mean(axis=(0, 1))
    return error / np.abs(test.last[:, np.newaxis] - test.targets).mean(axis=(0, 1))


@pytest.mark.train
def test_it_beats_no_change_and_the_same_seed_gives_the_same_bytes():
    config, result, test = fitted()
    assert (relative_errors(config, result, test) < 0.9).all()
    again, other = fitted()[1], fitted(options=replace(OPTIONS, seed=2))[1]
    assert save_weights(again.network) == save_weights(result.network)
    assert export_graph(again.network, config, again.scaler, 2) == export_graph(result.network, config, result.scaler, 2)
    assert save_weights(other.network) != save_weights(result.network)


@pytest.mark.train
def test_only_features_that_follow_the_clock_get_a_profile_a_larger_share_and_more_trees():
    config, result, _ = fitted()
    inner = result.network.get_layer(PARTS)
    profiles = np.asarray(inner.get_layer(TABLE).table)[:, : 2 * HORIZON].reshape(-1, HORIZON, 2)
    assert profiles[..., 0].std() > 0.1
    assert not profiles[..., 1].any()
    np.testing.assert_array_equal(inner.get_layer(SEEDS).share, [0.5, 0.25])
    (layer,) = forest_layers(result.network)
    assert np.bincount(layer.forest.target).tolist() == [23, 16]
    assert config.trees == 40
    np.testing.assert_array_equal(inner.get_layer(EXTRACT).mask, [1.0, 1.0])


@pytest.mark.train
@pytest.mark.parametrize(
    ("offset", "options"),
    [
        (-400.0, {}),
        (0.0, {"calendar": False, "level": False}),
        (0.0, {"model_delta": False, "level": False}),
        (0.0, {"transform": "none"}),
        (0.0, {"sequence_len": 2, "seeds": 1}),
    ],
)
def test_it_fits_values_below_0_and_windows_and_options_of_any_kind(offset, options):
    config = replace(CONFIG, **options)
    series = clocked_series(offset)
    train, validation, test = (make_samples(series, (part,), config.rows, HORIZON) for part in PARTS_OF_SERIES)
    result = fit(config, OPTIONS, train, validation)
    assert (relative_errors(config, result, test) < 1.0).all()


@pytest.mark.train
def test_few_samples_are_enough():
    train, validation, _ = (make_samples(clocked_series(), (part,), CONFIG.rows, HORIZON) for part in PARTS_OF_SERIES)
    few = [
        replace(s, windows=s.windows[:9], last=s.last[:9], targets=s.targets[:9], origins=s.origins[:9], times=s.times[:9])
        for s in (train, validation)
    ]
    result = fit(CONFIG, OPTIONS, *few)
    assert np.isfinite(result.history["val_loss"][0])


def test_folds_are_blocks_of_consecutive_samples():
    assert assign_folds(10).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    long = assign_folds(12_000)
    assert (np.diff(np.flatnonzero(np.diff(long))) == 432).all()
    assert set(long) == {0, 1, 2, 3}


def test_a_profile_gains_where_the_clock_tells_and_not_where_it_does_not():
    train = samples_of(clocked_series())[0]
    from training.network.scaler import Scaler

    scaler = Scaler.fit(train.windows, train.targets, transform="level", differencing=True, level=True)
    samples = _scale(CONFIG, scaler, train)
    assert gains_from_profile(samples, assign_folds(len(train))).tolist() == [True, False]


def test_few_large_values_do_not_rule_the_scale_of_a_column():
    columns = np.random.default_rng(1).normal(5, 2, (1000, 2)).astype(np.float32)
    columns[:3, 1] = 1e4
    scale, shift = robust_scaling(columns)
    spread = columns[:, 1].std()
    assert scale[1] > 5 / spread
    np.testing.assert_allclose(np.median(columns * scale + shift, axis=0), 0.0, atol=1e-5)


def test_trees_see_all_columns_of_their_feature_and_few_of_others():
    lags, oldest, means = count_rows(CONFIG.sequence_len - 1, HORIZON)
    assert (lags, oldest, means) == (18, 1, [12, 19])
    own, other = (set(candidates(CONFIG, 2, feature).tolist()) for feature in (0, 1))
    window = 2 * (lags + oldest + len(means) + 1)
    assert {2 * row for row in range(window // 2)} <= own
    assert len([number for number in own if number < window and number % 2]) == 8 + 2 + 1
    assert (own | other) == set(range(window + 2 * HORIZON + 3))
    profiles = set(range(window, window + 2 * HORIZON))
    assert not own & other & profiles
