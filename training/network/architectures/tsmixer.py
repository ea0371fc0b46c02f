"""Alternating dense layers over time and over features, each in a residual block, then a linear map over time.

Chen, Li, Yoder, Arik & Pfister (2023), TSMixer: An all-MLP architecture for time series forecasting. `stacked_blocks` is
the number of mixing blocks and `blocks` the width of their layer over features.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import Tensor, activation_block, dense_block, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = inputs
    for _ in range(config.stacked_blocks):
        x = keras.layers.Add()([x, _over_time(x, config)])
        x = keras.layers.Add()([x, _over_features(x, config, features + config.channels)])
    x = keras.layers.Permute((2, 1))(x[:, :, :features] if config.calendar else x)
    x = keras.layers.Dense(config.heads * config.steps_ahead, name="path")(x)
    x = keras.layers.Reshape((features, config.heads, config.steps_ahead))(x)
    x = keras.layers.Permute((3, 2, 1))(x)
    outputs = keras.layers.Reshape((config.steps_ahead, config.heads * features), name="scaled_forecast")(x)
    return keras.Model(inputs, outputs, name="TSMixer")


def _over_time(x: Tensor, config: ModelConfig) -> Tensor:
    mixed = dense_block(keras.layers.Permute((2, 1))(x), config.sequence_len, config)
    return keras.layers.Permute((2, 1))(mixed)


def _over_features(x: Tensor, config: ModelConfig, features: int) -> Tensor:
    return activation_block(keras.layers.Dense(features)(dense_block(x, config.blocks, config)), config)
