"""A model that looks at the calendar: each window goes to it with the time of its last row, in whatever call it came."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.protobuf.arrays import pack_float64, unpack_float64
from mods_grpc.server.models.versions import VersionState
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, values_pb2
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ALL
from tests.support.loaded_repository import load_repository, pack_vectors, publish_with
from tests.support.models.tiny import HORIZON, LEVELS, ROWS, forecast_mean
from tests.support.rpc.client import Stream, at, detect_request, forecast_request, series, stamp, window
from tests.support.running_server import channel_to, running_server

DAY = 86_400 * 10**9


def clock_graph(kind=TensorProto.INT64):
    """Forecast the mean of the window plus the seconds of the day of its last row."""
    numbers = {"axes": np.array([1]), "day": np.array(DAY), "shape": np.array([-1, 1, 1]), "nanos": np.array(1e9)}
    nodes = [
        helper.make_node("ReduceMean", ["window", "axes"], ["mean"], keepdims=1),
        helper.make_node("Cast", ["time"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mod", ["whole", "day"], ["of_day"]),
        helper.make_node("Cast", ["of_day"], ["floating"], to=TensorProto.DOUBLE),
        helper.make_node("Div", ["floating", "nanos"], ["seconds"]),
        helper.make_node("Reshape", ["seconds", "shape"], ["added"]),
        helper.make_node("Add", ["mean", "added"], ["step"]),
        helper.make_node("Concat", ["step"] * HORIZON, ["forecast"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", ROWS, 2]),
        helper.make_tensor_value_info("time", kind, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", HORIZON, 2])]
    graph = helper.make_graph(nodes, "clock", inputs, outputs, [numpy_helper.from_array(v, n) for n, v in numbers.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def clock_forecast(windows, times):
    return forecast_mean(windows) + (np.asarray(times) % DAY / 1e9)[:, None, None]


def parity(**times):
    random = np.random.default_rng(6)
    windows, given = random.gamma(50.0, 20.0, (9, ROWS, 2)), random.integers(0, 2**60, 9)
    return pack_vectors(window_9=windows, forecast_9=clock_forecast(windows, given), **({"time_9": given} | times))


@pytest.fixture(scope="module")
def inference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    publish_with(folder, "clock", parity=parity(), model=clock_graph())
    with running_server(repository=folder) as server, channel_to(server) as channel:
        yield inference_pb2_grpc.InferenceServiceStub(channel)


def test_a_window_is_forecast_at_the_time_of_its_last_row(inference):
    windows = [window(range(i, i + ROWS), start_time=stamp(i)) for i in range(0, 60, 7)]
    listed = inference.Forecast(forecast_request(*windows)).forecasts.forecasts
    values = np.stack([LEVELS[i : i + ROWS] for i in range(0, 60, 7)])
    expected = clock_forecast(values, [at(i + ROWS - 1) for i in range(0, 60, 7)])
    np.testing.assert_allclose([[step.values for step in forecast.steps] for forecast in listed], expected, rtol=1e-12)
    starts = [at(i) for i in range(0, 60, 7)]
    batch = values_pb2.WindowBatch(start_time_unix_nano=starts, values=pack_float64(values))
    columns = inference.Forecast(pb.ForecastRequest(batch=batch)).batch
    np.testing.assert_allclose(unpack_float64(columns.values, expected.shape), expected, rtol=1e-12)


def test_of_a_longer_window_the_time_of_the_last_row_counts(inference):
    longer = inference.Forecast(forecast_request(window(range(10)))).forecasts.forecasts[0]
    np.testing.assert_allclose(longer.steps[0].values, clock_forecast(LEVELS[None, 6:10], [at(9)])[0, 0], rtol=1e-12)


def test_streams_and_detect_use_the_time_across_gaps_too(inference):
    stream = Stream(inference, sensor="clock", explain=EXPLAIN_ALL)
    rows = [*range(8), 9]  # row 8 is missing and is filled with its forecast
    verdicts = [stream.row(row).verdict for row in rows]
    stream.cut()
    filled = np.vstack([LEVELS[:8], clock_forecast(LEVELS[None, 4:8], [at(7)])[0, :1], LEVELS[9:10]])
    for row, verdict in zip(rows[ROWS:], verdicts[ROWS:], strict=True):
        expected = clock_forecast(filled[None, row - ROWS : row], [at(row - 1)])[0, 0]
        np.testing.assert_allclose([part.expected for part in verdict.features], expected, rtol=1e-12)
    request = detect_request(series(range(12)), explain=EXPLAIN_ALL)
    for row, verdict in enumerate(inference.Detect(request).series[0].verdicts, ROWS):
        expected = clock_forecast(LEVELS[None, row - ROWS : row], [at(row - 1)])[0, 0]
        np.testing.assert_allclose([part.expected for part in verdict.features], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "model", "reason"),
    [
        (parity(time_9=np.zeros(3, np.int64)), clock_graph(), "parity.npz: the times of a batch of 9 are not int64 of (9,)"),
        (parity(time_9=np.zeros(9, np.int64)), clock_graph(), "model.onnx: parity error"),
        (parity(), clock_graph(TensorProto.DOUBLE), "model.onnx: expected input window double"),
    ],
)
def test_a_model_whose_time_is_not_as_it_must_be_is_refused(tmp_path, given, model, reason):
    publish_with(tmp_path, "clock", parity=given, model=model)
    entry = next(load_repository(tmp_path).entries())
    assert entry.state == VersionState.FAILED
    assert entry.failure.startswith(reason)
