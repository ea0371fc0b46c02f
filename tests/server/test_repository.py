"""Models that must not serve: refused with a reason, beside good ones that do. And which version answers."""

import io
import json
import logging
import pickle
import zipfile
from dataclasses import replace

import grpc
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from running_server import channel_to, running_server
from talking import Stream, detect_request, failure_of, forecast_request
from tiny_model import HORIZON, ROWS, calibration_of, manifest, mean_forecast, mean_graph, publish_tiny

from mods_grpc.artifact import layout, publish, read_artifact
from mods_grpc.errors import ArtifactError, ModelNotFoundError, ModelUnavailableError, ModelUnusableError
from mods_grpc.server.repository import Repository, State
from mods_grpc.server.session import open_session, relative_error
from mods_grpc.server.status import status_of
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def open_repository(folder, provider="cpu"):
    found = Repository(folder, provider=provider, max_series=100, max_series_per_sensor=100, state_idle_seconds=60)
    found.scan()
    return found


def loaded(folder, provider="cpu"):
    found = open_repository(folder, provider)
    found.load_all()
    return found


def states(repository):
    return {(entry.name, entry.version): entry.state for entry in repository.entries()}


def vectors(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def publish_with(folder, name, parity=None, model=None, **changes):
    contents = {
        "model.onnx": (model or mean_graph()).SerializeToString(),
        "parity.npz": vectors(window_1=np.ones((1, ROWS, 2)), forecast_1=np.ones((1, HORIZON, 2))) if parity is None else parity,
        "MODEL_CARD.md": b"# Card\n",
    }
    return publish(folder, manifest(name, **changes), contents)


def renamed(old, new):
    model = mean_graph()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    return model


def of_opset(number):
    model = mean_graph()
    model.opset_import[0].version = number
    return model


def of_fixed_batch():
    model = mean_graph()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def with_two_inputs():
    model = mean_graph()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.DOUBLE, ["batch"]))
    return model


def with_a_dangling_input():
    model = mean_graph()
    model.graph.node[0].input[0] = "nowhere"
    return model


def damaged(file, change):
    def build(folder, name):
        path = publish_tiny(folder, name) / file
        path.write_bytes(change(path.read_bytes()))

    return build


def tiny(**options):
    return lambda folder, name: publish_tiny(folder, name, **{key: make() for key, make in options.items()})


def odd_vectors(make):
    return lambda folder, name: publish_with(folder, name, parity=make())


class Bomb:
    """Says by existing at all that a pickle was executed."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def pickled_array():
    file = io.BytesIO()
    np.savez(file, window_1=np.array([Bomb()], object), forecast_1=np.ones((1, HORIZON, 2)))
    return file.getvalue()


def a_zip_of(data, name="window_1.npy"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


WINDOW, ANSWER = np.ones((1, ROWS, 2)), np.ones((1, HORIZON, 2))

BROKEN = {
    "flipped": (damaged("model.onnx", lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:]), "model.onnx: size or digest"),
    "truncated": (damaged("model.onnx", lambda data: data[:-9]), "model.onnx: size or digest"),
    "half-manifest": (damaged("manifest.json", lambda data: data[: len(data) // 2]), "manifest: not valid JSON"),
    "garbage-manifest": (damaged("manifest.json", lambda data: b"\0" * 99), "manifest: not valid JSON"),
    "surrogates": (
        damaged("manifest.json", lambda data: data.replace(b'"mean",', b'"\\ud800",', 1)),
        "manifest.architecture: exp",
    ),
    "long-keys": (
        damaged("manifest.json", lambda data: data.replace(b'"seed"', b'"' + b"s" * 10**5 + b'"')),
        "manifest: unknown",
    ),
    "garbage": (lambda folder, name: publish_with(folder, name, model=onnx.ModelProto()), "model.onnx: holds no graph"),
    "nan-weights": (tiny(model=lambda: mean_graph(factor=np.nan)), "model.onnx: forecasts of a batch of 1 have another shape or"),
    "infinite": (tiny(model=lambda: mean_graph(factor=np.inf)), "model.onnx: forecasts of a batch of 1 have another shape or"),
    "wrong-weights": (
        tiny(model=lambda: mean_graph(factor=1.001)),
        "model.onnx: parity error 0.001 at batch 1, accepted is 1e-12",
    ),
    "other-input": (tiny(model=lambda: renamed("window", "input")), "model.onnx: expected input window double (batch, 4, 2)"),
    "other-output": (tiny(model=lambda: renamed("forecast", "y")), "model.onnx: expected output forecast double (batch, 3, 2)"),
    "other-rows": (tiny(model=lambda: mean_graph(rows=5)), "model.onnx: expected input window double (batch, 4, 2)"),
    "other-features": (tiny(model=lambda: mean_graph(features=3)), "model.onnx: expected input window double (batch, 4, 2)"),
    "other-horizon": (tiny(model=lambda: mean_graph(horizon=2)), "model.onnx: expected output forecast double (batch, 3, 2)"),
    "fixed-batch": (tiny(model=of_fixed_batch), "model.onnx: expected input window double (batch, 4, 2)"),
    "two-inputs": (tiny(model=with_two_inputs), "model.onnx: expected input window double (batch, 4, 2)"),
    "dangling": (tiny(model=with_a_dangling_input), "model.onnx: ONNX Runtime can't load it on CPUExecutionProvider"),
    "opset-17": (tiny(model=lambda: of_opset(17)), "model.onnx: uses opset 17, expected 18"),
    "no-tolerance": (tiny(tolerance=dict), "manifest: states no parity tolerance for CPUExecutionProvider"),
    "no-vectors": (odd_vectors(vectors), "parity.npz: holds no vectors"),
    "odd-names": (
        odd_vectors(lambda: vectors(window_x=WINDOW, window_0=WINDOW[:0], window_01=WINDOW)),
        "parity.npz: holds no vectors",
    ),
    "no-answers": (odd_vectors(lambda: vectors(window_1=WINDOW)), "parity.npz: the vectors of a batch of 1 are not float64 of"),
    "float32": (
        odd_vectors(lambda: vectors(window_1=WINDOW.astype("f4"), forecast_1=ANSWER)),
        "parity.npz: the vectors of a batch",
    ),
    "text-vectors": (
        odd_vectors(lambda: vectors(window_1=WINDOW, forecast_1=ANSWER.astype("U"))),
        "parity.npz: the vectors of a ba",
    ),
    "wrong-batch": (
        odd_vectors(lambda: vectors(window_2=WINDOW, forecast_2=ANSWER)),
        "parity.npz: the vectors of a batch of 2 are",
    ),
    "nan-answers": (odd_vectors(lambda: vectors(window_1=WINDOW, forecast_1=ANSWER * np.nan)), "model.onnx: parity error nan"),
    "pickled": (odd_vectors(pickled_array), "parity.npz: can't be read"),
    "bare-pickle": (odd_vectors(lambda: pickle.dumps(Bomb())), "parity.npz: can't be read"),
    "bare-npy": (odd_vectors(lambda: npy(WINDOW)), "parity.npz: can't be read"),
    "half-a-zip": (odd_vectors(lambda: vectors(window_1=WINDOW)[:-30]), "parity.npz: can't be read"),
    "zip-of-rubbish": (odd_vectors(lambda: a_zip_of(b"\x93NUMPY\x01\x00\xff\xff(" + bytes(70_000))), "parity.npz: can't be read"),
    "huge-claim": (
        odd_vectors(lambda: a_zip_of(npy(WINDOW).replace(b"(1, 4, 2), }" + b" " * 16, b"(1, 4, 2000000000000000), }"))),
        "parity.npz: can't be read",
    ),
    "zip-bomb": (odd_vectors(lambda: a_zip_of(bytes(257 * 1024 * 1024))), "parity.npz: holds 269484032 bytes unpacked"),
    "empty-vectors": (odd_vectors(lambda: b""), "parity.npz: can't be read"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A server with every broken model beside a good one."""
    folder = tmp_path_factory.mktemp("broken")
    publish_tiny(folder)
    for name, (build, _) in BROKEN.items():
        build(folder, name)
    logging.disable(logging.CRITICAL)
    try:
        with running_server(repository=folder, provider="cpu") as server, channel_to(server) as channel:
            yield channel
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def listed(broken):
    response = model_pb2_grpc.ModelServiceStub(broken).ListModels(model_pb2.ListModelsRequest(), timeout=10)
    return {model.name: model for model in response.models}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_failed_with_its_reason_and_every_call_on_it_is_told(broken, listed, name):
    assert listed[name].state == model_pb2.MODEL_STATE_FAILED
    assert listed[name].failure.startswith(BROKEN[name][1])
    assert len(listed[name].failure) <= 1000
    assert listed[name].provider == ""
    inference, reference = inference_pb2_grpc.InferenceServiceStub(broken), pb.ModelReference(name=name)
    for call, request in ((inference.Forecast, forecast_request()), (inference.Detect, detect_request())):
        request.model.CopyFrom(reference)
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=10)
        code, reason, details = failure_of(caught.value)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FAILED")
        assert details["PreconditionFailure"].violations[0].type == "MODEL_FAILED"
    stream = Stream(inference, config=False)
    stream.put(config=pb.StreamConfig(model=reference))
    assert stream.failure()[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FAILED")


def test_the_good_model_beside_them_serves(broken, listed):
    assert listed["tiny"].state == model_pb2.MODEL_STATE_READY
    assert listed["tiny"].provider == "CPUExecutionProvider"
    assert set(listed) == {"tiny", *BROKEN}
    inference = inference_pb2_grpc.InferenceServiceStub(broken)
    assert inference.Forecast(forecast_request(model=pb.ModelReference(name="tiny")), timeout=10).model.name == "tiny"


def test_a_pickled_array_is_never_executed(tmp_path):
    publish_with(tmp_path, "tiny", parity=pickled_array())
    found = loaded(tmp_path)
    assert next(found.entries()).failure == "parity.npz: can't be read"
    with pytest.raises(pytest.fail.Exception), np.load(io.BytesIO(pickled_array()), allow_pickle=True) as opened:
        opened["window_1"]  # what a careless reader would have executed


def test_a_model_is_loading_until_it_was_loaded(tmp_path):
    publish_tiny(tmp_path)
    found = open_repository(tmp_path)
    assert not found.ready
    assert states(found) == {("tiny", 1): State.LOADING}
    with pytest.raises(ModelUnavailableError) as caught:
        found.serving("tiny", None)
    status = status_of(caught.value)
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert [detail.type_url.rpartition(".")[2] for detail in status.details] == ["ErrorInfo", "RetryInfo"]
    found.load_all()
    assert found.ready
    assert found.serving("tiny", None).manifest.version == 1


def test_the_newest_ready_version_answers_where_none_is_named(tmp_path):
    for version in (1, 2, 10):
        publish_tiny(tmp_path, version=version)
    (tmp_path / "tiny" / "10" / "model.onnx").write_bytes(b"")
    found = loaded(tmp_path)
    assert [(entry.version, entry.state) for entry in found.entries() if entry.name == "tiny"] == [
        (10, State.FAILED),
        (2, State.READY),
        (1, State.RETIRED),
    ]
    assert found.ready
    assert found.serving("tiny", None).manifest.version == 2
    assert found.serving("", None).manifest.version == 2
    assert found.serving("tiny", 1).manifest.version == 1
    with pytest.raises(ModelUnusableError):
        found.serving("tiny", 10)
    with pytest.raises(ModelNotFoundError):
        found.serving("tiny", 3)


def test_a_model_without_any_ready_version_is_described_by_its_newest(tmp_path):
    for version in (1, 2):
        (publish_tiny(tmp_path, version=version) / "model.onnx").write_bytes(b"")
    found = loaded(tmp_path)
    assert not found.ready
    assert found.find("tiny", None).version == 2


def test_an_empty_repository_is_not_ready(tmp_path):
    found = loaded(tmp_path)
    assert not found.ready
    with pytest.raises(ModelNotFoundError):
        found.serving("tiny", None)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_fails_the_load_and_never_falls_back(tmp_path, provider):
    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    if wanted in ort.get_available_providers():
        pytest.skip(f"{wanted} is really there")
    publish_tiny(tmp_path)
    found = loaded(tmp_path, provider)
    entry = next(found.entries())
    assert (entry.state, entry.failure) == (State.FAILED, f"ONNX Runtime has no {wanted} here")
    assert entry.loaded is None


@pytest.mark.skipif(HAS_CUDA, reason="CUDA is there, so auto may choose it")
def test_auto_takes_the_cpu_where_there_is_nothing_else(tmp_path):
    publish_tiny(tmp_path)
    assert loaded(tmp_path, "auto").serving("tiny", None).session.provider == "CPUExecutionProvider"


def test_the_bytes_that_were_checked_are_the_ones_that_run(tmp_path):
    version = publish_tiny(tmp_path)
    artifact = read_artifact(tmp_path, "tiny", 1)
    (version / "model.onnx").write_bytes(mean_graph(factor=2.0).SerializeToString())
    windows = np.random.default_rng(1).gamma(2, 2, (3, ROWS, 2))
    np.testing.assert_allclose(open_session(artifact, "cpu").forecast(windows), mean_forecast(windows))
    with pytest.raises(ArtifactError):
        read_artifact(tmp_path, "tiny", 1)


def test_an_error_is_relative_to_the_size_of_each_feature():
    expected = np.array([[[100.0, 0.01]], [[-200.0, 0.02]]])
    assert relative_error(np.add(expected, [2.0, 0.0]), expected) == pytest.approx(0.01)
    assert relative_error(np.add(expected, [0.0, 0.002]), expected) == pytest.approx(0.1)


def network(kind, rows=12, features=3, horizon=4, hidden=24):
    """A network of random weights, as training exports them: float64 outside, float32 inside."""
    rng = np.random.default_rng(8)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    def numbers(name, *values):
        return numpy_helper.from_array(np.array(values, np.int64), name)

    node = helper.make_node
    nodes = [node("Cast", ["window"], ["x"], to=TensorProto.FLOAT)]
    if kind == "LSTM":
        weights = [weight("w", 1, 4 * hidden, features), weight("r", 1, 4 * hidden, hidden), weight("b", 1, 8 * hidden)]
        nodes += [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r", "b"], ["", "state"], hidden_size=hidden),
            node("Squeeze", ["state", "first"], ["h"]),
        ]
    else:
        weights = [weight("w", rows * features, hidden)]
        nodes += [node("Reshape", ["x", "flat"], ["f"]), node("MatMul", ["f", "w"], ["m"]), node("Tanh", ["m"], ["h"])]
    weights += [weight("out", hidden, horizon * features), numbers("first", 0), numbers("flat", -1, rows * features)]
    weights += [numbers("shape", -1, horizon, features)]
    nodes += [
        node("MatMul", ["h", "out"], ["y"]),
        node("Reshape", ["y", "shape"], ["z"]),
        node("Cast", ["z"], ["forecast"], to=TensorProto.DOUBLE),
    ]
    values = [
        helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", rows, features]),
        helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", horizon, features]),
    ]
    graph = helper.make_graph(nodes, kind, values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("kind", ["LSTM", "MLP"])
def test_a_forecast_does_not_depend_on_the_rows_beside_it_to_the_last_bit(tmp_path, kind):
    model = network(kind)
    windows = np.random.default_rng(9).normal(0, 1, (65, 12, 3))
    expected = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"window": windows})
    known = manifest()
    shape = calibration_of(3, 4)
    features = tuple(replace(known.features[0], name=f"f{number}") for number in range(3))
    changes = {"sequence_len": 12, "rows": 12, "horizon": 4, "features": features, "calibration": shape}
    parity = vectors(window_65=windows, forecast_65=expected[0])
    publish_with(tmp_path, kind.lower(), parity=parity, model=model, tolerance={"CPUExecutionProvider": 1e-4}, **changes)
    session = loaded(tmp_path).serving("", None).session
    one_by_one = np.concatenate([session.forecast(windows[i : i + 1]) for i in range(len(windows))])
    for n in (2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 64, 65):
        assert np.array_equal(session.forecast(windows[:n]), one_by_one[:n]), n
        assert np.array_equal(session.forecast(windows[-n:]), one_by_one[-n:]), n


def test_the_manifest_that_is_read_names_the_limits_of_files():
    assert set(layout.MAX_BYTES) == {*layout.LISTED_FILES, layout.MANIFEST_FILE, layout.SIGNATURE_FILE}
    assert json.loads(manifest().to_json())["files"] == []
