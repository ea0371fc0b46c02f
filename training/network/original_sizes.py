"""Parameter counts of the models of the original system (deephdc/mods), to compare sizes.

Each of its networks ends in one sigmoid dense layer that emits one row. Its recurrent layers have 12 units and its dense and
convolutional widths are fixed: its options for blocks, depth and dropout have no effect. The last layer of its stackedLSTM
reads the input again, so it equals its LSTM. The size of its TCNs depends on the version of a library and is not given here.
"""

from itertools import pairwise

from training.network.config import ModelType

UNITS = 12
_AUTOENCODER_WIDTHS = (128, 64, 32, 16, 32, 64, 128)  # of each step by itself
_FILTERS, _TAPS, _POOL = 64, 2, 2
_ATTENTION_UNITS = 32  # additive self-attention, with biases


def count_original_parameters(model_type: ModelType, sequence_len: int, features: int) -> int | None:
    """Count the parameters of the original's model; None if it has no such model or its size is not known.

    Args:
        model_type: Architecture.
        sequence_len: Steps that the network sees.
        features: Features of a row.
    """
    read = _lstm(features, UNITS)
    match model_type:
        case "MLP":
            return _dense(features, features) + _dense(sequence_len * features, features)
        case "autoencoderMLP":
            widths = (features, *_AUTOENCODER_WIDTHS)
            hidden = sum(_dense(width, following) for width, following in pairwise(widths))
            return hidden + _dense(sequence_len * widths[-1], features)
        case "Conv1D":
            pooled = (sequence_len - _TAPS + 1) // _POOL
            return _dense(_TAPS * features, _FILTERS) + _dense(pooled * _FILTERS, features)
        case "GRU":
            return 3 * _dense(features + UNITS, UNITS) + _dense(UNITS, features)  # one bias, as Keras 2 had it
        case "LSTM" | "stackedLSTM":
            return read + _dense(UNITS, features)
        case "bidirectLSTM":
            return 2 * read + _dense(2 * UNITS, features)
        case "seq2seqLSTM":
            return read + _lstm(UNITS, UNITS) + _dense(UNITS, features)
        case "attentionLSTM":
            attention = 2 * 2 * UNITS * _ATTENTION_UNITS + _dense(1, _ATTENTION_UNITS) + 1
            return 2 * read + attention + _dense(sequence_len * 2 * UNITS, features)
        case _:
            return None


def _dense(inputs: int, units: int) -> int:
    return (inputs + 1) * units


def _lstm(inputs: int, units: int) -> int:
    return 4 * _dense(inputs + units, units)
