"""The window split into a moving average and the remainder, each mapped to the forecast linearly, feature by feature.

Zeng, Chen, Zhang & Xu (2023), Are transformers effective for time series forecasting? (DLinear, individual weights for
each feature). There is no hidden layer: width, depth, dropout and normalisation do not apply.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import Tensor, calendar_forecast, window_input

AVERAGED_STEPS = 25


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    seen = inputs[:, :, :features] if config.calendar else inputs
    trend = moving_average(seen, min(AVERAGED_STEPS, config.sequence_len))
    rest = keras.layers.Subtract()([seen, trend])
    parts = [per_feature_dense(trend, config, features, "trend"), per_feature_dense(rest, config, features, "path")]
    outputs = keras.layers.Add()([*parts, calendar_forecast(inputs, config, features)] if config.calendar else parts)
    return keras.Model(inputs, outputs, name="DLinear")


def moving_average(x: Tensor, steps: int) -> Tensor:
    """Average `(batch, time, features)` over `steps` around each step, with the first and last step repeated at the ends."""
    padding_before, padding_after = (steps - 1) // 2, steps // 2
    ends = [x[:, :1]] * padding_before + [x] + [x[:, -1:]] * padding_after
    padded = keras.layers.Concatenate(axis=1)(ends) if len(ends) > 1 else x
    return keras.layers.AveragePooling1D(steps, strides=1, padding="valid")(padded)


def per_feature_dense(x: Tensor, config: ModelConfig, features: int, name: str) -> Tensor:
    """Map `(batch, time, features)` to `(batch, steps_ahead, heads * features)`, each feature by itself."""
    width = config.steps_ahead * config.heads
    forecasts = [keras.layers.Dense(width, name=f"{name}_{feature}")(x[:, :, feature]) for feature in range(features)]
    joined = (
        keras.layers.Concatenate()([keras.layers.Reshape((width, 1))(path) for path in forecasts])
        if features > 1
        else forecasts[0]
    )
    return keras.layers.Reshape((config.steps_ahead, config.heads * features))(joined)
