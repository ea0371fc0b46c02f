"""A multilayer perceptron of its own for every feature and seed: all see the whole window, each forecasts one feature.

Networks with shared layers serve the features that are easiest to fit. `blocks` is the width of a branch and `stacked_blocks`
its depth. All branches are products of one grouped matrix per layer. With `seeds`, each feature has as many branches, which start
from other weights and are compared with the targets one by one; the forecast is their mean.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.heads import linear_forecast
from training.network.layers import Tensor, activation_block, grouped_dense, window_input

PATHS = "paths_of_seeds"


def build(config: ModelConfig, features: int) -> Any:
    """Build the network, with its linear map if there is one; see the module."""
    inputs = window_input(config, features)
    x = keras.layers.Flatten()(inputs[:, :, :features] if config.calendar else inputs)
    if config.calendar:
        x = keras.layers.Concatenate()([x, inputs[:, -1, features:]])
    groups = config.seeds * features
    x = activation_block(keras.layers.Dense(groups * config.blocks)(x), config, activation="relu")
    for _ in range(config.stacked_blocks - 1):
        x = activation_block(grouped_dense(x, groups, config.blocks), config, activation="relu")
    paths = _order_paths(grouped_dense(x, groups, config.steps_ahead * config.heads, name="path"), config, features)
    if config.linear and not config.levels:
        linear = linear_forecast(inputs, config, features)
        of_seeds = keras.layers.Concatenate(axis=1)([linear] * config.seeds) if config.seeds > 1 else linear
        paths = keras.layers.Add()([paths, of_seeds])
    if config.seeds == 1:
        return keras.Model(inputs, paths, name="branches")
    paths = keras.layers.Activation("linear", name=PATHS)(paths)
    steps = config.steps_ahead
    mean = keras.layers.Average()([paths[:, seed * steps : (seed + 1) * steps] for seed in range(config.seeds)])
    return keras.Model(inputs, mean, name="branches")


def _order_paths(x: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Turn what the groups emit, by seed and feature, into `(batch, seeds * steps_ahead, heads * features)`."""
    x = keras.layers.Reshape((config.seeds, features, config.heads, config.steps_ahead))(x)
    x = keras.layers.Permute((1, 4, 3, 2))(x)
    return keras.layers.Reshape((config.seeds * config.steps_ahead, config.heads * features))(x)
