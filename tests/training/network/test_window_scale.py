"""Windows measured by the size of their own differences: quiet and lively series look alike to one network."""

from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.training.data import make_walk
from training.data.pool import join_series
from training.data.series import per_series
from training.data.windows import make_samples
from training.export.onnx_forecaster import open_graph
from training.export.parity import MAX_PARITY_ERROR, check_parity, make_parity_vectors
from training.export.raw_function import compile_forecaster, compile_outputs
from training.export.to_onnx import export_graph
from training.fitting.fit import fit
from training.network.architectures import build
from training.network.backend import keras
from training.network.config import FitConfig, ModelConfig
from training.network.scaler import Scaler

FEATURES = 2
TIMES = np.zeros(257, np.int64)


def some_windows(config, count=257):
    random = np.random.default_rng(5)
    walks = np.cumsum(random.normal(0, 1, (count, config.rows + config.steps_ahead, FEATURES)), axis=1)
    rows = np.abs(1000.0 + walks * random.uniform(0.1, 100.0, (count, 1, 1)))
    rows[::40] = rows[::40, :1]  # standing still
    return rows[:, : config.rows], rows[:, config.rows :]


@pytest.mark.parametrize(("transform", "quantiles", "level"), [("none", "", False), ("log1p", "0.1,0.5,0.9", True)])
def test_the_graph_measures_windows_as_the_scaler_does(transform, quantiles, level):
    config = ModelConfig(
        model_type="MLP",
        sequence_len=6,
        steps_ahead=3,
        blocks=8,
        window_scale=True,
        transform=transform,
        quantiles=quantiles,
        level=level,
    )
    keras.utils.set_random_seed(1)
    network = build(config, FEATURES)
    windows, targets = some_windows(config)
    scaler = Scaler.fit(windows, targets, transform=transform, differencing=True, level=level, window_scale=True)
    outputs = compile_outputs(network, config, scaler, FEATURES)
    model = export_graph(network, config, scaler, FEATURES)
    assert check_parity(model, make_parity_vectors(outputs, scaler, windows, TIMES)) <= MAX_PARITY_ERROR
    forecast = open_graph(model)(windows, TIMES)
    one_by_one = np.concatenate([open_graph(model)(windows[i : i + 1], TIMES[:1]) for i in range(9)])
    np.testing.assert_allclose(forecast[:9], one_by_one, rtol=1e-6)
    emitted = np.asarray(network(scaler.to_network_input(windows)))
    emitted = emitted[..., config.levels.index(0.5)] if quantiles else emitted
    np.testing.assert_allclose(scaler.to_network_target(windows, forecast), emitted, rtol=1e-3, atol=1e-3)


def test_a_window_a_hundred_times_as_high_is_seen_as_the_same():
    config = ModelConfig(sequence_len=6, steps_ahead=3, window_scale=True)
    windows, targets = some_windows(config)
    scaler = Scaler.fit(windows, targets, transform="none", differencing=True, window_scale=True)
    np.testing.assert_allclose(scaler.to_network_input(100 * windows), scaler.to_network_input(windows), rtol=0.01, atol=0.01)


def test_windows_can_be_measured_by_their_differences_only_where_there_are_some():
    with pytest.raises(DataError, match="use it with model_delta"):
        ModelConfig(model_delta=False, window_scale=True)
    config = ModelConfig(model_type="MLP", window_scale=True)
    ones, path = np.ones(FEATURES), np.ones((1, FEATURES))
    plain = Scaler(transform="none", differencing=True, input_mean=ones, input_scale=ones, output_mean=path, output_scale=path)
    with pytest.raises(DataError, match="fitted with window_scale"):
        export_graph(build(config, FEATURES), config, plain, FEATURES)


@pytest.mark.train
def test_one_network_forecasts_a_quiet_series_as_well_as_a_lively_one():
    """In raw units the loss is that of the lively one alone; measured by their windows, both count."""
    rhythm = 1000.0 + 300.0 * np.sin(2 * np.pi * np.arange(12 * 144) / 24)
    named = {}
    for name, size in (("lively", 1.0), ("quiet", 0.001)):
        noise = np.random.default_rng(len(name)).normal(0, 5, len(rhythm))
        named[name] = replace(make_walk(12, features=1), values=(size * (rhythm + noise))[:, None])
    pool = join_series(named)
    relative = {}
    for window_scale in (False, True):
        config = ModelConfig(model_type="MLP", sequence_len=12, blocks=16, window_scale=window_scale)
        train, validation, test = (
            make_samples(pool, per_series(pool, part), config.rows, 1)
            for part in (slice(0, 1000), slice(1020, 1250), slice(1270, 1728))
        )
        fitted = fit(config, FitConfig(epochs=8, patience=8, batch_size=32, learning_rate=3e-3), train, validation)
        forecast = compile_forecaster(fitted.network, config, fitted.scaler, 1)(test.windows, test.times)
        quiet = test.origins >= pool.members[1].start
        unchanged = np.abs(test.windows[quiet, -1:] - test.targets[quiet]).mean()
        relative[window_scale] = np.abs(forecast[quiet] - test.targets[quiet]).mean() / unchanged
    assert relative[True] < 0.5, relative
    assert relative[True] < 0.7 * relative[False], relative
