"""`stacked_blocks` whole TCNs on top of each other: each starts again at dilation 1 and covers the window.

van den Oord et al. (2016), WaveNet: A generative model for raw audio (repeated stacks of dilations), with the residual
block of Bai, Kolter & Koltun (2018); see `tcn`.
"""

from typing import Any

from training.network.architectures.tcn import CONVOLUTIONS, temporal_convolutions
from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import forecast_output, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = inputs
    for _ in range(config.stacked_blocks):
        x = temporal_convolutions(x, config, convolutions=CONVOLUTIONS)
    return keras.Model(inputs, forecast_output(x[:, -1], config, features), name="stackedTCN")
