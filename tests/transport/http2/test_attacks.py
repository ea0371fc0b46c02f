"""Known attacks on real sockets, several peers at a time: a normal client is served meanwhile."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from tests.support.http2 import attackers as http2_attackers
from tests.support.http2 import direct_server
from tests.support.paths import ROOT

CALLS = 200
MAX_CALL_SECONDS = 2.0  # of a call; it takes a millisecond, and the machine may be busy
MAX_MIB = 64  # that an attack may take; the largest message has one
ATTACKERS, SERVER = Path(http2_attackers.__file__), Path(direct_server.__file__)

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def started(script, *arguments):
    """Run a script in its own process; yields the process and its first line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server():
    """A server in its own process, so that the memory an attack takes can be measured."""
    with started(SERVER) as (process, port):
        yield process, int(port)


def peak_mib(process):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


@pytest.mark.parametrize("shape", http2_attackers.ATTACKS)
def test_a_normal_client_is_served_during_the_attack(server, shape):
    process, port = server
    before = peak_mib(process)
    with started(ATTACKERS, str(port), shape) as (attackers, first), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert first == "attacking"
        call = channel.unary_unary("/test.Test/Echo")
        slowest = 0.0
        for number in range(CALLS):
            began = time.monotonic()
            assert call(b"%d" % number, timeout=30) == b"%d" % number
            slowest = max(slowest, time.monotonic() - began)
        held = int(channel.unary_unary("/test.Test/Held")(b"", timeout=30))
        assert attackers.poll() is None
    assert slowest < MAX_CALL_SECONDS
    assert peak_mib(process) - before < MAX_MIB
    assert held <= 8 * direct_server.MAX_BYTES
    assert process.poll() is None
