"""The canary: a child process that loads a version before the server does."""

import contextlib
import os
import subprocess
import threading
import time

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mods_grpc.server.models.canary import NICENESS, Canary, CanaryLimits
from mods_grpc.server.models.loader import Loader
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.models.versions import VersionState
from tests.support.models.tiny import HORIZON, ROWS, make_mean_graph, publish_tiny


def hungry_graph(gibibytes):
    """A mean that first allocates a large array of ones. It uses no forbidden operator."""
    window = helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["batch", ROWS, 2])
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["batch", HORIZON, 2])
    numbers = [
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
        numpy_helper.from_array(np.array(1.0), "one"),
        numpy_helper.from_array(np.array([gibibytes << 27], np.int64), "size"),
    ]
    ones = helper.make_tensor("value", TensorProto.DOUBLE, [1], [1.0])
    nodes = [
        helper.make_node("ReduceMin", ["window"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "nothing"], ["zero"]),
        helper.make_node("Add", ["size", "zero"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["many"], value=ones),
        helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0),
        helper.make_node("ReduceMean", ["window", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "most"], ["scaled"]),
        helper.make_node("Concat", ["scaled"] * HORIZON, ["forecast"], axis=1),
    ]
    numbers.append(numpy_helper.from_array(np.array([0], np.int64), "nothing"))
    graph = helper.make_graph(nodes, "hungry", [window], [forecast], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def load_with_canary(folder, memory_mib=2048, seconds=60.0):
    canary = Canary(CanaryLimits(memory_mib=memory_mib, seconds=seconds, max_batch=4096))
    options = {"max_series": 9, "max_series_per_sensor": 9, "state_idle_seconds": 9}
    repository = Repository(Loader(folder=folder, provider="cpu", canary=canary, **options))
    repository.scan()
    repository.load_all()
    return {entry.version: (entry.state, entry.failure) for entry in repository.entries()}


def test_the_canary_accepts_a_good_model_and_rejects_one_that_allocates_12_gigabytes(tmp_path):
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, version=2, model=hungry_graph(12))
    results = load_with_canary(tmp_path)
    assert results[1] == (VersionState.READY, "")
    assert results[2] == (VersionState.FAILED, "canary: needs more than 2048 MiB of memory")


def test_the_canary_gives_way_to_the_server(tmp_path, monkeypatch):
    children, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: children.append(start(*args, **options)) or children[-1])
    publish_tiny(tmp_path)
    loading = threading.Thread(target=load_with_canary, args=(tmp_path,))
    loading.start()
    niceness = set()
    while loading.is_alive():
        with contextlib.suppress(ProcessLookupError, IndexError):
            niceness.add(os.getpriority(os.PRIO_PROCESS, children[0].pid))
        time.sleep(0.001)
    assert max(niceness) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)


def test_the_canary_rejects_a_model_that_takes_too_long(tmp_path):
    publish_tiny(tmp_path)
    assert load_with_canary(tmp_path, seconds=0.001)[1] == (VersionState.FAILED, "canary: took longer than 0.001 s")


def test_the_canary_reports_why_a_model_is_rejected(tmp_path):
    publish_tiny(tmp_path, model=make_mean_graph(factor=3.0))
    state, failure = load_with_canary(tmp_path)[1]
    assert state is VersionState.FAILED
    assert failure.startswith("model.onnx: parity error")


def test_a_load_that_ends_because_the_server_stops_is_no_failure_of_the_version(tmp_path, caplog):
    publish_tiny(tmp_path)
    canary = Canary(CanaryLimits(memory_mib=2048, seconds=60.0, max_batch=16))
    limits = {"max_series": 9, "max_series_per_sensor": 9, "state_idle_seconds": 9.0}
    loader = Loader(folder=tmp_path, provider="cpu", canary=canary, **limits)
    loader.cancel()
    assert loader.load("tiny", 1).loaded is None
    assert not caplog.records
