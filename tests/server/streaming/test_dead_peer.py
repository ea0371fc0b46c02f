"""A peer that is gone without a word: nothing comes, and nothing that is sent is taken."""

import asyncio
import socket
import time

import grpc
import pytest

from mods_grpc.v1 import inference_pb2_grpc
from tests.support.cutting_proxy import CuttingProxy
from tests.support.http2.wire import HELLO
from tests.support.models.tiny import publish_tiny
from tests.support.rpc.client import Stream
from tests.support.running_server import running_server

FOUND_WITHIN_SECONDS = 30


@pytest.mark.slow
def test_a_dead_peer_is_found_within_30_seconds(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server:
        proxy = CuttingProxy(server.address)
        try:
            with grpc.insecure_channel(proxy.address) as channel:
                stream = Stream(inference_pb2_grpc.InferenceServiceStub(channel), sensor="cut off")
                stream.row(0)
                proxy.stop_forwarding()
                started = time.monotonic()
                gone = asyncio.run_coroutine_threadsafe(server.app._streams._all_closed.wait(), server._loop)
                gone.result(2 * FOUND_WITHIN_SECONDS)
                assert time.monotonic() - started < FOUND_WITHIN_SECONDS
                stream.cut()
        finally:
            proxy.close()


@pytest.mark.slow
def test_a_dead_peer_without_calls_is_found_within_30_seconds(tmp_path):
    publish_tiny(tmp_path)
    with running_server(repository=tmp_path) as server, socket.create_connection(("127.0.0.1", server.app.port)) as peer:
        peer.settimeout(FOUND_WITHIN_SECONDS)
        peer.sendall(HELLO)  # and nothing else: no PING is acknowledged
        while peer.recv(65_536):
            pass
