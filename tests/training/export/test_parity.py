"""Parity vectors: extreme windows, the units of errors, and that nothing but a wrong graph is refused."""

from dataclasses import replace

import numpy as np
import pytest

from mods_grpc.errors import ArtifactError
from tests.support.training.exported_networks import FEATURES, TIMES, make_case, make_network, make_scaler
from training.export.parity import (
    MAX_PARITY_ERROR,
    check_parity,
    draw_parity_windows,
    extreme_windows,
    make_parity_vectors,
    output_units,
    require_parity,
)
from training.export.raw_function import compile_outputs
from training.export.to_onnx import export_graph
from training.fitting.npz import pack_arrays, unpack_arrays
from training.network.config import ModelConfig
from training.network.scaler import MIN_RELATIVE_SIZE, Scaler


def test_one_window_in_eight_is_extreme():
    windows = np.random.default_rng(0).uniform(1, 2, (257, 13, 3))
    changed = (extreme_windows(windows) != windows).any((1, 2))
    assert 28 <= changed.sum() <= 34
    assert not changed[0]


SCALE = np.array([[0.5, 2.0], [1.0, 4.0]])


def scaler_of(**options):
    """Return a scaler of two features and two steps that leaves values as they are, but for the scale of the output."""
    given = {"transform": "none", "differencing": False, "output_mean": SCALE * 0, "output_scale": SCALE} | options
    return Scaler(input_mean=np.zeros(2), input_scale=np.ones(2), **given)


def test_a_unit_is_the_scale_of_the_output_where_nothing_is_large():
    windows, forecast = np.full((3, 4, 2), 0.5), np.full((3, 2, 2), 0.25)
    np.testing.assert_array_equal(output_units(scaler_of(), windows, forecast), [SCALE] * 3)
    quantiles = np.full((3, 2, 2, 5), -0.25)
    np.testing.assert_array_equal(output_units(scaler_of(), windows, quantiles), np.repeat([[*SCALE[..., None]]] * 3, 5, axis=-1))


def test_a_unit_grows_with_the_root_mean_square_of_what_the_network_sees():
    windows = np.zeros((1, 4, 2))
    windows[0, 3] = 12.0, 16.0
    size = np.sqrt((12.0**2 + 16.0**2) / 8)
    np.testing.assert_allclose(output_units(scaler_of(), windows, np.zeros((1, 2, 2)))[0], SCALE * size)
    absurd = output_units(scaler_of(), windows * 1e20, np.zeros((1, 2, 2)))
    np.testing.assert_allclose(absurd[0], SCALE * 1e6 / 2)  # inputs are clipped at a million


def test_a_unit_grows_with_the_output_of_the_network():
    forecast = np.array([[[10.0, 10.0], [-10.0, 10.0]]])
    np.testing.assert_allclose(output_units(scaler_of(), np.zeros((1, 4, 2)), forecast), np.full((1, 2, 2), 10.0))
    moved = scaler_of(output_mean=np.full((2, 2), 10.0))
    np.testing.assert_allclose(output_units(moved, np.zeros((1, 4, 2)), forecast)[0], [[0.5, 2.0], [20.0, 4.0]])
    levels = output_units(scaler_of(), np.zeros((1, 4, 2)), np.stack([forecast, 2 * forecast], axis=-1))
    np.testing.assert_allclose(levels, np.broadcast_to([10.0, 20.0], (1, 2, 2, 2)))


def test_a_unit_grows_with_the_forecast_where_the_output_is_a_logarithm():
    forecast = np.array([[[0.0, 5.0], [-0.5, 20.0]]])  # less than one unit of the network's output from the mean
    actual = output_units(scaler_of(transform="log1p"), np.zeros((1, 4, 2)), forecast)
    np.testing.assert_allclose(actual, [[[0.5, 2.0 * 6], [1.0, 4.0 * 21]]])
    step = 1e-6  # of the network's output
    shifted = np.expm1(np.log1p(forecast[:, :1]) + step * SCALE[0])
    np.testing.assert_allclose((shifted - forecast[:, :1]) / actual[:, :1], step, rtol=1e-5)


def test_a_unit_is_in_units_of_the_windows_own_differences_if_they_scale_it():
    scaler = scaler_of(differencing=True, window_scale=True)
    windows = np.zeros((1, 5, 2))
    windows[0, :, 0] = [10.0, 13.0, 10.0, 13.0, 10.0]
    actual = output_units(scaler, windows, windows[:, -1:].repeat(2, axis=1))
    sizes = np.array([3.0 + MIN_RELATIVE_SIZE * 11.0, MIN_RELATIVE_SIZE])
    np.testing.assert_allclose(actual[0], SCALE * sizes)


@pytest.mark.parametrize("model_type", ["MLP", "LSTM"])
def test_forecasts_at_zero_are_not_refused_and_others_there_are(model_type):
    config = ModelConfig(model_type=model_type, steps_ahead=4, blocks=8, transform="log1p")
    network, scaler = make_network(config), make_scaler(config)
    windows = np.zeros((257, config.rows, FEATURES))
    outputs = compile_outputs(network, config, scaler, FEATURES)
    level = np.log1p(outputs["forecast"](windows[:1], TIMES[:1])[0])
    scaler = replace(scaler, output_mean=scaler.output_mean - level)
    outputs = compile_outputs(network, config, scaler, FEATURES)
    parity = make_parity_vectors(outputs, scaler, windows, TIMES)
    arrays = unpack_arrays(parity)
    assert np.abs(arrays["forecast_257"]).max() < 1e-6  # rounding is all that is left
    model = export_graph(network, config, scaler, FEATURES)
    assert check_parity(model, parity) <= MAX_PARITY_ERROR
    arrays["forecast_257"][100, 2, 1] += 1e-5 * scaler.output_scale[2, 1]
    with pytest.raises(ArtifactError, match=r"the graph differs from Keras by 1.*e-05 of a unit, more than 5e-06"):
        require_parity(model, pack_arrays(arrays), "graph")


def test_forecasts_that_explode_are_compared_too():
    config = ModelConfig(model_type="MLP", steps_ahead=2, blocks=8, transform="log1p", quantiles="0.1,0.5,0.9")
    network, scaler = make_network(config), replace(make_scaler(config), input_scale=np.full(FEATURES, 0.02))
    windows = draw_parity_windows(config, make_scaler(config), FEATURES)
    parity = make_parity_vectors(compile_outputs(network, config, scaler, FEATURES), scaler, windows, TIMES)
    arrays = unpack_arrays(parity)
    assert arrays["quantiles_257"].max() > 1000 * windows.max()
    model = export_graph(network, config, scaler, FEATURES)
    assert check_parity(model, parity) <= MAX_PARITY_ERROR
    arrays["quantiles_257"] *= 1.01
    assert check_parity(model, pack_arrays(arrays)) > MAX_PARITY_ERROR


def test_units_of_a_case_are_all_above_zero_and_finite():
    case = make_case(ModelConfig(model_type="MLP", steps_ahead=4, blocks=8, transform="log1p", quantiles="0.1,0.5,0.9"))
    units = [array for name, array in unpack_arrays(case.parity).items() if "unit" in name]
    assert len(units) == 6
    assert all(((unit > 0) & np.isfinite(unit)).all() for unit in units)
