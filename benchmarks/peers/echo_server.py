"""The lower bound for grpcio: a bare grpc.aio server with our channel options that parses nothing and answers fixed bytes.

Usage: python benchmarks/peers/echo_server.py PORT ANSWER_FILE
"""

import asyncio
import sys
from pathlib import Path

import grpc

from mods_grpc.server.config import ServerConfig
from mods_grpc.server.main import choose_loop_factory
from mods_grpc.server.net.listener import make_channel_options


async def serve(port, answer):
    async def unary(data, context):  # noqa: ARG001 - gRPC's signature
        return answer

    server = grpc.aio.server(options=make_channel_options(ServerConfig()), compression=grpc.Compression.NoCompression)
    handlers = {"Forecast": grpc.unary_unary_rpc_method_handler(unary)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("mods.v1.InferenceService", handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=choose_loop_factory()) as runner:
        runner.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
