"""Attacks as they were recorded in the wild, on real sockets, several peers at a time: a normal client sees nothing of them."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import grpc
import http2_attackers
import pytest
from direct_server import ECHOES, running

CALLS = 200
SLOWEST_SECONDS = 2.0  # of a call; it takes a millisecond, and the machine may be busy
MOST_MIB = 64  # that an attack may take; the largest message has one
ATTACKERS = Path(http2_attackers.__file__)

pytestmark = pytest.mark.slow


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="module")
def server():
    with running(ECHOES) as started:
        yield started


@pytest.mark.parametrize("shape", http2_attackers.ATTACKS)
def test_a_normal_client_is_served_beside_it(server, shape):
    before = peak_mib()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ATTACKERS.parents[1], ATTACKERS.parent)))}
    command = [sys.executable, str(ATTACKERS), str(server.port), shape]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as attackers:
        try:
            assert attackers.stdout.readline() == "attacking\n"
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                call = channel.unary_unary("/test.Test/Echo")
                slowest = 0.0
                for number in range(CALLS):
                    began = time.monotonic()
                    assert call(b"%d" % number, timeout=30) == b"%d" % number
                    slowest = max(slowest, time.monotonic() - began)
            assert attackers.poll() is None
        finally:
            attackers.kill()
    assert slowest < SLOWEST_SECONDS
    assert peak_mib() - before < MOST_MIB
    assert server.server.arriving.total <= 8 * server.server.max_bytes
    assert server.server._unsent.total <= 8 * server.server.max_bytes
