import pytest

from training.network.backend import keras
from training.network.config import MODEL_TYPES, ModelConfig
from training.network.original_sizes import count_original_parameters

STEPS, FEATURES = 13, 4


def layout(name):
    layers = keras.layers
    if name == "MLP":
        return [layers.Dense(FEATURES, activation="relu"), layers.Flatten()]
    if name == "autoencoderMLP":
        return [*(layers.Dense(width) for width in (128, 64, 32, 16, 32, 64, 128)), layers.Flatten()]
    if name == "Conv1D":
        return [layers.Conv1D(64, 2), layers.MaxPooling1D(2), layers.Flatten()]
    if name == "GRU":
        return [layers.GRU(12, reset_after=False)]
    if name == "bidirectLSTM":
        return [layers.Bidirectional(layers.LSTM(12))]
    if name == "seq2seqLSTM":
        return [layers.LSTM(12), layers.RepeatVector(STEPS), layers.LSTM(12)]
    return [layers.LSTM(12)]


@pytest.mark.parametrize("name", ["MLP", "autoencoderMLP", "Conv1D", "GRU", "LSTM", "stackedLSTM", "bidirectLSTM", "seq2seqLSTM"])
def test_counts_what_keras_counts_of_the_layout(name):
    network = keras.Sequential([keras.Input((STEPS, FEATURES)), *layout(name), keras.layers.Dense(FEATURES)])
    assert count_original_parameters(name, STEPS, FEATURES) == network.count_params()


def test_attention_adds_two_projections_their_bias_and_a_score_to_a_bidirectional_lstm():
    both = count_original_parameters("bidirectLSTM", STEPS, FEATURES) - (2 * 12 + 1) * FEATURES
    attention = 24 * 32 + 24 * 32 + 32 + 32 + 1
    assert count_original_parameters("attentionLSTM", STEPS, FEATURES) == both + attention + (STEPS * 24 + 1) * FEATURES


def test_only_the_sizes_of_the_two_tcns_of_the_original_are_unknown():
    known_sizes = {name for name in MODEL_TYPES[:11] if count_original_parameters(name, STEPS, FEATURES) is not None}
    assert set(MODEL_TYPES[:11]) - known_sizes == {"TCN", "stackedTCN"}
    assert ModelConfig().model_type in known_sizes
