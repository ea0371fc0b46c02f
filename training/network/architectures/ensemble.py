"""The mean of several networks over the same window, in one graph; each is fitted to the targets by itself.

Dietterich (2000), Ensemble methods in machine learning; Oreshkin et al. (2020) for forecasts. Members share the options of
the ensemble. They are fitted side by side: the loss is the mean of their losses, not that of their mean, so they stay as
different as they are.
"""

from collections.abc import Sequence
from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import window

MEAN = "mean_of_members"


def join(members: Sequence[Any], config: ModelConfig, features: int) -> Any:
    """Build the network that emits the mean of what `members`, complete networks, emit."""
    inputs = window(config, features)
    named = [keras.Model(m.input, m.output, name=f"member_{index}_{m.name}") for index, m in enumerate(members)]
    mean = keras.layers.Average(name=MEAN)([member(inputs) for member in named])
    return keras.Model(inputs, mean, name="ensemble")


def apart(network: Any) -> Any:
    """Return the network that emits the members' paths one after the other along the steps; a single one as it is.

    The weights are the same ones, in the same order.
    """
    if network.name != "ensemble":
        return network
    outputs = keras.layers.Concatenate(axis=1)(network.get_layer(MEAN).input)
    return keras.Model(network.input, outputs, name="members")
