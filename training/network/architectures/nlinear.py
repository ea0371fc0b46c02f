"""One linear map of the window, with its last value taken off before and put back after, feature by feature.

Zeng, Chen, Zhang & Xu (2023), Are transformers effective for time series forecasting? (NLinear, individual weights for
each feature). Where the network sees differences and forecasts changes, the preprocessing has taken off and puts back the
last value already, and differences say the same as values beside the last one. There is no hidden layer: width, depth,
dropout and normalisation do not apply.
"""

from typing import Any

from training.network.architectures.dlinear import each_feature
from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import calendar_path, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    seen = inputs[:, :, :features] if config.calendar else inputs
    last = seen[:, -1:]
    path = each_feature(seen if config.model_delta else keras.layers.Subtract()([seen, last]), config, features, "path")
    if config.calendar:
        path = keras.layers.Add()([path, calendar_path(inputs, config, features)])
    if config.model_delta:
        return keras.Model(inputs, path, name="NLinear")
    # of the heads only the first is a level, the others are distances from it
    first = keras.layers.Add()([path[:, :, :features], last])
    outputs = first if config.heads == 1 else keras.layers.Concatenate()([first, path[:, :, features:]])
    return keras.Model(inputs, outputs, name="NLinear")
