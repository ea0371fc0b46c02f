"""The raw function: what stands around the network, in float64 and bounded."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from mods_grpc.artifact.parity import parity_error
from tests.support.training.exported_networks import FEATURES, TIMES, make_network, make_scaler, run_graph
from training.export.parity import MAX_PARITY_ERROR, draw_parity_windows, output_units
from training.export.raw_function import compile_forecaster
from training.export.to_onnx import export_graph
from training.network.config import ModelConfig


@pytest.mark.parametrize(
    ("transform", "delta"),
    [("log1p", True), ("log1p", False), ("none", False), ("none", True), ("level", True), ("level", False)],
)
def test_the_raw_function_is_the_scaler_around_the_network(transform, delta):
    config = ModelConfig(model_type="MLP", steps_ahead=2, blocks=8, transform=transform, model_delta=delta)
    network, scaler = make_network(config), make_scaler(config)
    windows = np.random.default_rng(1).lognormal(3, 0.5, (9, config.rows, FEATURES))
    z = np.log1p(windows) if transform == "log1p" else windows
    n = np.asarray(network(scaler.to_network_input(windows)), np.float64)
    z_hat = n * scaler.output_scale + scaler.output_mean
    if transform == "level":
        last = windows[:, -1:]
        z_hat = last + z_hat * np.maximum([1, 0, 1] * last, 2.0)
        z_hat = np.maximum(z_hat, [0, -np.inf, 0])
    else:
        z_hat += z[:, -1:] if delta else 0.0
    expected = np.expm1(z_hat) if transform == "log1p" else z_hat
    forecast = compile_forecaster(network, config, scaler, FEATURES)(windows, TIMES[: len(windows)])
    np.testing.assert_allclose(forecast, expected, rtol=1e-6)
    exported = run_graph(export_graph(network, config, scaler, FEATURES), windows)
    assert parity_error(exported, expected, output_units(scaler, windows, expected)) <= MAX_PARITY_ERROR


@pytest.mark.parametrize(("transform", "delta"), [("log1p", True), ("none", True), ("level", True)])
def test_a_network_that_sees_no_change_forecasts_the_last_row_in_float64(transform, delta):
    config = ModelConfig(model_type="MLP", blocks=8, transform=transform, model_delta=delta)
    network, scaler = make_network(config), make_scaler(config)
    path = network.get_layer("path")
    path.set_weights([np.zeros(weight.shape) for weight in path.get_weights()])
    scaler = replace(scaler, output_mean=np.zeros((1, FEATURES)))
    windows = np.random.default_rng(1).lognormal(10, 3, (9, config.rows, FEATURES))
    forecast = run_graph(export_graph(network, config, scaler, FEATURES), windows)
    np.testing.assert_allclose(forecast, windows[:, -1:], rtol=1e-12)


@pytest.mark.parametrize("delta", [True, False])
def test_a_burst_in_a_feature_that_was_constant_in_training_is_not_forecast_beyond_reason(delta):
    config = ModelConfig(model_type="MLP", blocks=8, steps_ahead=2, transform="log1p", model_delta=delta, quantiles="0.1,0.5,0.9")
    network, scaler = make_network(config), make_scaler(config)
    scaler = replace(scaler, input_scale=np.full(FEATURES, 1e-3), highest=np.log1p([0.0, 1.0, 5000.0]))
    windows = np.ones((4, config.rows, FEATURES))
    windows[1, -1], windows[2, -3], windows[3] = 1000.0, 1e6, np.finfo(np.float64).max
    session = onnxruntime.InferenceSession(export_graph(network, config, scaler, FEATURES), providers=["CPUExecutionProvider"])
    forecast, quantiles = session.run(["forecast", "quantiles"], {"window": windows})
    bound = np.array([1e6, 1e6, 5001e3 - 1])  # a thousand times the highest of training, and a million at least
    for output in (forecast, quantiles[..., 0], quantiles[..., -1]):
        assert np.isfinite(output).all()
        assert (output <= bound * (1 + 1e-9)).all()
    assert (quantiles[1:, ..., -1] > 0.999 * bound).any((0, 1)).all()  # it would have been beyond


def test_differences_are_taken_in_float64():
    config = ModelConfig(model_type="MLP", blocks=8)
    network, scaler = make_network(config), make_scaler(config)
    small = draw_parity_windows(config, scaler, FEATURES)[2:3]
    model = export_graph(network, config, scaler, FEATURES)
    change, shifted = run_graph(model, small) - small[:, -1:], run_graph(model, small + 2.0**40) - (small[:, -1:] + 2.0**40)
    np.testing.assert_allclose(shifted, change, atol=0.01)  # float32 would be off by 65,536


def test_in_units_of_the_level_a_series_that_has_doubled_gets_twice_the_forecast():
    config = ModelConfig(model_type="MLP", blocks=8, steps_ahead=2, transform="level")
    network, scaler = make_network(config), replace(make_scaler(config), level_share=np.ones(FEATURES))
    windows = np.random.default_rng(1).lognormal(5, 0.5, (9, config.rows, FEATURES))
    forecast = compile_forecaster(network, config, scaler, FEATURES)
    one, two = forecast(windows, TIMES[:9]), forecast(2.0 * windows, TIMES[:9])
    assert not np.allclose(one, windows[:, -1:], rtol=1e-3)
    np.testing.assert_allclose(two, 2.0 * one, rtol=1e-6)


def test_in_units_of_the_level_no_forecast_of_a_feature_without_negative_values_is_below_0():
    config = ModelConfig(model_type="MLP", blocks=8, steps_ahead=2, transform="level", quantiles="0.1,0.5,0.9")
    network, scaler = make_network(config), make_scaler(config)
    scaler = replace(scaler, output_mean=np.full((2, FEATURES), -50.0))
    windows = np.random.default_rng(1).lognormal(3, 0.5, (9, config.rows, FEATURES))
    forecast = compile_forecaster(network, config, scaler, FEATURES)(windows, TIMES[:9])
    assert (forecast[..., [0, 2]] == 0).all()
    assert (forecast[..., 1] < 0).any()
