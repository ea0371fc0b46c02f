"""Dense encoder, bottleneck and mirrored decoder, which decodes the future instead of the input.

Hinton & Salakhutdinov (2006), Reducing the dimensionality of data with neural networks. The encoder has `stacked_blocks`
layers, the first of `blocks` units and each next of half the units; the bottleneck has half the units of the last.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import dense_block, forecast_output, window_input

MIN_UNITS = 2  # a narrower bottleneck carries next to no information


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    widths = [max(MIN_UNITS, config.blocks >> level) for level in range(config.stacked_blocks)]
    bottleneck = max(MIN_UNITS, config.blocks >> config.stacked_blocks)
    inputs = window_input(config, features)
    x = keras.layers.Flatten()(inputs)
    for width in (*widths, bottleneck, *reversed(widths)):
        x = dense_block(x, width, config)
    return keras.Model(inputs, forecast_output(x, config, features), name="autoencoderMLP")
