"""Servers in processes of their own, on ports of loopback: ours and a bare gRPC echo with the same options."""

import asyncio
import contextlib
import multiprocessing
import os
from pathlib import Path

import grpc

from mods_grpc.server.app import App
from mods_grpc.server.config import TRANSPORTS, ServerConfig
from mods_grpc.server.main import choose_loop_factory, freeze_gc, set_switch_interval
from mods_grpc.server.net.listener import make_channel_options

START_SECONDS = 120
LOCAL = {"address": "127.0.0.1:0", "health_address": "127.0.0.1:0"}


def add_transport(parser):
    parser.add_argument("--transport", choices=TRANSPORTS, default=TRANSPORTS[0], help="what carries the calls of the server")


@contextlib.contextmanager
def mods_server(**options):
    """Run a server; yields its process id, port and health port."""
    with _running(_serve_mods, LOCAL | options) as (pid, ports):
        yield pid, *ports


@contextlib.contextmanager
def echo_server():
    """Run an echo; yields its process id and port. The metadata `answer-bytes` says how long its answers are."""
    with _running(_serve_echo) as server:
        yield server


@contextlib.contextmanager
def _running(target, *arguments):
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=_in_a_loop, args=(target, *arguments, ready))
    process.start()
    try:
        yield process.pid, ready.get(timeout=START_SECONDS)
    finally:
        process.kill()
        process.join()


def _in_a_loop(target, *arguments):
    with asyncio.Runner(loop_factory=choose_loop_factory()) as runner:
        runner.run(target(*arguments))


async def _serve_mods(options, ready):
    set_switch_interval()
    app = App(ServerConfig(**options))
    await app.start()
    freeze_gc()
    ready.put((app.port, app.health_port))
    await asyncio.Event().wait()


async def _serve_echo(ready):
    def size_of(context, otherwise):
        return int(dict(context.invocation_metadata()).get("answer-bytes", otherwise))

    async def unary(data, context):
        return bytes(size_of(context, len(data)))

    async def stream(_, context):
        answer = bytes(size_of(context, 1))
        while await context.read() is not grpc.aio.EOF:
            await context.write(answer)

    server = grpc.aio.server(options=make_channel_options(ServerConfig()), compression=grpc.Compression.NoCompression)
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary), "Stream": grpc.stream_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready.put(port)
    await server.wait_for_termination()


def resident_mib(pid):
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")


def cpu_seconds(pid):
    """Return the processor time a process has taken, of which a busy machine takes nothing away."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
