"""Graphs of models whose rows hold panes: what windows share is exact to the bit, whatever the batch, and never NaN."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from tests.support.training.exported_networks import FEATURES, make_network, make_scaler
from training.export.parity import BATCHES, draw_parity_windows, make_parity_vectors, require_parity
from training.export.raw_function import compile_outputs
from training.export.to_onnx import export_graph
from training.network.config import MODEL_TYPES, ModelConfig
from training.network.scaler import Scaler

PANES = 4
HAS_PANES = np.array([True, False, True])
TIMES = np.arange(257) * 600_000_000_000


def make_pane_scaler(config: ModelConfig) -> Scaler:
    level = {"level_mean": np.full(FEATURES, 2.0), "level_scale": np.full(FEATURES, 1.5)} if config.level else {}
    return replace(make_scaler(config), panes=PANES, has_panes=HAS_PANES, window_scale=config.window_scale, **level)


def draw_panes(config: ModelConfig, scaler: Scaler) -> np.ndarray:
    return np.abs(draw_parity_windows(config, scaler, FEATURES)) + 0.1  # a tenth is no binary number: sums depend on the order


def run_outputs(model: bytes, windows: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {"window": windows, "time": TIMES[: len(windows)]}
    return session.run(None, {node.name: feed[node.name] for node in session.get_inputs()})


def add_in_order(windows: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros(windows.shape[::2])
    for row in range(-count, 0):
        total = total + windows[:, row]
    return total


@pytest.mark.parametrize("transform", ["none", "log1p", "level"])
@pytest.mark.parametrize("horizon", [2, 3, 7])
def test_what_windows_share_and_what_is_fresh_add_up_to_the_bit(transform, horizon):
    config = ModelConfig(model_type="MLP", steps_ahead=horizon, blocks=8, transform=transform)
    network, scaler = make_network(config), make_pane_scaler(config)
    path = network.get_layer("path")
    path.set_weights([np.zeros(weight.shape) for weight in path.get_weights()])
    scaler = replace(scaler, output_mean=np.zeros((horizon, FEATURES)))  # nothing changes
    windows = draw_panes(config, scaler)
    model = export_graph(network, config, scaler, FEATURES)
    (forecast,) = run_outputs(model, windows)
    last = np.where(HAS_PANES, add_in_order(windows, PANES), windows[:, -1])
    for step in range(1, horizon + 1):
        shared = np.where(HAS_PANES & (step < PANES), add_in_order(windows, max(PANES - step, 0)), 0.0)
        share = np.where(HAS_PANES & (step < PANES), step / PANES, 1.0)
        if transform != "log1p":
            np.testing.assert_array_equal(forecast[:, step - 1], shared + last * share)
        else:  # ONNX Runtime's exp and log are not NumPy's
            np.testing.assert_allclose(forecast[:, step - 1], shared + last * share, rtol=1e-12)
    np.testing.assert_array_equal(scaler.overlap.last(windows), last)
    for batch in BATCHES:
        (alone,) = run_outputs(model, windows[:batch])
        np.testing.assert_array_equal(alone, forecast[:batch])


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_architecture_passes_parity_with_panes(model_type):
    config = ModelConfig(model_type=model_type, steps_ahead=6, blocks=8, transform="log1p", level=True)
    check_parity_of(config)


@pytest.mark.parametrize("options", [{}, {"calendar": True, "quantiles": "0.1,0.5,0.9"}, {"level": False, "seeds": 2}])
def test_boosted_passes_parity_with_panes_in_units_of_the_level(options):
    check_parity_of(replace(ModelConfig(model_type="boosted", steps_ahead=6, blocks=8, transform="level", level=True), **options))


@pytest.mark.parametrize("transform", ["none", "log1p", "level"])
@pytest.mark.parametrize(
    "options",
    [
        {"model_delta": False},
        {"window_scale": True},
        {"quantiles": "0.1,0.5,0.9", "level": True},
        {"calendar": True, "linear": True},
        {"quantiles": "0.1,0.5,0.9", "window_scale": True, "calendar": True},
    ],
)
def test_all_options_pass_parity_with_panes(options, transform):
    if transform == "level" and options.get("window_scale"):
        pytest.skip("both scale windows")
    check_parity_of(ModelConfig(model_type="MLP", steps_ahead=6, blocks=8, transform=transform, **options))


def check_parity_of(config: ModelConfig) -> None:
    network, scaler = make_network(config), make_pane_scaler(config)
    model = export_graph(network, config, scaler, FEATURES)
    windows = draw_panes(config, scaler)
    parity = make_parity_vectors(compile_outputs(network, config, scaler, FEATURES), scaler, windows, TIMES)
    assert require_parity(model, parity, "graph") < 5e-6


@pytest.mark.parametrize("transform", ["none", "log1p", "level"])
@pytest.mark.parametrize("delta", [True, False])
def test_a_forecast_is_a_number_for_any_finite_panes(transform, delta):
    config = ModelConfig(
        model_type="MLP", steps_ahead=6, blocks=8, transform=transform, model_delta=delta, quantiles="0.1,0.5,0.9"
    )
    network, scaler = make_network(config), make_pane_scaler(config)
    windows = np.ones((6, config.rows, FEATURES))
    largest = np.finfo(np.float64).max
    windows[0], windows[1], windows[2] = 0.0, largest, -1.0
    windows[3, -2], windows[4, -1], windows[5, -3] = -largest, largest, -5.0
    if transform == "log1p":
        windows[3, :, ~HAS_PANES] = 1.0
    for output in run_outputs(export_graph(network, config, scaler, FEATURES), windows):
        assert not np.isnan(output).any()


def test_targets_are_the_fresh_part_as_a_change_from_its_share_of_the_last_window():
    config = ModelConfig(model_type="MLP", steps_ahead=6, transform="log1p")
    scaler = make_pane_scaler(config)
    panes = np.random.default_rng(1).poisson(20, (9, config.rows + 6, FEATURES)).astype(np.float64)
    windows = panes[:, : config.rows]
    targets = np.stack(
        [np.where(HAS_PANES, panes[:, : config.rows + k][:, -PANES:].sum(1), panes[:, config.rows + k - 1]) for k in range(1, 7)],
        1,
    )
    last = np.where(HAS_PANES, windows[:, -PANES:].sum(1), windows[:, -1])
    seen = scaler.to_network_target(windows, targets) * scaler.output_scale + scaler.output_mean
    for k in range(1, 7):
        fresh = panes[:, config.rows : config.rows + k][:, -PANES:].sum(1)
        expected = np.where(
            HAS_PANES, np.log1p(fresh) - np.log1p(min(k / PANES, 1) * last), np.log1p(targets[:, k - 1]) - np.log1p(last)
        )
        np.testing.assert_allclose(seen[:, k - 1], expected, atol=1e-5)
