"""A model of the hosts of a site: the mean of the last windows, in powers, calibrated on hosts of their own days."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.detection.total_budget.site import NETWORK, Site
from mods_grpc.artifact import publish, read_artifact
from mods_grpc.features import Aggregator, AggregatorOptions, Definition, GroupBy
from training.data.feature import describe_column
from training.data.pool import join_series
from training.data.series import DataReport, make_series
from training.data.time_range import Interval
from training.data.windows import SplitRanges, split_series
from training.export.calibration import calibrate_parts
from training.export.onnx_forecaster import open_graph

NAME = "site"
KEYS = (
    "conn|in_connections",
    "conn|out_connections",
    "conn|out_bytes_sent",
    "conn|out_distinct_hosts",
    "conn|internal_distinct_hosts",
    "dns|out_nxdomain",
    "dns|out_distinct_domains",
)
ROWS, HORIZON, WINDOW, SLIDE = 6, 6, 3_600, 600
EXPORTED = Path(__file__).parents[3] / "exported"


def publish_site_model(repository, *, hosts=60, days=10, seed=2):
    """Publish a model of `hosts` of another site, calibrated on the last seven tenths of `days` without events."""
    features = [describe_column(key.replace("|", "_"), *key.split("|")) for key in KEYS]
    series = _aggregate(Site(hosts, days, seed=seed, events=False), features)
    pool = join_series(series)
    times = next(iter(series.values())).times
    middle, end = times[0] + np.timedelta64(days * 3 // 10, "D"), times[0] + np.timedelta64(days, "D")
    ranges = SplitRanges(train=Interval(start=times[0], end=middle), calibration=Interval(start=middle, end=end))
    parts = split_series(pool, ranges, ROWS, HORIZON)
    graph = _make_graph(len(features))
    forecast = open_graph(graph)
    calibration = calibrate_parts(forecast, pool, parts["train"], parts["calibration"], rows=ROWS)
    training = np.concatenate([pool.values[part] for part in parts["train"]])
    specs = [
        feature.to_spec(float(low), float(high))
        for feature, low, high in zip(features, np.nanmin(training, axis=0), np.nanmax(training, axis=0), strict=True)
    ]
    base = read_artifact(EXPORTED, "campus", 1).manifest
    manifest = replace(
        base,
        name=NAME,
        files=(),
        architecture="mean",
        hyper_parameters={"sequence_len": ROWS},
        parameters=0,
        features=tuple(specs),
        window_seconds=WINDOW,
        slide_seconds=SLIDE,
        sequence_len=ROWS,
        rows=ROWS,
        horizon=HORIZON,
        differencing=False,
        scaler={},
        test_range=None,
        metrics=(),
        calibration=calibration,
    )
    file, parity = io.BytesIO(), {}
    for batch in (1, 3, 9):
        parity[f"window_{batch}"] = np.random.default_rng(batch).gamma(4.0, 5.0, (batch, ROWS, len(features)))
        parity[f"forecast_{batch}"] = forecast(parity[f"window_{batch}"], np.zeros(batch))
    np.savez(file, **parity)
    return publish(repository, manifest, {"model.onnx": graph, "parity.npz": file.getvalue(), "MODEL_CARD.md": b"# A mean\n"})


def _aggregate(site, features):
    """Return the windows of each host, without those of the first hour."""
    options = AggregatorOptions(window_seconds=WINDOW, slide_seconds=SLIDE, group_by=GroupBy.HOST, local_networks=(NETWORK,))
    aggregator, rows, last = Aggregator(Definition.of(KEYS), options), {}, 0
    for record in site.records():
        if record.ts - last > WINDOW * 10**9:
            for row in aggregator.advance(last):
                rows.setdefault(row.series, []).append((row.start_ns, [row.values[key] for key in KEYS]))
            last = record.ts
        aggregator.add(record)
    series = {}
    for name, windows in rows.items():
        times = np.array([start for start, _ in windows]).astype("datetime64[ns]").astype("datetime64[s]")
        values = np.array([values for _, values in windows])
        series[name] = make_series(times, values, features, window_seconds=WINDOW, slide_seconds=SLIDE, report=DataReport())
    return series


def _make_graph(features):
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", ROWS, features])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", HORIZON, features])
    constants = [numpy_helper.from_array(np.array([1], np.int64), "axes"), numpy_helper.from_array(np.array(1.0), "one")]
    nodes = [
        helper.make_node("Add", ["window", "one"], ["above"]),
        helper.make_node("Log", ["above"], ["logs"]),
        helper.make_node("ReduceMean", ["logs", "axes"], ["mean"], keepdims=1),
        helper.make_node("Exp", ["mean"], ["raw"]),
        helper.make_node("Sub", ["raw", "one"], ["step"]),
        helper.make_node("Concat", ["step"] * HORIZON, ["forecast"], axis=1),
    ]
    graph = helper.make_graph(nodes, "mean", [window], [forecast], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
