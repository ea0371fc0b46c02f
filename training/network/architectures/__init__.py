"""The architectures: one file each, which holds the network and nothing else.

Each maps a scaled window `(batch, sequence_len, features)` to the scaled path `(batch, steps_ahead, features)` by a linear
output. A new one is a file with `build(config, features)` and a line in `ARCHITECTURES`; the contract test runs over it.
With quantiles the last axis holds `heads` times the features: the median of each, then the distances between levels.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from training.network.architectures import (
    attention_lstm,
    autoencoder_mlp,
    bidirect_lstm,
    conv1d,
    dlinear,
    ensemble,
    gru,
    gru_fcn,
    lstm,
    mlp,
    nlinear,
    seq2seq_lstm,
    stacked_lstm,
    stacked_tcn,
    tcn,
    tsmixer,
)
from training.network.config import ModelConfig, ModelType
from training.network.heads import complete

Network = Any  # keras.Model; Keras ships no types

ARCHITECTURES: Mapping[ModelType, Callable[[ModelConfig, int], Network]] = {
    "MLP": mlp.build,
    "Conv1D": conv1d.build,
    "autoencoderMLP": autoencoder_mlp.build,
    "LSTM": lstm.build,
    "GRU": gru.build,
    "bidirectLSTM": bidirect_lstm.build,
    "seq2seqLSTM": seq2seq_lstm.build,
    "stackedLSTM": stacked_lstm.build,
    "attentionLSTM": attention_lstm.build,
    "TCN": tcn.build,
    "stackedTCN": stacked_tcn.build,
    "DLinear": dlinear.build,
    "NLinear": nlinear.build,
    "TSMixer": tsmixer.build,
    "GRU-FCN": gru_fcn.build,
}


def build(config: ModelConfig, features: int) -> Network:
    """Build the network of `config.model_type`, with weights drawn from Keras' global seed.

    Args:
        config: What the network looks like.
        features: Features of a row, at least 1.

    Returns:
        A `keras.Model` from float32 `(batch, sequence_len, features + channels)` to `(batch, steps_ahead, features)`, both
        scaled; with quantiles to `(batch, steps_ahead, features, levels)`.
    """
    if config.model_type == "ensemble":
        members = [build(replace(config, model_type=member, members=""), features) for member in config.member_types]
        return ensemble.join(members, config, features)
    return complete(ARCHITECTURES[config.model_type](config, features), config, features)


__all__ = ["ARCHITECTURES", "Network", "build"]
