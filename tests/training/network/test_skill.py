"""Every architecture learns a plain seasonal series."""

import numpy as np
import pytest

from training.data.windows import Samples
from training.fitting.fit import fit
from training.network.config import MODEL_TYPES, FitConfig, ModelConfig

FEATURES = 3
HORIZON = 4
RECURRENT = {"LSTM", "GRU", "bidirectLSTM", "seq2seqLSTM", "stackedLSTM", "attentionLSTM", "GRU-FCN"}
FAST = {"MLP", "LSTM"}  # the others are fitted with the slow tests


def seasonal_samples(start, count, rows):
    steps = np.arange(start, start + count + rows + HORIZON)
    angle = 2 * np.pi * (steps[:, None] / 12 + np.array([0.0, 0.2, 0.6]))
    noise = np.random.default_rng(start).normal(0, 0.05, (len(steps), FEATURES))
    series = 50 + 10 * (np.sin(angle) + 0.3 * np.sin(2 * angle) + noise)
    at = np.arange(count)[:, None]
    return series[at + np.arange(rows)], series[at + rows + np.arange(HORIZON)]


@pytest.mark.train
@pytest.mark.parametrize(
    "model_type", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MODEL_TYPES]
)
def test_beats_persistence_on_a_seasonal_series_after_a_short_fit(model_type):
    config = ModelConfig(model_type=model_type, steps_ahead=HORIZON, blocks=16)
    parts = [seasonal_samples(start, count, config.rows) for start, count in ((0, 256), (1000, 64), (2000, 128))]
    train, validation = (
        Samples(
            windows=windows, last=windows[:, -1], targets=targets, origins=np.arange(len(windows)), times=np.arange(len(windows))
        )
        for windows, targets in parts[:2]
    )
    epochs = 3 if config.model_type in RECURRENT else 8
    options = FitConfig(epochs=epochs, patience=epochs, batch_size=16, learning_rate=1e-2)
    fitted = fit(config, options, train, validation)
    windows, targets = parts[2]
    changes = np.asarray(fitted.network(fitted.scaler.to_network_input(windows)))
    forecast = windows[:, -1:] + changes * fitted.scaler.output_scale + fitted.scaler.output_mean
    error = np.abs(forecast - targets).mean((0, 1))
    persistence = np.abs(windows[:, -1:] - targets).mean((0, 1))
    assert (error < 0.5 * persistence).all(), error / persistence
