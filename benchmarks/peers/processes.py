"""Start and stop the servers of the comparison, each a process on loopback with the same model."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import grpc

from benchmarks.peers.open_inference import METHOD

HERE = Path(__file__).absolute().parent
START_SECONDS = 120
OURS = ("mods-grpc", "mods-grpc, grpcio", "a bare grpc.aio echo")  # those with the message of `mods-grpc`
TRITON_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 64
input [{{ name: "window" data_type: TYPE_FP64 dims: [{rows}, {features}] }}]
output [{{ name: "forecast" data_type: TYPE_FP64 dims: [{horizon}, {features}] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
{batching}
"""


def find_free_ports(count):
    """Return free loopback ports. The peers don't report which port they chose, so it is chosen for them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


# Each of these returns the command and its environment variables.


def make_mods_grpc_command(task, transport="direct"):
    command = [sys.executable, "-m", "mods_grpc", "serve", task.repository, f"--address=127.0.0.1:{task.port}"]
    options = (f"--transport={transport}", "--health-address=127.0.0.1:0", "--reload-seconds=0", "--log-level=WARNING")
    return [*command, *options], {}


def make_grpcio_command(task):
    return make_mods_grpc_command(task, "grpcio")


def make_echo_command(task):
    (task.folder / "answer").write_bytes(task.answer)
    return [sys.executable, HERE / "echo_server.py", task.port, task.folder / "answer"], {}


def make_mlserver_command(task):
    http, metrics = find_free_ports(2)
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": task.port, "metrics_port": metrics, "parallel_workers": 0}
    model = {"name": task.name, "implementation": "mlserver_runtime.OnnxModel", "parameters": {"uri": str(task.model)}}
    (task.folder / "settings.json").write_text(json.dumps(settings))
    (task.folder / "model-settings.json").write_text(json.dumps(model))
    return [task.python.with_name("mlserver"), "start", task.folder], {"PYTHONPATH": HERE}


def make_kserve_command(task):
    (http,) = find_free_ports(1)
    return [task.python, HERE / "kserve_server.py", task.model, task.name, task.port, http], {}


def make_triton_command(task, batching=""):
    """Run the server binary of the wheel; pytriton's wrapper would add a queue between server and model."""
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(task.python.parent.parent)}))
    server = packages / "pytriton" / "tritonserver"
    backend = task.folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    version = "{}.{}".format(*sys.version_info[:2])
    shutil.copy2(server / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    model = task.folder / "models" / task.name
    (model / "1").mkdir(parents=True)
    shutil.copy2(HERE / "triton_model.py", model / "1" / "model.py")
    shutil.copy2(task.model, model / "model.onnx")
    config = TRITON_CONFIG.format(
        name=task.name,
        rows=task.manifest.rows,
        features=len(task.manifest.features),
        horizon=task.manifest.horizon,
        batching=batching,
    )
    (model / "config.pbtxt").write_text(config)
    libraries = [packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)), "PYTHONPATH": f"{packages}{os.pathsep}{HERE}"}
    flags = {"model-repository": task.folder / "models", "backend-directory": task.folder / "backends", "grpc-port": task.port}
    flags |= {"grpc-address": "127.0.0.1", "allow-http": "false", "allow-metrics": "false"}
    return [server / "bin" / "tritonserver", *(f"--{name}={value}" for name, value in flags.items())], environment


def make_batching_triton_command(task):
    return make_triton_command(task, "dynamic_batching { }")


SERVERS = {
    "mods-grpc": make_mods_grpc_command,
    "mods-grpc, grpcio": make_grpcio_command,
    "a bare grpc.aio echo": make_echo_command,
    "MLServer": make_mlserver_command,
    "KServe": make_kserve_command,
    "Triton": make_triton_command,
    "Triton, dynamic batching": make_batching_triton_command,
}


@contextlib.contextmanager
def run_server(name, task, request):
    """Run a server until the block ends; enters the block after its first answer."""
    command, environment = SERVERS[name](task)
    log = task.folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=file,
            stderr=file,
            cwd=task.folder,
            env={**os.environ, **{key: str(value) for key, value in environment.items()}},
        )
    try:
        _wait_for_answer(process, task.port, get_method(name), request, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def get_method(name):
    return "/mods.v1.InferenceService/Forecast" if name in OURS else METHOD


def call(port, method, request):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary(method)(request, timeout=10)


def _wait_for_answer(process, port, method, request, log):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            return call(port, method, request)
        except grpc.RpcError:
            time.sleep(0.5)  # none of them reports when it is ready
    raise RuntimeError(f"does not answer: {log.read_text()[-3000:]}")
