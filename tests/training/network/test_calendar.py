"""Time of day and day of week as an input of every model, computed inside the graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector, Monitor
from mods_grpc.server.onnx.open_session import open_session
from tests.support.training.data import make_walk, write_table
from training.cli.main import main
from training.data.windows import make_samples
from training.export.onnx_forecaster import open_graph
from training.export.parity import MAX_PARITY_ERROR, check_parity, make_parity_vectors
from training.export.raw_function import compile_forecaster, compile_outputs
from training.export.to_onnx import export_graph
from training.fitting.fit import fit
from training.network.architectures import build
from training.network.backend import keras
from training.network.calendar import CALENDAR_TABLE, DAY_MINUTES, MINUTE_NANOS, WEEK_MINUTES, append_calendar
from training.network.config import CALENDAR_CHANNELS, MODEL_TYPES, FitConfig, ModelConfig
from training.network.scaler import Scaler

FEATURES = 2
QUICK = ("MLP", "LSTM", "ridge", "trees", "boosted")
DAY = DAY_MINUTES * MINUTE_NANOS


def a_scaler(config):
    ones, path = np.ones(FEATURES), np.ones((config.steps_ahead, FEATURES))
    return Scaler(
        transform="none", differencing=True, input_mean=0 * ones, input_scale=ones, output_mean=0 * path, output_scale=path
    )


def some_windows(config, count=257):
    random = np.random.default_rng(4)
    return np.cumsum(random.normal(0, 1, (count, config.rows, FEATURES)), axis=1), random.integers(0, 2**60, count)


def test_an_hour_has_its_place_on_the_day_and_on_the_week():
    midnight, week = 3 * 7 * DAY, 7 * DAY
    times = np.array([midnight, midnight + DAY // 4, midnight + DAY // 2, midnight + week, midnight + DAY])
    inputs = append_calendar(np.zeros((5, 3, 1), np.float32), times)
    assert inputs.shape == (5, 3, 1 + CALENDAR_CHANNELS)
    np.testing.assert_array_equal(inputs[:, 0], inputs[:, 2])
    np.testing.assert_allclose(inputs[:3, 0, 1:3], [[0, 1], [1, 0], [0, -1]], atol=1e-6)
    np.testing.assert_array_equal(inputs[0], inputs[3])
    np.testing.assert_array_equal(inputs[0, 0, 1:3], inputs[4, 0, 1:3])
    assert not np.array_equal(inputs[0], inputs[4])


def test_every_minute_of_the_week_is_another_place_on_the_circles():
    assert CALENDAR_TABLE.shape == (WEEK_MINUTES, CALENDAR_CHANNELS)
    assert len(np.unique(CALENDAR_TABLE, axis=0)) == WEEK_MINUTES
    np.testing.assert_allclose((CALENDAR_TABLE**2).sum(axis=1), 2.0, atol=1e-6)


@pytest.mark.parametrize("model_type", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in MODEL_TYPES])
def test_every_model_sees_the_time_and_its_graph_forecasts_what_keras_does(model_type):
    config = ModelConfig(model_type=model_type, sequence_len=8, steps_ahead=3, blocks=32, calendar=True)
    keras.utils.set_random_seed(3)
    network = build(config, FEATURES)
    for layer in network._flatten_layers():
        if layer.name == "calendar":  # it starts at nothing
            layer.set_weights([np.random.default_rng(1).normal(0, 0.1, weight.shape) for weight in layer.get_weights()])
    scaler = a_scaler(config)
    outputs = compile_outputs(network, config, scaler, FEATURES)
    windows, times = some_windows(config)
    model = export_graph(network, config, scaler, FEATURES)
    assert check_parity(model, make_parity_vectors(outputs, scaler, windows, times)) <= MAX_PARITY_ERROR
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [(node.name, node.type, node.shape) for node in session.get_inputs()] == [
        ("window", "tensor(double)", ["batch", 9, FEATURES]),
        ("time", "tensor(int64)", ["batch"]),
    ]
    forecast = open_graph(model)
    noon, night = (forecast(windows, np.full(len(windows), time)) for time in (DAY // 2, 0))
    assert not np.allclose(noon, night, atol=1e-6)
    one_by_one = np.concatenate([forecast(windows[i : i + 1], times[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(forecast(windows, times)[:20], one_by_one, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.train
def test_a_network_with_a_calendar_forecasts_changes_that_only_the_time_predicts():
    """That work begins at eight can't be told from the night before it, but from the clock."""
    series = make_walk(days=80, features=1)
    hours = (series.times - series.times[0]).astype(np.int64)[::6] // 3600 % 24
    noise = np.random.default_rng(1).normal(0, 1, len(hours))
    values = 1000.0 + noise + np.where((hours >= 8) & (hours < 20), 300.0, 0.0)
    series = replace(series, times=series.times[::6], values=values[:, None], slide_seconds=3600)
    parts = (slice(0, 1200), slice(1220, 1500), slice(1520, 1920))
    errors = {}
    for calendar in (False, True):
        config = ModelConfig(model_type="MLP", sequence_len=6, blocks=16, model_delta=False, calendar=calendar)
        train, validation, test = (make_samples(series, (part,), config.rows, 1) for part in parts)
        fitted = fit(config, FitConfig(epochs=12, patience=12, batch_size=32, learning_rate=1e-2), train, validation)
        forecast = compile_forecaster(fitted.network, config, fitted.scaler, 1)(test.windows, test.times)
        rises = test.targets[:, 0, 0] - test.windows[:, -1, 0] > 200
        assert rises.sum() >= 10
        errors[calendar] = np.abs(forecast - test.targets)[rises].mean()
    assert errors[True] < 0.5 * errors[False], errors


@pytest.mark.train
def test_a_model_with_a_calendar_is_exported_and_served_and_its_forecasts_depend_on_the_time(tmp_path: Path) -> None:
    table = str(write_table(tmp_path / "x.csv", make_walk(days=5)))
    data = ["--csv", table, "--time-column", "time", "--features", "x0,x1"]
    ranges = ["--train-time-range", "<2024-01-01,2024-01-05)", "--test-time-range", "<2024-01-05,2024-01-06)"]
    model = ["--model-type", "MLP", "--calendar", "--epochs", "2", "--steps-ahead", "2"]
    assert main(["fit", *data, *ranges, *model, "--run", str(tmp_path / "run")]) == 0
    assert main(["export", "--run", str(tmp_path / "run"), "--repository", str(tmp_path / "models"), "--name", "x"]) == 0
    artifact = read_artifact(tmp_path / "models", "x", 1)
    assert artifact.manifest.hyper_parameters["calendar"] is True
    assert "time of day and day of week" in (tmp_path / "models" / "x" / "1" / "MODEL_CARD.md").read_text()
    session = open_session(artifact, "cpu")
    assert session.uses_time
    assert session.batch_invariant
    windows = np.cumsum(np.random.default_rng(1).normal(size=(5, artifact.manifest.rows, 2)), axis=1) + 1000.0
    times = np.arange(5) * DAY // 4
    np.testing.assert_array_equal(session.forecast(windows, times), open_graph(artifact.model)(windows, times))
    detector = Detector.from_manifest(artifact.manifest)
    expected = []
    for shift in (0, DAY // 2):
        table_of_series = detector.table(artifact.manifest.rows)
        monitor = Monitor(detector, session.forecast, table_of_series, slide_seconds=600, holdoff_rows=6)
        rows = artifact.manifest.rows + 1
        verdicts = monitor.observe(
            np.full(rows, table_of_series.allocate(), np.intp),
            shift + 2000 * DAY + np.arange(rows) * 600 * 10**9,
            np.full((rows, 2), 1000.0),
            reported=np.ones(rows, np.bool_),
            significance=0.01,
            impute_rows=0,
        )
        expected.append(verdicts.expected[-1])
    assert not np.array_equal(*expected)
