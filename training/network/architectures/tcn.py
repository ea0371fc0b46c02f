"""Temporal convolutional network: dilated causal convolutions of `blocks` filters in residual blocks.

Bai, Kolter & Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks for sequence
modeling. The dilation doubles from block to block until the receptive field covers the window. `stacked_blocks` is the
number of convolutions in a residual block (two in the paper); more of them need fewer blocks. Batch normalisation is an
option where the paper normalises weights.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import Tensor, activation_block, forecast_output, window_input

KERNEL_STEPS = 3
CONVOLUTIONS = 2  # of a residual block, in the paper


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = temporal_convolutions(inputs, config, convolutions=config.stacked_blocks)
    return keras.Model(inputs, forecast_output(x[:, -1], config, features), name="TCN")


def list_dilations(sequence_len: int, convolutions: int) -> list[int]:
    """List the dilations 1, 2, 4, …: one per residual block, as many as the last step needs to see the first."""
    chosen: list[int] = []
    while 1 + convolutions * (KERNEL_STEPS - 1) * sum(chosen) < sequence_len:
        chosen.append(2 ** len(chosen))
    return chosen


def temporal_convolutions(x: Tensor, config: ModelConfig, *, convolutions: int) -> Tensor:
    """Apply a whole TCN: `(batch, time, any)` to `(batch, time, blocks)`. Each step sees itself and the steps before it."""
    for dilation in list_dilations(config.sequence_len, convolutions):
        shortcut = x if x.shape[-1] == config.blocks else keras.layers.Conv1D(config.blocks, 1, padding="causal")(x)
        for _ in range(convolutions):
            x = keras.layers.Conv1D(config.blocks, KERNEL_STEPS, padding="causal", dilation_rate=dilation)(x)
            x = activation_block(x, config, activation="relu")
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, shortcut]))
    return x
