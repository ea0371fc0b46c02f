"""Neural architectures, one network per module; a new one needs `build(config, features)` and a line in `ARCHITECTURES`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from training.network.architectures import (
    attention_lstm,
    autoencoder_mlp,
    bidirect_lstm,
    boosted,
    branches,
    conv1d,
    dlinear,
    ensemble,
    gru,
    gru_fcn,
    lstm,
    mlp,
    nlinear,
    ridge,
    seq2seq_lstm,
    stacked_lstm,
    stacked_tcn,
    tcn,
    trees,
    tsmixer,
)
from training.network.config import DIRECT_TYPES, ModelConfig, ModelType
from training.network.heads import add_head

Network = Any
"""A `keras.Model`. Keras ships no types."""

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
    "branches": branches.build,
    "ridge": ridge.build,
    "trees": trees.build,
    "boosted": boosted.build,
}
"""Builders by architecture. Each maps a scaled window `(batch, sequence_len, features + channels)` to the scaled forecast.

The forecast is `(batch, steps_ahead, heads * features)` by a linear output. With quantiles the last axis holds the median of
each feature, then the distances between neighbouring levels; see `heads`.
"""


def build(config: ModelConfig, features: int) -> Network:
    """Build the network of `config.model_type`, with weights drawn from Keras' global seed.

    Args:
        config: Options of the network.
        features: Features of a row, at least 1.

    Returns:
        A `keras.Model` from float32 `(batch, sequence_len, features + channels)` to `(batch, steps_ahead, features)`, both
        scaled; with quantiles to `(batch, steps_ahead, features, levels)`.
    """
    if config.model_type == "ensemble":
        members = [build(replace(config, model_type=member, members=""), features) for member in config.member_types]
        return ensemble.average(members, config, features)
    branches_of_seeds = config.model_type == "branches" and not config.levels
    if config.seeds > 1 and config.model_type not in DIRECT_TYPES and not branches_of_seeds:
        members = [build(replace(config, seeds=1), features) for _ in range(config.seeds)]
        return ensemble.average(members, replace(config, blend="mean"), features)
    if config.model_type in ("ridge", "boosted") or branches_of_seeds:  # which have the linear map inside
        return add_head(ARCHITECTURES[config.model_type](config, features), replace(config, linear=False), features)
    return add_head(ARCHITECTURES[config.model_type](config, features), config, features)


__all__ = ["ARCHITECTURES", "Network", "build"]
