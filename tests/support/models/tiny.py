"""A model whose forecasts can be computed by hand: every step is the mean of the window's rows."""

import io
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.artifact import FeatureSpec, LevelReference, Manifest, TimeRange, publish
from mods_grpc.detection import calibrate

ROWS, HORIZON, SLIDE = 4, 3, 600
FEATURES = ("conn_in", "bytes_in")
LEVELS = np.random.default_rng(5).gamma(50.0, 20.0, (600, len(FEATURES)))


def make_mean_graph(rows=ROWS, horizon=HORIZON, features=2, opset=18, factor=None):
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", rows, features])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", horizon, features])
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    scale = numpy_helper.from_array(np.array(1.0 if factor is None else factor), "factor")
    nodes = [
        helper.make_node("ReduceMean", ["window", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Concat", ["scaled"] * horizon, ["forecast"], axis=1),
    ]
    graph = helper.make_graph(nodes, "mean", [window], [forecast], [axes, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def forecast_mean(windows, times=None):
    return np.repeat(windows.mean(axis=1, keepdims=True), HORIZON, axis=1)


def calibrate_forecaster(forecast, levels=()):
    """Calibrate a forecaster of this shape on LEVELS. `levels` are those of its quantiles."""
    return calibrate(
        forecast,
        np.arange(len(LEVELS)) * SLIDE * 10**9,
        LEVELS,
        training=slice(0, 300),
        calibration=slice(0, len(LEVELS)),
        kinds=["count", "sum"],
        rows=ROWS,
        slide_seconds=SLIDE,
        holdoff_rows=6,
        levels=levels,
    )


CALIBRATION = calibrate_forecaster(forecast_mean)


def make_calibration(features, horizon):
    """Return a calibration for a model of another shape, with meaningless numbers."""
    base = CALIBRATION
    row = (1.0,) * features
    return replace(
        base,
        scales=(row,) * horizon,
        curves=((base.fused,) * features,) * horizon,
        day_scales=(),
        level=LevelReference(centre=row, scale=row),
        level_curves=(base.fused,) * features,
        pattern=None,
        pattern_curves=(),
        nearest=None,
        nearest_curves=(),
        envelope=None,
        revision_curves=(),
        course_curves=(),
    )


def make_manifest(name="tiny", version=1, **changes):
    whole = TimeRange(start="2019-01-01T00:00:00", end="2019-01-05T00:00:00", rows=576)
    base = Manifest(
        schema_version=1,
        name=name,
        version=version,
        created="2019-06-01T00:00:00+00:00",
        files=(),
        architecture="mean",
        hyper_parameters={"sequence_len": ROWS},
        parameters=0,
        features=tuple(
            FeatureSpec(
                name=feature,
                unit="connections" if kind == "count" else "bytes",
                protocol="conn",
                column=feature,
                kind=kind,
                aggregation="count_uid",
                training_minimum=float(LEVELS[:, j].min()),
                training_maximum=float(LEVELS[:, j].max()),
            )
            for j, (feature, kind) in enumerate(zip(FEATURES, ("count", "sum"), strict=True))
        ),
        window_seconds=3600,
        slide_seconds=SLIDE,
        sequence_len=ROWS,
        rows=ROWS,
        horizon=HORIZON,
        differencing=False,
        scaler={},
        training_range=whole,
        validation_range=whole,
        calibration_range=whole,
        test_range=None,
        data_digest="0" * 64,
        seed=1,
        libraries={},
        metrics=(),
        calibration=CALIBRATION,
        false_alarms_per_day=1.0,
        tolerance={"CPUExecutionProvider": 1e-12, "CUDAExecutionProvider": 1e-12},
    )
    return replace(base, **changes)


def make_parity():
    rng = np.random.default_rng(3)
    arrays = {}
    for batch in (1, 3, 9):
        arrays[f"window_{batch}"] = rng.gamma(50.0, 20.0, (batch, ROWS, len(FEATURES)))
        arrays[f"forecast_{batch}"] = forecast_mean(arrays[f"window_{batch}"])
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def publish_tiny(repository, name="tiny", version=1, model=None, batch_model=None, **changes):
    contents = {
        "model.onnx": (model or make_mean_graph()).SerializeToString(),
        "parity.npz": make_parity(),
        "MODEL_CARD.md": b"# The mean of the window\n",
    }
    if batch_model is not None:
        contents["model.batch.onnx"] = batch_model.SerializeToString()
    return publish(repository, make_manifest(name, version, **changes), contents)
