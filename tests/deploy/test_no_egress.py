"""The server makes no outgoing connection: system calls are traced while it loads, serves, reloads and drains.

By default ONNX Runtime 1.32 looks up the host of its telemetry about nine seconds after its import, so a shorter test would
prove nothing.
"""

import itertools
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mods_grpc import Client
from mods_grpc.client.rpc.channel import open_channel
from mods_grpc.server.probe import main as probe
from mods_grpc.v1 import inference_pb2_grpc
from tests.support.models.tiny import publish_tiny
from tests.support.rpc.client import Stream, detect_request, forecast_request
from tests.support.running_server import Process

SECONDS = 20.0
CALLS = "connect,sendto,sendmsg,sendmmsg"
# Replies on accepted connections and messages between threads name no address.
ADDRESS = re.compile(r"sa_family=(AF_INET6?|AF_UNIX), (.*?)\}")
LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.)')


@pytest.fixture
def strace(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    return ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-o", str(tmp_path / "calls")]


def list_remote_addresses(folder):
    """Return the addresses beyond loopback in the traced system calls, among them those of name servers."""
    addresses = ADDRESS.finditer((folder / "calls").read_text())
    return sorted({match[0] for match in addresses if not LOOPBACK.search(match[2])})


def test_the_trace_shows_outgoing_datagrams(tmp_path, strace):
    code = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9)); print('sent')"
    subprocess.run([*strace, sys.executable, "-c", code], stderr=subprocess.PIPE, check=True)
    assert len(list_remote_addresses(tmp_path)) == 1


@pytest.mark.slow
def test_nothing_is_sent_out_while_the_server_loads_serves_reloads_and_drains(tmp_path, strace):
    models = tmp_path / "models"
    publish_tiny(models)
    options = ("--address=127.0.0.1:0", "--metrics-address=127.0.0.1:0", "--reload-seconds=0.5", f"--state-file={tmp_path}/state")
    with Process(models, *options, "--health-address=127.0.0.1:0", under=strace) as server:
        port = server.port()
        ends = time.monotonic() + SECONDS
        with open_channel(f"127.0.0.1:{port}", None, connect_seconds=5) as channel:
            inference = inference_pb2_grpc.InferenceServiceStub(channel)
            stream = Stream(inference)
            publish_tiny(models, version=2)
            for row in itertools.takewhile(lambda _: time.monotonic() < ends, itertools.count()):
                inference.Forecast(forecast_request())
                inference.Detect(detect_request())
                stream.row(row, [1000.0, 1000.0])
            stream.end()
        with Client(f"127.0.0.1:{port}") as client:
            assert {model.version: model.state for model in client.models()}[2] == "READY"
        assert probe([f"127.0.0.1:{port}"]) == 0
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0
    assert list_remote_addresses(tmp_path) == []
