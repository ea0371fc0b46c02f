"""Gradient-boosted regression trees over columns of the window. A leaf holds the whole path of one feature.

Friedman (2001), Greedy function approximation: a gradient boosting machine; Zhang & Jung (2021), GBDT-MO, for leaves of several
outputs, which forecast all steps in the time of one. The trees are grown by LightGBM (Ke et al. 2017), see `fitting.trees`.
With a calendar they also see what followed at this time of the day on average. There is no hidden layer: width, depth, dropout
and normalisation do not apply. With `linear` the trees are fitted to what the ridge regression of the window leaves.
"""

from typing import Any

from training.network.backend import keras
from training.network.calendar import DAY_SLOTS, SLOT_CHANNEL
from training.network.config import ModelConfig
from training.network.forest import make_stumps
from training.network.layers import window_input
from training.network.tree_layers import ForestLayer, PathBias, WindowColumns

COLUMNS, PROFILE, FOREST, PATH = "columns", "profile", "forest", "path"
"""Names of the layers."""


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module. Its trees are stumps until it is fitted."""
    inputs = window_input(config, features)
    columns = WindowColumns(features, differencing=config.model_delta, level=config.level, name=COLUMNS)(inputs)
    if config.calendar:
        slot = inputs[:, -1, features + SLOT_CHANNEL]
        profile = keras.layers.Embedding(DAY_SLOTS, config.steps_ahead * features, name=PROFILE)(slot)
        columns = keras.layers.Concatenate()([columns, profile])
    stumps = make_stumps(columns.shape[1], config.steps_ahead, features)
    paths = ForestLayer(stumps, features, name=FOREST)(columns)
    return keras.Model(inputs, PathBias(config.heads, name=PATH)(paths), name="trees")
