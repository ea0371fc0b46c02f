"""The mean of several networks over the same window, in one graph. Each member is fitted to the targets by itself.

Dietterich (2000), Ensemble methods in machine learning; Oreshkin et al. (2020) for forecasts. Members share the options of
the ensemble. They are fitted together, but the loss is the mean of their losses, not the loss of their mean, so that they
stay different.
"""

from collections.abc import Sequence
from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import window_input

MEAN = "mean_of_members"


def average(members: Sequence[Any], config: ModelConfig, features: int) -> Any:
    """Build the network whose output is the mean of the outputs of `members`, which are complete networks."""
    inputs = window_input(config, features)
    named = [keras.Model(m.input, m.output, name=f"member_{index}_{m.name}") for index, m in enumerate(members)]
    mean = keras.layers.Average(name=MEAN)([member(inputs) for member in named])
    return keras.Model(inputs, mean, name="ensemble")


def members_of(network: Any) -> Any:
    """Return the network that emits the forecasts of an ensemble's members one after the other along the steps.

    It shares the ensemble's weights, in the same order. Any other network is returned as it is.
    """
    if network.name != "ensemble":
        return network
    outputs = keras.layers.Concatenate(axis=1)(network.get_layer(MEAN).input)
    return keras.Model(network.input, outputs, name="members")
