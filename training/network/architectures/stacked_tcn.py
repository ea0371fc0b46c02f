"""`stacked_blocks` whole TCNs, one on the other: the dilations start anew in each, and each covers the window.

van den Oord et al. (2016), WaveNet: A generative model for raw audio (repeated stacks of dilations), with the residual
block of Bai, Kolter & Koltun (2018); see `tcn`.
"""

from typing import Any

from training.network.architectures.tcn import CONVOLUTIONS, temporal_convolutions
from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import path, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x = inputs
    for _ in range(config.stacked_blocks):
        x = temporal_convolutions(x, config, convolutions=CONVOLUTIONS)
    return keras.Model(inputs, path(x[:, -1], config, features), name="stackedTCN")
