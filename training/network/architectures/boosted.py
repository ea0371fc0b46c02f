"""Gradient-boosted trees on top of a small network, both over the same selected columns of the window.

The network is fitted first; the trees are fitted to what a share of it leaves, with forecasts of networks that have not seen the
samples (stacking, Wolpert 1992), so that trees do not trust it more than it deserves. It is a multilayer perceptron of its own
for every feature and seed, `blocks` wide and `stacked_blocks` deep, with a linear map beside it; `linear` does not apply. The
trees are those of `trees`: Zhang & Jung (2021), GBDT-MO, grown by LightGBM. See `fitting.trees.boosted`.
"""

from typing import Any

from training.network.backend import keras
from training.network.boosted_layers import RobustScaling, SeedPaths, WeekSlot, WeekTable, WindowExtract
from training.network.config import ModelConfig
from training.network.forest import make_stumps
from training.network.layers import PARTS, activation_block, grouped_dense, window_input
from training.network.tree_layers import ForestLayer, PathBias

EXTRACT, TABLE, SCALING, HIDDEN, SEEDS, FOREST, PATH = "extract", "week_table", "scaling", "hidden", "seeds", "forest", "path"
"""Names of the layers, which are those of the inner network PARTS."""


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module. Its trees are stumps until it is fitted."""
    inputs = window_input(config, features)
    steps = keras.Input((config.sequence_len, features), name="steps")
    columns = WindowExtract(level=config.level, horizon=config.steps_ahead, name=EXTRACT)(steps)
    parts, given = [steps], [inputs[:, :, :features] if config.calendar else inputs]
    if config.calendar:
        slot = keras.Input((), dtype="int32", name="week_slot")
        parts.append(slot)
        given.append(WeekSlot()(inputs[:, -1, features:]))
        columns = keras.layers.Concatenate()([columns, WeekTable(config.steps_ahead * features, name=TABLE)(slot)])
    width = columns.shape[1]
    forest = ForestLayer(make_stumps(width, config.steps_ahead, features), features, name=FOREST)(columns)
    scaled = RobustScaling(name=SCALING)(columns)
    hidden, seeds = build_body(config, width, features)
    joined = keras.layers.Add()([seeds([hidden(scaled), scaled]), forest])
    inner = keras.Model(parts, PathBias(config.heads, name=PATH)(joined), name=PARTS)
    return keras.Model(inputs, inner(given), name="boosted")


def build_body(config: ModelConfig, width: int, features: int) -> tuple[Any, SeedPaths]:
    """Build the hidden layers of all features and seeds, over scaled columns `(batch, width)`, and what makes their paths."""
    inputs = keras.Input((width,), name="columns")
    groups = config.seeds * features
    x = keras.layers.Dense(groups * config.blocks, kernel_initializer="he_normal")(inputs)
    x = activation_block(x, config, activation="relu")
    for _ in range(config.stacked_blocks - 1):
        x = activation_block(grouped_dense(x, groups, config.blocks), config, activation="relu")
    seeds = SeedPaths(features, config.seeds, config.steps_ahead, name=SEEDS)
    seeds.build(((None, groups * config.blocks), (None, width)))
    return keras.Model(inputs, x, name=HIDDEN), seeds
