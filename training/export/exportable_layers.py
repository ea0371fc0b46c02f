"""Exportable forms of Keras layers: same weights, same mathematics, written so that they convert to the wanted ONNX operators.

They are used for the export only; fitting uses Keras' own layers.
"""

from typing import Any

from training.network.backend import keras, tf
from training.network.layers import GroupedDense


class ExportableGRUCell(keras.layers.GRUCell):  # type: ignore[misc]
    """Keras' GRU cell, written as the pattern that the converter recognises as ONNX' GRU operator (reset after, with biases)."""

    biases: tuple[Any, Any]

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """Compute one step from inputs `(batch, features)` and state `(batch, units)`."""
        del training
        (state,) = states
        input_bias, state_bias = self.biases
        x_update, x_reset, x_new = tf.split(tf.nn.bias_add(tf.matmul(inputs, self.kernel), input_bias), 3, axis=-1)
        h_update, h_reset, h_new = tf.split(tf.nn.bias_add(tf.matmul(state, self.recurrent_kernel), state_bias), 3, axis=-1)
        update = tf.sigmoid(x_update + h_update)
        reset = tf.sigmoid(x_reset + h_reset)
        new = tf.tanh(x_new + reset * h_new)
        output = update * state + (1 - update) * new
        return output, [output]


class ExportableGRU(keras.layers.RNN):  # type: ignore[misc]
    """A GRU layer with `ExportableGRUCell`. Biases are read outside the loop, or the converter would not find the pattern."""

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Run the recurrence; see `keras.layers.RNN`."""
        self.cell.biases = tuple(tf.unstack(self.cell.bias))
        return super().inner_loop(sequences, initial_state, mask, training)


@keras.saving.register_keras_serializable("training")
class UnrolledLSTM(keras.layers.LSTM):  # type: ignore[misc]
    """An LSTM layer unrolled over its steps. Up to 256 units its results equal those of ONNX Runtime's operator to the bit.

    The converter would multiply a normalisation that follows into the last step, which changes the order of products. A reshape
    without effect prevents that.
    """

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Run the recurrence; see `keras.layers.RNN`."""
        last, every, states = super().inner_loop(sequences, initial_state, mask, training)
        return tf.reshape(last, (-1, self.units)), every, states


class ExportableConv1D(keras.layers.Conv1D):  # type: ignore[misc]
    """A convolution over time as one matrix product of concatenated, shifted copies of the input.

    ONNX' Conv takes channels first, so each layer would need transpositions around it and another operator for causal padding.
    Here channels stay last: shifted slices are concatenated along the channels and multiplied by all taps together.
    """

    def call(self, inputs: Any) -> Any:
        """Convolve `(batch, time, channels)` to `(batch, time, filters)`."""
        (taps,), (dilation,) = self.kernel_size, self.dilation_rate
        steps, channels = inputs.shape[1], inputs.shape[2]
        reach = (taps - 1) * dilation
        before = reach if self.padding == "causal" else reach // 2
        padded = tf.pad(inputs, [[0, 0], [before, reach - before], [0, 0]]) if reach else inputs
        shifted = [padded[:, tap * dilation : tap * dilation + steps] for tap in range(taps)]
        kernel = tf.reshape(self.kernel, (taps * channels, self.filters))
        joined = shifted[0] if taps == 1 else tf.concat(shifted, axis=-1)
        outputs = tf.nn.bias_add(tf.matmul(tf.reshape(joined, (-1, taps * channels)), kernel), self.bias)
        return tf.reshape(outputs, (-1, steps, self.filters))


class ExportableDense(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer over the last axis as one matrix product of static shape; Keras' layer computes the shape at run time."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Map `(batch, …, features)` to `(batch, …, units)`."""
        if len(inputs.shape) == 2:
            return super().call(inputs, training)
        x = tf.matmul(tf.reshape(inputs, (-1, inputs.shape[-1])), self.kernel)
        x = tf.nn.bias_add(x, self.bias) if self.use_bias else x
        return self.activation(tf.reshape(x, (-1, *inputs.shape[1:-1], self.units)))


class ExportableGroupedDense(GroupedDense):
    """Grouped dense layers as one product of each row by itself, whose bits do not depend on the batch."""

    def call(self, inputs: Any) -> Any:
        """Map every group."""
        x = tf.matmul(tf.reshape(inputs, (-1, self.groups, 1, self.width)), self.kernel)
        return tf.reshape(x, (-1, self.groups * self.units)) + self.bias


def to_exportable(network: Any, *, unroll: bool = False) -> Any:
    """Clone a network with its weights, replacing layers that have an exportable form. `unroll` also unrolls LSTMs."""
    make = _unrolled_layer if unroll else _exportable_layer
    clone = keras.models.clone_model(network, clone_function=make, recursive=True)
    clone.set_weights(network.get_weights())
    return clone


def _exportable_layer(layer: Any) -> Any:
    if type(layer) is keras.layers.GRU and layer.use_bias and layer.reset_after:
        cell = ExportableGRUCell(layer.units, name=layer.cell.name)
        return ExportableGRU(cell, return_sequences=layer.return_sequences, return_state=layer.return_state, name=layer.name)
    if type(layer) is keras.layers.Conv1D and layer.use_bias and layer.strides == (1,) and layer.padding != "valid":
        return ExportableConv1D.from_config(layer.get_config())
    if type(layer) is GroupedDense:
        return ExportableGroupedDense.from_config(layer.get_config())
    if type(layer) is keras.layers.Dense:
        return ExportableDense.from_config(layer.get_config())
    return layer.__class__.from_config(layer.get_config())


def _unrolled_layer(layer: Any) -> Any:
    if type(layer) is keras.layers.LSTM:
        return UnrolledLSTM.from_config({**layer.get_config(), "unroll": True})
    if type(layer) is keras.layers.Bidirectional:
        both = _unrolled_layer(layer.forward_layer), _unrolled_layer(layer.backward_layer)
        return keras.layers.Bidirectional(both[0], layer.merge_mode, backward_layer=both[1], name=layer.name)
    return _exportable_layer(layer)
