"""Gradient-boosted trees on top of a small network, both over the same selected columns of the window.

The network is fitted first; the trees are fitted to what a share of it leaves, with forecasts of networks that have not seen the
samples (stacking, Wolpert 1992), so that trees do not trust it more than it deserves. It is a multilayer perceptron of its own
for every feature and seed, `blocks` wide and `stacked_blocks` deep, with a linear map beside it; `linear` does not apply. The
trees are those of `trees`: Zhang & Jung (2021), GBDT-MO, grown by LightGBM. See `fitting.boosted`.
"""

from typing import Any

from training.network.architectures.branches import order_paths
from training.network.backend import keras
from training.network.boosted_layers import RobustScaling, SharedMean, WeekTable, WindowExtract
from training.network.config import ModelConfig
from training.network.forest import make_stumps
from training.network.layers import activation_block, grouped_dense, window_input
from training.network.tree_layers import ForestLayer, PathBias

EXTRACT, TABLE, SCALING, BODY, SHARE, FOREST, PATH = "extract", "week_table", "scaling", "body", "share", "forest", "path"
"""Names of the layers."""


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module. Its trees are stumps until it is fitted."""
    inputs = window_input(config, features)
    columns = WindowExtract(level=config.level, horizon=config.steps_ahead, name=EXTRACT)(inputs[:, :, :features])
    if config.calendar:
        clock = WeekTable(config.steps_ahead * features, name=TABLE)(inputs[:, -1, features:])
        columns = keras.layers.Concatenate()([columns, clock])
    width = columns.shape[1]
    forest = ForestLayer(make_stumps(width, config.steps_ahead, features), features, name=FOREST)(columns)
    paths = build_body(config, width, features)(RobustScaling(name=SCALING)(columns))
    joined = keras.layers.Add()([SharedMean(config.seeds, name=SHARE)(paths), forest])
    return keras.Model(inputs, PathBias(config.heads, name=PATH)(joined), name="boosted")


def build_body(config: ModelConfig, width: int, features: int) -> Any:
    """Build the networks of all seeds, from scaled columns `(batch, width)` to `(batch, seeds * steps_ahead, features)`."""
    inputs = keras.Input((width,), name="columns")
    groups = config.seeds * features
    x = keras.layers.Dense(groups * config.blocks, kernel_initializer="he_normal", name="hidden")(inputs)
    x = activation_block(x, config, activation="relu")
    for _ in range(config.stacked_blocks - 1):
        x = activation_block(grouped_dense(x, groups, config.blocks), config, activation="relu")
    x = grouped_dense(x, groups, config.steps_ahead, name="outputs")
    linear = keras.layers.Dense(groups * config.steps_ahead, use_bias=False, kernel_initializer="zeros", name="of_columns")
    x = keras.layers.Add()([x, linear(inputs)])
    return keras.Model(inputs, order_paths(x, config, features, heads=1), name=BODY)
