"""Broken models are rejected with a reason, next to good ones that serve."""

import io
import logging
import pickle
import zipfile

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc
from tests.support.loaded_repository import load_repository, pack_vectors, publish_with
from tests.support.models.tiny import HORIZON, ROWS, make_mean_graph, publish_tiny
from tests.support.rpc.client import Stream, detect_request, forecast_request, read_failure
from tests.support.running_server import channel_to, running_server


def renamed(old, new):
    model = make_mean_graph()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    return model


def of_opset(number):
    model = make_mean_graph()
    model.opset_import[0].version = number
    return model


def of_fixed_batch():
    model = make_mean_graph()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def with_two_inputs():
    model = make_mean_graph()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.DOUBLE, ["batch"]))
    return model


def with_a_dangling_input():
    model = make_mean_graph()
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
    """Fails the test when it is unpickled."""

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
    "nan-weights": (
        tiny(model=lambda: make_mean_graph(factor=np.nan)),
        "model.onnx: forecasts of a batch of 1 have another shape or",
    ),
    "infinite": (
        tiny(model=lambda: make_mean_graph(factor=np.inf)),
        "model.onnx: forecasts of a batch of 1 have another shape or",
    ),
    "wrong-weights": (
        tiny(model=lambda: make_mean_graph(factor=1.001)),
        "model.onnx: parity error 0.001 at batch 1, accepted is 1e-12",
    ),
    "other-input": (tiny(model=lambda: renamed("window", "input")), "model.onnx: expected input window double (batch, 4, 2)"),
    "other-output": (tiny(model=lambda: renamed("forecast", "y")), "model.onnx: expected output forecast double (batch, 3, 2)"),
    "other-rows": (tiny(model=lambda: make_mean_graph(rows=5)), "model.onnx: expected input window double (batch, 4, 2)"),
    "other-features": (tiny(model=lambda: make_mean_graph(features=3)), "model.onnx: expected input window double (batch, 4, 2)"),
    "other-horizon": (
        tiny(model=lambda: make_mean_graph(horizon=2)),
        "model.onnx: expected output forecast double (batch, 3, 2)",
    ),
    "fixed-batch": (tiny(model=of_fixed_batch), "model.onnx: expected input window double (batch, 4, 2)"),
    "two-inputs": (tiny(model=with_two_inputs), "model.onnx: expected input window double (batch, 4, 2)"),
    "dangling": (tiny(model=with_a_dangling_input), "model.onnx: ONNX Runtime can't load it on CPUExecutionProvider"),
    "opset-17": (tiny(model=lambda: of_opset(17)), "model.onnx: uses opset 17, expected 18"),
    "no-tolerance": (tiny(tolerance=dict), "manifest: states no parity tolerance for CPUExecutionProvider"),
    "no-vectors": (odd_vectors(pack_vectors), "parity.npz: holds no vectors"),
    "odd-names": (
        odd_vectors(lambda: pack_vectors(window_x=WINDOW, window_0=WINDOW[:0], window_01=WINDOW)),
        "parity.npz: holds no vectors",
    ),
    "no-answers": (
        odd_vectors(lambda: pack_vectors(window_1=WINDOW)),
        "parity.npz: the vectors of a batch of 1 are not float64 of",
    ),
    "float32": (
        odd_vectors(lambda: pack_vectors(window_1=WINDOW.astype("f4"), forecast_1=ANSWER)),
        "parity.npz: the vectors of a batch",
    ),
    "text-vectors": (
        odd_vectors(lambda: pack_vectors(window_1=WINDOW, forecast_1=ANSWER.astype("U"))),
        "parity.npz: the vectors of a ba",
    ),
    "wrong-batch": (
        odd_vectors(lambda: pack_vectors(window_2=WINDOW, forecast_2=ANSWER)),
        "parity.npz: the vectors of a batch of 2 are",
    ),
    "nan-answers": (
        odd_vectors(lambda: pack_vectors(window_1=WINDOW, forecast_1=ANSWER * np.nan)),
        "model.onnx: parity error nan",
    ),
    "pickled": (odd_vectors(pickled_array), "parity.npz: can't be read"),
    "bare-pickle": (odd_vectors(lambda: pickle.dumps(Bomb())), "parity.npz: can't be read"),
    "bare-npy": (odd_vectors(lambda: npy(WINDOW)), "parity.npz: can't be read"),
    "half-a-zip": (odd_vectors(lambda: pack_vectors(window_1=WINDOW)[:-30]), "parity.npz: can't be read"),
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
    """A server with every broken model next to a good one."""
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
def test_a_broken_model_fails_with_its_reason_and_every_call_to_it_reports_that(broken, listed, name):
    assert listed[name].state == model_pb2.MODEL_STATE_FAILED
    assert listed[name].failure.startswith(BROKEN[name][1])
    assert len(listed[name].failure) <= 1000
    assert listed[name].provider == ""
    inference, reference = inference_pb2_grpc.InferenceServiceStub(broken), pb.ModelReference(name=name)
    for call, request in ((inference.Forecast, forecast_request()), (inference.Detect, detect_request())):
        request.model.CopyFrom(reference)
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=10)
        code, reason, details = read_failure(caught.value)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FAILED")
        assert details["PreconditionFailure"].violations[0].type == "MODEL_FAILED"
    stream = Stream(inference, config=False)
    stream.put(config=pb.StreamConfig(model=reference))
    assert stream.failure()[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FAILED")


def test_a_good_model_serves_next_to_broken_ones(broken, listed):
    assert listed["tiny"].state == model_pb2.MODEL_STATE_READY
    assert listed["tiny"].provider == "CPUExecutionProvider"
    assert set(listed) == {"tiny", *BROKEN}
    inference = inference_pb2_grpc.InferenceServiceStub(broken)
    assert inference.Forecast(forecast_request(model=pb.ModelReference(name="tiny")), timeout=10).model.name == "tiny"


def test_a_pickled_array_is_never_executed(tmp_path):
    publish_with(tmp_path, "tiny", parity=pickled_array())
    repository = load_repository(tmp_path)
    assert next(repository.entries()).failure == "parity.npz: can't be read"
    with pytest.raises(pytest.fail.Exception), np.load(io.BytesIO(pickled_array()), allow_pickle=True) as opened:
        opened["window_1"]  # proves that unpickling would have failed the test
