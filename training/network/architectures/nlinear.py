"""One linear map of the window, with its last value subtracted before and added after, feature by feature.

Zeng, Chen, Zhang & Xu (2023), Are transformers effective for time series forecasting? (NLinear, individual weights for
each feature). With `model_delta` the preprocessing already works on differences and adds the last value, so the map is
applied alone. There is no hidden layer: width, depth, dropout and normalisation do not apply.
"""

from typing import Any

from training.network.architectures.dlinear import per_feature_dense
from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import calendar_forecast, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    seen = inputs[:, :, :features] if config.calendar else inputs
    last = seen[:, -1:]
    forecast = per_feature_dense(seen if config.model_delta else keras.layers.Subtract()([seen, last]), config, features, "path")
    if config.calendar:
        forecast = keras.layers.Add()([forecast, calendar_forecast(inputs, config, features)])
    if config.model_delta:
        return keras.Model(inputs, forecast, name="NLinear")
    # The last value is added to the first head only: the others are distances from it.
    first = keras.layers.Add()([forecast[:, :, :features], last])
    outputs = first if config.heads == 1 else keras.layers.Concatenate()([first, forecast[:, :, features:]])
    return keras.Model(inputs, outputs, name="NLinear")
