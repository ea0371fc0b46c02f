"""The mean of several networks over the same window, in one graph. Each member is fitted to the targets by itself.

Dietterich (2000), Ensemble methods in machine learning; Oreshkin et al. (2020) for forecasts. Members share the options of
the ensemble. They are fitted together, but the loss is the mean of their losses, not the loss of their mean, so that they
stay different. A weighted mean has shares of its own for each step and feature, which are chosen after all members are fitted.
"""

from collections.abc import Sequence
from typing import Any

from mods_grpc.array_types import Singles
from training.network.architectures.branches import PATHS
from training.network.backend import keras, tf
from training.network.config import DIRECT_TYPES, ModelConfig
from training.network.layers import window_input

MEAN = "mean_of_members"


@keras.saving.register_keras_serializable("training")
class WeightedMean(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The mean of members' outputs, weighted by step and feature, equally until `set_shares`."""

    def build(self, shapes: Sequence[tuple[int | None, ...]]) -> None:
        """Make the shares `(members, steps, features)`, with another axis if the outputs have one."""
        per_value = (*shapes[0][1:3], *(1 for _ in shapes[0][3:]))
        self.shares = self.add_weight(
            name="shares",
            shape=(len(shapes), *per_value),
            initializer=keras.initializers.Constant(1.0 / len(shapes)),
            trainable=False,
        )

    def set_shares(self, shares: Singles) -> None:
        """Set the shares `(members, steps, features)`."""
        self.shares.assign(shares.reshape(self.shares.shape))

    def call(self, outputs: Sequence[Any]) -> Any:
        """Average the outputs."""
        return tf.add_n([output * self.shares[index] for index, output in enumerate(outputs)])

    def compute_output_shape(self, shapes: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the shape of one output."""
        return shapes[0]


def average(members: Sequence[Any], config: ModelConfig, features: int) -> Any:
    """Build the network whose output is the mean of the outputs of `members`, which are complete networks."""
    inputs = window_input(config, features)
    named = [keras.Model(m.input, m.output, name=f"member_{index}_{m.name}") for index, m in enumerate(members)]
    mean = WeightedMean(name=MEAN) if config.blend == "validation" else keras.layers.Average(name=MEAN)
    # a member that does not see the clock as numbers gets fewer channels
    outputs = mean([member(inputs[:, :, : member.input.shape[2]]) for member in named])
    return keras.Model(inputs, outputs, name="ensemble")


def members_of(network: Any) -> Any:
    """Return the network that emits the forecasts of all that gradient descent fits one after the other along the steps.

    These are the members of an ensemble and the seeds of branches, without ridge and trees. It shares the network's weights; any
    other network is returned as it is, and None if there is nothing to fit by gradient descent.
    """
    if MEAN in {layer.name for layer in network.layers}:
        parts = [(member, members_of(member)) for member in inner_models(network)]
        outputs = [fitted(network.input[:, :, : member.input.shape[2]]) for member, fitted in parts if fitted is not None]
        if not outputs:
            return None
        joined = keras.layers.Concatenate(axis=1)(outputs) if len(outputs) > 1 else outputs[0]
        return keras.Model(network.input, joined, name="members")
    if PATHS in {layer.name for layer in network.layers}:
        return keras.Model(network.input, network.get_layer(PATHS).output, name="members")
    return None if direct_type(network) else network


def inner_models(network: Any) -> list[Any]:
    """Return the members of an ensemble, in order; none of any other network."""
    return [layer for layer in network.layers if isinstance(layer, keras.Model)]


def direct_type(network: Any) -> str | None:
    """Return which of DIRECT_TYPES a network is; None if it is fitted by gradient descent, or an ensemble."""
    return next((name for name in DIRECT_TYPES if network.name == name or network.name.endswith(f"_{name}")), None)


def direct_members(network: Any) -> list[Any]:
    """Return the ridge regressions and the trees that a network is or has as members, in order."""
    if direct_type(network):
        return [network]
    return [each for member in inner_models(network) for each in direct_members(member)]
