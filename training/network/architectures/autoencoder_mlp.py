"""Dense encoder, bottleneck and mirrored decoder, which decodes the future instead of the input.

Hinton & Salakhutdinov (2006), Reducing the dimensionality of data with neural networks. The encoder has `stacked_blocks`
layers, the first of `blocks` units and each next one half of the one before; the bottleneck is half of the last.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import dense, path, window

NARROWEST = 2  # units; below that the code carries next to nothing


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    widths = [max(NARROWEST, config.blocks >> level) for level in range(config.stacked_blocks)]
    bottleneck = max(NARROWEST, config.blocks >> config.stacked_blocks)
    inputs = window(config, features)
    x = keras.layers.Flatten()(inputs)
    for width in (*widths, bottleneck, *reversed(widths)):
        x = dense(x, width, config)
    return keras.Model(inputs, path(x, config, features), name="autoencoderMLP")
